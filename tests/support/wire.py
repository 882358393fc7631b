"""Plain pyzmq against a server: what no client of ours would send."""

import contextlib
from collections.abc import Iterator
from typing import Any

import zmq

from shmcache.protocol import codec, frames


class Wire:
    """A DEALER socket that speaks frames."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self.socket = socket
        self._request_id = 0

    def send(self, *commands: Any, **header: int) -> int:
        """Send one batch; returns its request id."""
        self._request_id += 1
        head = frames.pack_header(request_id=self._request_id, **header)
        self.socket.send_multipart([head, codec.encode_commands(commands)])
        return self._request_id

    def receive(self) -> tuple[frames.Header, Any]:
        """The next reply: its header, and its results or its error."""
        *_, head, payload = self.socket.recv_multipart()
        header = frames.unpack_header(head)
        if header.flags & frames.ERROR:
            return header, codec.decode_error(payload)
        return header, codec.decode_results(payload)

    def ask(self, *commands: Any, **header: int) -> Any:
        """Results of one batch, or the error that refused it."""
        request_id = self.send(*commands, **header)
        while True:
            head, results = self.receive()
            if head.request_id == request_id:
                return results

    def control(self, call: str, **arguments: Any) -> Any:
        """Result of one control call, or the error that refused it."""
        self._request_id += 1
        head = frames.pack_header(flags=frames.CONTROL, request_id=self._request_id)
        self.socket.send_multipart([head, codec.encode_control(call, arguments)])
        results = self.receive()[1]
        return results[0] if isinstance(results, list) else results


@contextlib.contextmanager
def wire(endpoint: str, timeout_ms: int = 5000) -> Iterator[Wire]:
    """A connection; a receive that takes too long raises zmq.Again."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.rcvtimeo = timeout_ms
        socket.connect(endpoint)
        yield Wire(socket)
