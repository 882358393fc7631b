"""Where the hub listens: one pair of sockets (control, messages) for this host, another for all others.

Two pairs, because CURVE is a property of a whole ZeroMQ socket and unix sockets stay plain; and because of the
way that a request came by depends what it may ask for.
"""

from typing import Any, Final

import zmq

from ...protocol.security import Security
from ..paths import remove_socket
from ..sockets import ConnectionCounter, keep_alive, limit_router, listen
from .table import TOPIC_BYTES_MAX

BATCH_BYTES: Final = 1 << 20
"""What a request may be larger than a message: a batch of small ones."""
SUBSCRIBED: Final = 1
Socket = zmq.Socket[bytes]


class Side:
    """A ROUTER for requests and an XPUB for messages. `local`: by unix sockets, so file permissions guard it."""

    def __init__(
        self, context: "zmq.Context[Socket]", settings: dict[str, Any], endpoints: list[str], security: Security
    ) -> None:
        self._settings, self._endpoints, self._security = settings, endpoints, security
        self.local = endpoints[0].startswith("ipc://")
        self.control = context.socket(zmq.ROUTER)
        limit_router(self.control, settings["message_bytes"] + BATCH_BYTES)
        self.control.router_handover = 1
        self.out = context.socket(zmq.XPUB)
        limit_router(self.out, TOPIC_BYTES_MAX + 64)
        self.out.sndhwm = settings["queue_messages"]
        # Every subscription is heard of, not only the first of its topic: they are counted.
        self.out.setsockopt(zmq.XPUB_VERBOSER, 1)
        for socket in (self.control, self.out):
            keep_alive(socket)
        self.connections = ConnectionCounter(self.out)
        self.subscriptions = 0
        """Probes and refused ones included: without any, nothing needs to be sent here."""

    def bind(self) -> list[str]:
        """Listen; returns the endpoints with the ports in force. Raises zmq.ZMQError, ConfigError."""
        return [
            self._bind(socket, endpoint)
            for socket, endpoint in zip((self.control, self.out), self._endpoints, strict=True)
        ]

    def _bind(self, socket: Socket, endpoint: str) -> str:
        self._security.server(socket, endpoint)
        return listen(socket, endpoint, self._settings["gid"])

    def subscription(self) -> tuple[bool, bytes] | None:
        """The next change of what somebody is subscribed to; None for a message that is none. Raises zmq.Again."""
        message = self.out.recv(zmq.NOBLOCK)
        if not message or message[0] > SUBSCRIBED:
            return None
        added = message[0] == SUBSCRIBED
        self.subscriptions += 1 if added else -1
        return added, message[1:]

    def close(self) -> None:
        """Send what is on its way, bounded by a second, and stop listening."""
        self.connections.close()
        for socket in (self.control, self.out):
            socket.close(linger=1000)
        if self.local:
            for endpoint in self._endpoints:
                remove_socket(endpoint)
