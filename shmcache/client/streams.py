"""The plain unix socket to the hub of this host: one for requests, one to subscribe with (protocol/streams.py).

They look like the ZeroMQ sockets that they stand for. A connection that breaks is made anew when it is used next.
"""

import contextlib
import select
import socket as sockets
import struct
import time
from collections import deque
from typing import Any, Final

from ..errors import ProtocolError
from ..limits import CHANNEL_STREAM_READ_BYTES, CLIENT_POLL_MS, MESSAGE_BYTES_MAX
from ..protocol.frames import request_id_of
from ..protocol.streams import (
    FRAME,
    REPLY,
    REQUEST,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Records,
    prefix,
    record,
    split_request,
)
from .exchange import Reply

SCHEME: Final = "unix://"
_RECONNECT_S: Final = 0.02
_POLL_S: Final = CLIENT_POLL_MS / 1000
_POLL: Final = struct.pack("@ll", 0, CLIENT_POLL_MS * 1000)
"""The kernel's timeout of a blocking call: Python's own costs a system call more."""


def _connect(path: str) -> sockets.socket | None:
    """A connection; None if nobody listens (or all places in the queue are taken)."""
    socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVTIMEO, _POLL)
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, _POLL)
    try:
        socket.connect(path)
    except OSError:
        socket.close()
        return None
    return socket


class StreamChannel:
    """Requests of one call at a time, as `channels` has them over a DEALER."""

    __slots__ = ("_path", "_records", "_replies", "_stream", "endpoint", "owed", "watch")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._path = endpoint.removeprefix(SCHEME)
        self._stream: sockets.socket | None = None
        self._records = Records(2 * MESSAGE_BYTES_MAX)
        self._replies: deque[Reply] = deque()
        self.watch: Any = None
        self.owed: list[int] = []

    @property
    def socket(self) -> int:
        """For a poller: the descriptor, -1 (which is never readable) without a connection."""
        return -1 if self._stream is None else self._stream.fileno()

    def send(self, number: int, header: bytes, payload: bytes) -> bool:
        self.owed.append(number)
        # A record that is not whole is not executed, so what fails may be sent again: once over a new
        # connection, because the hub may have been restarted since the last call.
        fresh = self._stream is None
        if self._try(header, payload) or (not fresh and self._try(header, payload)):
            return True
        self.owed.remove(number)
        return False

    def _try(self, header: bytes, payload: bytes) -> bool:
        if self._stream is None:
            self._records, self._stream = Records(2 * MESSAGE_BYTES_MAX), _connect(self._path)
            if self._stream is None:
                return False
        try:
            self._stream.sendall(prefix(REQUEST, len(header) + len(payload)) + header + payload)
        except OSError:
            self._break()
            return False
        return True

    def receive(self, flags: int = 0) -> Reply | None:
        """The next reply; None if there is none within CLIENT_POLL_MS, or with a flag at once."""
        while not self._replies:
            if self._stream is None:
                # Broken: it is told by the directory who answers now.
                if not flags:
                    time.sleep(_POLL_S)
                return None
            try:
                data = self._stream.recv(CHANNEL_STREAM_READ_BYTES, sockets.MSG_DONTWAIT if flags else 0)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            try:
                if not data:
                    raise ProtocolError("closed")
                for kind, body in self._records.feed(data):
                    if kind == REPLY:
                        self._replies.append(Reply(*split_request(body)))
            except ProtocolError:
                self._break()
        reply = self._replies.popleft()
        number = request_id_of(reply.header)
        if number in self.owed:
            self.owed.remove(number)
        return reply

    def _break(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        self._break()


class StreamSub:
    """Subscriptions, as a SUB socket has them."""

    def __init__(self, endpoint: str) -> None:
        self._path = endpoint.removeprefix(SCHEME)
        self._topics: dict[bytes, None] = {}
        self._stream: sockets.socket | None = None
        self._poll = select.poll()
        self._records = Records(2 * MESSAGE_BYTES_MAX)
        self._frames: deque[bytes] = deque()
        self._unsent = bytearray()
        self._stalled = False
        self._retry_at = 0.0
        self._open()

    @property
    def fd(self) -> int:
        """What to wait for; -1 without a connection."""
        return -1 if self._stream is None else self._stream.fileno()

    @property
    def hurried(self) -> bool:
        """Whether there is something to be done soon that the descriptor does not tell."""
        return self._stream is None or bool(self._unsent)

    def subscribe(self, topic: bytes) -> None:
        self._topics[topic] = None
        self._send(SUBSCRIBE, topic)

    def unsubscribe(self, topic: bytes) -> None:
        self._topics.pop(topic, None)
        self._send(UNSUBSCRIBE, topic)

    def recv(self, flags: int = 0) -> bytes:
        """The next frame. Raises BlockingIOError: there is none yet."""
        frames = self._frames
        while not frames:
            self._push()
            if self._stream is None:
                raise BlockingIOError
            try:
                data = self._stream.recv(CHANNEL_STREAM_READ_BYTES)
            except BlockingIOError:
                raise
            except OSError:
                data = b""
            if not data:
                self._break()
                continue
            try:
                frames.extend(body for kind, body in self._records.feed(data) if kind == FRAME)
            except ProtocolError:
                self._break()
        return frames.popleft()

    def poll(self, timeout_ms: int) -> bool:
        """Wait until there may be something, at most so long."""
        if self._frames:
            return True
        if self._stream is None:
            time.sleep(min(timeout_ms / 1000, max(0.0, self._retry_at - time.monotonic())))
            return True
        events = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        self._poll.register(self._stream, events)
        return bool(self._poll.poll(timeout_ms))

    def _open(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        self._stream = _connect(self._path)
        self._retry_at = time.monotonic() + _RECONNECT_S
        if self._stream is not None:
            self._stream.setblocking(False)
            self._records = Records(2 * MESSAGE_BYTES_MAX)
            self._unsent = bytearray().join(record(SUBSCRIBE, topic) for topic in self._topics)

    def _send(self, kind: int, topic: bytes) -> None:
        if self._stream is not None:
            self._unsent += record(kind, topic)
            self._push()
            if self._unsent and not self._stalled:
                # Perhaps nobody reads here for a while, and what waits would wait with it. The hub never waits
                # for us: if it takes nothing for so long it is stopped, and is not waited for again.
                self._poll.register(self._stream, select.POLLOUT)
                self._stalled = not self._poll.poll(CLIENT_POLL_MS)
                self._push()

    def _push(self) -> None:
        """Connect, if need be, and send what waits."""
        if self._stream is None:
            self._open()
        if self._unsent and self._stream is not None:
            try:
                del self._unsent[: self._stream.send(self._unsent)]
                self._stalled = False
            except BlockingIOError:
                pass
            except OSError:
                self._break()

    def _break(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._stream)
            self._stream.close()
            self._stream, self._unsent = None, bytearray()

    def close(self, linger: int = 0) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                # Forked children may have it open: the hub shall hear of it all the same.
                self._stream.shutdown(sockets.SHUT_RDWR)
        self._break()
