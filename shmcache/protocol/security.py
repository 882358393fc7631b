"""CURVE for a process that serves: its keys, its authenticator, and which of its sockets use them."""

import os
from collections.abc import Iterable
from typing import Any

import zmq

from ..errors import ConfigError
from . import curve
from .allowed import AllowList


def _how(endpoint: str, mode: str) -> str:
    why = "curve is on" if mode == "on" else f"{endpoint} is not loopback, so others can reach it"
    return (
        f"{why}: make a key pair with `shmcache keys generate server`, give it by --server-key server.key "
        "and the public keys of those who may connect by --authorized FOLDER, or turn encryption off with "
        "--curve off"
    )


class Security:
    """One for each process and its ZeroMQ context.

    Call `server(socket, endpoint)` before `bind` and `client(socket, endpoint)` before `connect`. A socket
    is secured or plain as a whole: endpoints of both kinds need two sockets (`needs_curve` tells).
    """

    def __init__(
        self, mode: str, server_key: str = "", authorized: str = "", peer_keys: str = "", log: Any = None
    ) -> None:
        """Reads nothing yet: an instance that only listens on loopback needs no keys."""
        self._mode, self._server_key, self._authorized, self._peer_keys = (
            mode,
            server_key,
            authorized,
            peer_keys,
        )
        self._log = log
        self._keys: curve.KeyPair | None = None
        self._allowed: AllowList | None = None
        self._authenticator: Any = None
        self._context: Any = None

    @classmethod
    def from_settings(cls, settings: dict[str, Any], log: Any = None) -> "Security":
        """Of a child process' settings: what `security_settings` made of the configuration."""
        return cls(**settings["security"], log=log)

    def needs_curve(self, endpoint: str) -> bool:
        """Whether a socket at this endpoint is a secured one."""
        return curve.needs_curve(self._mode, endpoint)

    def check(self, listen: Iterable[str], connect: Iterable[str] = ()) -> None:
        """Read all that these endpoints need, once, before anything starts. Raises ConfigError."""
        for endpoint in listen:
            if self.needs_curve(endpoint):
                self._own_keys(endpoint)
                self._allow_list(endpoint)
        for endpoint in connect:
            if self.needs_curve(endpoint):
                self._own_keys(endpoint)
                self._peer(endpoint)

    def server(self, socket: "zmq.Socket[bytes]", endpoint: str) -> bool:
        """Prepare a socket for `bind(endpoint)`; returns whether it is secured. Raises ConfigError."""
        if not self.needs_curve(endpoint):
            return False
        keys, allowed = self._own_keys(endpoint), self._allow_list(endpoint)
        if self._authenticator is None:
            from zmq.auth.thread import ThreadAuthenticator

            # A thread that sleeps but for handshakes. One context has one authenticator.
            self._context = socket.context
            self._authenticator = ThreadAuthenticator(socket.context)
            self._authenticator.configure_curve_callback(curve.ZAP_DOMAIN, allowed)
            self._authenticator.start()
        assert self._context is socket.context, "all secured sockets of a process are of one context"
        curve.secure_server(socket, keys)
        return True

    def client(self, socket: "zmq.Socket[bytes]", endpoint: str) -> bool:
        """Prepare a socket for `connect(endpoint)` to a peer; returns whether it is secured.

        Raises ConfigError.
        """
        if not self.needs_curve(endpoint):
            return False
        curve.secure_client(socket, self._own_keys(endpoint), self._peer(endpoint))
        return True

    @property
    def denied(self) -> int:
        """Connections refused because their key is not on the list."""
        return self._allowed.denied if self._allowed is not None else 0

    def close(self) -> None:
        """End the authenticator, without which the context does not end."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None

    def _own_keys(self, endpoint: str) -> curve.KeyPair:
        if not self._server_key:
            raise ConfigError(f"server_key: {_how(endpoint, self._mode)}")
        if self._keys is None:
            self._keys = curve.load_keypair(self._server_key)
        return self._keys

    def _allow_list(self, endpoint: str) -> AllowList:
        if not self._authorized:
            raise ConfigError(f"authorized: {_how(endpoint, self._mode)}")
        if self._allowed is None:
            self._allowed = AllowList(self._authorized, self._log)
        return self._allowed

    def _peer(self, endpoint: str) -> bytes:
        key = curve.peer_key(curve.load_peers(self._peer_keys), endpoint)
        if key is None:
            raise ConfigError(
                f"peer_keys: no public key for {endpoint}: give the peer's key, or a folder or file with "
                f"keys named by host ({curve.host_of(endpoint)}), or turn encryption off with --curve off"
            )
        return key


def security_settings(config: Any) -> dict[str, str]:
    """The group [security] of a configuration as children get it, paths made absolute."""
    group = config.security
    peers = group.peer_keys
    return {
        "mode": group.curve,
        "server_key": group.server_key and os.path.abspath(group.server_key),
        "authorized": group.authorized and os.path.abspath(group.authorized),
        "peer_keys": os.path.abspath(peers) if peers and os.path.exists(peers) else peers,
    }
