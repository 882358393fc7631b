"""The sockets of one link: a DEALER to the upstream's router, one to its relay, a SUB for its logs."""

import contextlib
from collections.abc import Callable
from typing import Any

import zmq

from ..errors import ProtocolError
from ..limits import MESSAGE_BYTES_MAX, PUBLISH_QUEUE_FRAMES
from ..protocol import codec, frames
from ..replication.frames import seal, topic, unseal
from ..replication.link import Link


class SocketWires:
    """Carries out what a link wants. `host` is the relay's process; `link` gives the link, None once it was dropped."""

    def __init__(
        self,
        host: Any,
        address: str,
        link: Callable[[], Link | None],
        on_request: Callable[[str, dict[str, Any], Callable[[str, dict[str, Any]], None]], None],
    ) -> None:
        self._host, self._address, self._link, self._on_request = host, address, link, on_request
        self._router: Any = None
        self._relay: Any = None
        self._log: Any = None
        self._relay_endpoint = self._log_endpoint = ""
        self._next_id = 1

    def _dealer(self, endpoint: str, take: Callable[[list[bytes]], None]) -> Any:
        socket = self._host.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.maxmsgsize = 2 * MESSAGE_BYTES_MAX
        socket.reconnect_ivl, socket.reconnect_ivl_max = 50, 500
        self._host.security.client(socket, endpoint)
        socket.connect(endpoint)
        self._host.selector.add(socket, take)
        return socket

    def open(self, relay: str, log: str) -> None:
        """Connect to the upstream's relay, where its router said that it is."""
        if self._router is not None:
            self._host.unwatch(self._router)
            self._router = None
        self._relay, self._relay_endpoint = self._dealer(relay, self._on_sealed), relay
        self._log_endpoint = log

    def reconnect(self) -> None:
        self._host.unwatch(self._relay)
        self._relay = self._dealer(self._relay_endpoint, self._on_sealed)

    def subscribe(self, shards: int) -> None:
        if self._log is not None:
            self._host.unwatch(self._log)
        self._log = self._host.context.socket(zmq.SUB)
        self._log.linger = 0
        self._log.rcvhwm = PUBLISH_QUEUE_FRAMES
        self._log.maxmsgsize = 2 * MESSAGE_BYTES_MAX
        self._log.reconnect_ivl, self._log.reconnect_ivl_max = 50, 500
        self._host.security.client(self._log, self._log_endpoint)
        self._log.connect(self._log_endpoint)
        self._host.selector.add(self._log, self._on_log)
        for shard in range(shards):
            self._log.subscribe(topic(shard))

    def close(self) -> None:
        for socket in (self._router, self._relay, self._log):
            if socket is not None:
                self._host.unwatch(socket)
        self._router = self._relay = self._log = None

    def ask_router(self, call: str, arguments: dict[str, Any]) -> int:
        if self._router is None:
            self._router = self._dealer(self._address, self._on_reply)
        return self._send(self._router, self._call(call, arguments))

    def ask(self, call: str, arguments: dict[str, Any]) -> int:
        return self._send(self._relay, seal(self._call(call, arguments)))

    def _call(self, call: str, arguments: dict[str, Any]) -> list[bytes]:
        self._next_id += 1
        return [frames.pack_header(flags=frames.CONTROL, request_id=self._next_id), codec.encode_control(call, arguments)]

    def _send(self, socket: Any, message: list[bytes]) -> int:
        # A full queue is like a lost message: what needs an answer is asked again.
        with contextlib.suppress(zmq.Again):
            socket.send_multipart(message, zmq.NOBLOCK)
            self._host.selector.used(socket)
        return self._next_id

    def _on_sealed(self, message: list[bytes]) -> None:
        if (inner := unseal(message)) is not None:
            self._on_reply(inner)
        elif (link := self._link()) is not None:
            link.damaged()

    def _on_reply(self, message: list[bytes]) -> None:
        link = self._link()
        if link is None or len(message) < 2:
            return
        try:
            header = frames.unpack_header(message[-2])
            if header.flags & frames.CONTROL:
                call, arguments = codec.decode_control(message[-1])
                endpoint = self._relay_endpoint
                return self._on_request(call, arguments, lambda call, fields: self._late(endpoint, call, fields))
        except ProtocolError:
            return
        link.answer(header.request_id, read_reply(message))

    def _late(self, endpoint: str, call: str, fields: dict[str, Any]) -> None:
        """Answer over a connection of its own: the change of roles has just closed the link's."""
        socket = self._host.context.socket(zmq.DEALER)
        socket.linger = 2000
        self._host.security.client(socket, endpoint)
        socket.connect(endpoint)
        socket.send_multipart(seal([frames.pack_header(flags=frames.CONTROL, request_id=1), codec.encode_control(call, fields)]))
        socket.close()

    def _on_log(self, message: list[bytes]) -> None:
        link = self._link()
        if link is not None:
            link.log(message)


def read_reply(message: list[bytes]) -> Any:
    """The result of a control call, or the error that it ended with."""
    try:
        head = frames.unpack_header(message[-2])
        if head.flags & frames.ERROR:
            return codec.decode_error(message[-1])
        return codec.decode_results(message[-1])[0]
    except (ProtocolError, IndexError) as error:
        return ProtocolError(f"not a reply: {error}")
