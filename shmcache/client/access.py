"""With what keys a client connects to a router: from arguments, the URL, the environment, in that order."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .url import OPTIONS

if TYPE_CHECKING:
    import zmq

    from ..protocol.curve import KeyPair


@dataclass(frozen=True, slots=True)
class Access:
    """The client's own keys and the server's public one."""

    keys: "KeyPair"
    server_key: bytes

    def secure(self, socket: "zmq.Socket[bytes]") -> None:
        """To be done before `connect`."""
        from ..protocol.curve import secure_client

        secure_client(socket, self.keys, self.server_key)


def find_access(
    endpoint: str,
    url_options: Mapping[str, str],
    given: Mapping[str, str | None],
    environ: Mapping[str, str] = os.environ,
) -> Access | None:
    """None: a plain connection. Raises ConfigError: keys are missing or unusable.

    A server key means CURVE. Without one an address that is not loopback is refused, unless `curve` is off.
    """
    # Here, because clients on the host need nothing of it.
    from ..protocol.curve import is_loopback, load_keypair, public_key

    found = {
        name: given.get(name) or url_options.get(name) or environ.get(f"SHMCACHE_{name.upper()}") or ""
        for name in OPTIONS
    }
    curve = found["curve"] or "auto"
    if curve not in ("auto", "on", "off"):
        raise ConfigError(f"curve is auto, on or off, not {curve!r}")
    if curve == "off" or (curve == "auto" and not found["server_key"] and is_loopback(endpoint)):
        return None
    if not found["server_key"]:
        raise ConfigError(
            f"{endpoint} needs CURVE keys: give server_key (the server's public key) and client_key (the "
            "file of a key pair: `shmcache keys generate NAME`), or turn encryption off with curve=off"
        )
    if not found["client_key"]:
        raise ConfigError(
            f"{endpoint}: server_key without client_key, the file of this client's own key pair "
            "(`shmcache keys generate NAME`)"
        )
    return Access(load_keypair(found["client_key"]), public_key(found["server_key"]))
