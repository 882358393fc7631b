"""The router's sockets towards clients: a plain one, and one with CURVE for the addresses that need it.

CURVE is a property of a whole ZeroMQ socket, and unix sockets stay plain: so there are two as soon as one
address is secured. Their client identities may be the same, hence each client's gets the front's mark.
"""

from collections.abc import Callable
from typing import Any

import zmq

from ..protocol.security import Security
from .paths import remove_socket
from .sockets import ConnectionCounter, keep_alive, limit_router, listen

Message = list[bytes]
PLAIN, SECURED = b"p", b"s"


class Front:
    """One ROUTER socket."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", message_bytes: int, mark: bytes) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.mark = mark
        limit_router(self.socket, message_bytes)
        keep_alive(self.socket)
        # A host that restarts its client within the same port must not be locked out by the dead
        # connection's identity.
        self.socket.router_handover = 1
        self.connections = ConnectionCounter(self.socket)

    def bind(self, endpoint: str, gid: int) -> str:
        """Listen; returns the endpoint with the port in force. Raises zmq.ZMQError."""
        return listen(self.socket, endpoint, gid)


class Fronts:
    """All of them, as one."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", settings: dict[str, Any], security: Security
    ) -> None:
        self._context, self._settings, self._security = context, settings, security
        self._fronts: dict[bytes, Front] = {}

    def bind(self) -> list[str]:
        """Listen; returns the endpoints with the ports in force. Raises zmq.ZMQError, ConfigError."""
        return [
            self._front(endpoint).bind(endpoint, self._settings["gid"])
            for endpoint in self._settings["listen"]
        ]

    def _front(self, endpoint: str) -> Front:
        mark = SECURED if self._security.needs_curve(endpoint) else PLAIN
        front = self._fronts.get(mark)
        if front is None:
            front = self._fronts[mark] = Front(self._context, self._settings["message_bytes"], mark)
            self._security.server(front.socket, endpoint)
        return front

    def takers(self, take: Callable[[Message], None]) -> "dict[zmq.Socket[bytes], Callable[[Message], None]]":
        """For each socket what is to be done with its messages, so that `take` gets them marked."""

        def marking(mark: bytes) -> Callable[[Message], None]:
            def marked(message: Message) -> None:
                message[0] += mark
                take(message)

            return marked

        return {front.socket: marking(mark) for mark, front in self._fronts.items()}

    def send(self, message: Message) -> None:
        """Send a reply through the front that its request came by. Raises zmq.ZMQError."""
        marked = message[0]
        message[0] = marked[:-1]
        self._fronts[marked[-1:]].socket.send_multipart(message, zmq.NOBLOCK)

    def update(self) -> None:
        """Take note of connections that came and went."""
        for front in self._fronts.values():
            front.connections.update()

    def figures(self) -> dict[str, int]:
        """Connections for the statistics."""
        counters = [front.connections for front in self._fronts.values()]
        return {
            "clients": sum(counter.count for counter in counters),
            "denied": self._security.denied,
            "handshakes_failed": sum(counter.failed for counter in counters),
        }

    def close(self) -> None:
        """Send what is on its way, bounded by a second, and stop listening."""
        for front in self._fronts.values():
            front.connections.close()
            front.socket.close(linger=1000)
        self._security.close()
        for endpoint in self._settings["listen"]:
            if endpoint.startswith("ipc://"):
                remove_socket(endpoint)
