"""The hub's plain unix socket: requests, subscriptions and messages of those on this host (protocol/streams.py).

Each connection has a queue of its own, as a ZeroMQ socket has: what comes when it is full is dropped for that one.
"""

import contextlib
import os
import select
import socket as sockets
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...errors import ProtocolError
from ...limits import (
    CHANNEL_STREAM_READ_BYTES,
    CHANNEL_STREAM_TOPICS_MAX,
    CHANNEL_STREAMS_MAX,
    LISTEN_BACKLOG_CONNECTIONS,
)
from ...protocol.channels import END, NONCE_BYTES, PROBE
from ...protocol.streams import (
    FRAME,
    REPLY,
    REQUEST,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Records,
    record,
    split_request,
)
from ..paths import remove_socket
from .table import TOPIC_BYTES_MAX, is_whole

_IN: Final = select.EPOLLIN
_IN_OUT: Final = select.EPOLLIN | select.EPOLLOUT
_TOPIC_BYTES_MAX: Final = TOPIC_BYTES_MAX + 64


def topic_of_frame(frame: bytes) -> bytes:
    """The topic, or probe, that a frame begins with."""
    return frame[: frame.find(END, 1 + NONCE_BYTES if frame[:1] == PROBE else 0) + 1]


def _may_be_wanted(topic: bytes) -> bool:
    """Whether it is a whole topic or a probe."""
    if topic[:1] == PROBE:
        return len(topic) <= _TOPIC_BYTES_MAX and topic_of_frame(topic) == topic
    return len(topic) <= TOPIC_BYTES_MAX and is_whole(topic)


class _Peer:
    """One connection."""

    __slots__ = ("fd", "records", "socket", "topics", "waiting")

    def __init__(self, socket: sockets.socket, bytes_max: int) -> None:
        self.socket, self.fd = socket, socket.fileno()
        self.records = Records(bytes_max)
        self.topics: set[bytes] = set()
        self.waiting: deque[bytes | memoryview] = deque()


class Streams:
    """All of them. `answer`: reply to a request; `subscription`: somebody wants a topic, or no longer."""

    def __init__(
        self,
        path: str,
        gid: int,
        request_bytes_max: int,
        queue_frames: int,
        answer: Callable[[list[bytes]], list[bytes] | None],
        subscription: Callable[[bool, bytes], None],
        flush: Callable[[], None],
    ) -> None:
        self._path, self._gid = path, gid
        self._bytes_max, self._queue_frames = request_bytes_max, queue_frames
        self._answer, self._subscription, self._flush = answer, subscription, flush
        self._epoll = select.epoll()
        self._listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM | sockets.SOCK_NONBLOCK)
        self._listening = False
        self._peers: dict[int, _Peer] = {}
        self._by_topic: dict[bytes, dict[int, _Peer]] = {}
        self._broken: list[_Peer] = []

    def bind(self) -> None:
        """Listen. Raises OSError."""
        remove_socket(self._path)
        self._listener.bind(self._path)
        if self._gid >= 0:
            os.chown(self._path, -1, self._gid)
            Path(self._path).chmod(0o660)
        self._listener.listen(LISTEN_BACKLOG_CONNECTIONS)
        self.listen()

    def fileno(self) -> int:
        """Readable when `serve` has something to do."""
        return self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._peers)

    def listen(self) -> None:
        """Take new connections (again, if there was no descriptor left for one)."""
        if not self._listening:
            self._epoll.register(self._listener, _IN)
            self._listening = True

    def serve(self) -> None:
        """Do what can be done now, without waiting."""
        for fd, events in self._epoll.poll(0):
            peer = self._peers.get(fd)
            if peer is None:
                if fd == self._listener.fileno():
                    self._accept()
                continue
            if events & select.EPOLLOUT:
                self._drain(peer)
            if events & ~select.EPOLLOUT:
                self._read(peer)
        self._sweep()

    def _accept(self) -> None:
        try:
            while True:
                socket, _ = self._listener.accept()
                if len(self._peers) >= CHANNEL_STREAMS_MAX:
                    socket.close()
                    continue
                socket.setblocking(False)
                peer = self._peers[socket.fileno()] = _Peer(socket, self._bytes_max)
                self._epoll.register(peer.fd, _IN)
        except BlockingIOError:
            pass
        except OSError:
            # No descriptor left: the tick tries again.
            self._epoll.unregister(self._listener)
            self._listening = False

    def _read(self, peer: _Peer) -> None:
        try:
            data = peer.socket.recv(CHANNEL_STREAM_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._broken.append(peer)
            return
        try:
            for kind, body in peer.records.feed(data):
                self._take(peer, kind, body)
        except ProtocolError:
            # There is no place in a broken stream from which one could go on.
            self._broken.append(peer)

    def _take(self, peer: _Peer, kind: int, body: bytes) -> None:
        if kind == REQUEST:
            reply = self._answer([b"", *split_request(body)])
            # The messages first: a subscriber has them no later than the publisher has its answer.
            self._flush()
            if reply is not None:
                self._put(peer, record(REPLY, reply[-2] + reply[-1]))
        elif kind == SUBSCRIBE and _may_be_wanted(body) and len(peer.topics) < CHANNEL_STREAM_TOPICS_MAX:
            if body not in peer.topics:
                peer.topics.add(body)
                self._by_topic.setdefault(body, {})[peer.fd] = peer
                self._subscription(True, body)
                self._flush()
        elif kind == UNSUBSCRIBE:
            self._unsubscribe(peer, body)
        else:
            raise ProtocolError("not a record of a client")

    def _unsubscribe(self, peer: _Peer, topic: bytes) -> None:
        if topic in peer.topics:
            peer.topics.discard(topic)
            peers = self._by_topic[topic]
            del peers[peer.fd]
            if not peers:
                del self._by_topic[topic]
            self._subscription(False, topic)

    # --- out ---------------------------------------------------------------------------------------
    def send(self, frame: bytes) -> None:
        """Send a frame to all who want its topic."""
        peers = self._by_topic.get(topic_of_frame(frame))
        if peers:
            data = record(FRAME, frame)
            for peer in peers.values():
                self._put(peer, data)

    def _put(self, peer: _Peer, data: bytes) -> None:
        waiting = peer.waiting
        if waiting:
            if len(waiting) < self._queue_frames:
                waiting.append(data)
            return
        try:
            sent = peer.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._broken.append(peer)
            return
        if sent < len(data):
            waiting.append(memoryview(data)[sent:])
            self._epoll.modify(peer.fd, _IN_OUT)

    def _drain(self, peer: _Peer) -> None:
        waiting = peer.waiting
        try:
            while waiting:
                data = waiting[0]
                sent = peer.socket.send(data)
                if sent < len(data):
                    waiting[0] = memoryview(data)[sent:]
                    return
                waiting.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._broken.append(peer)
            return
        self._epoll.modify(peer.fd, _IN)

    def _sweep(self) -> None:
        """Forget the connections that are gone; not while their peers are being gone through."""
        while self._broken:
            peer = self._broken.pop()
            if self._peers.get(peer.fd) is peer:
                del self._peers[peer.fd]
                for topic in list(peer.topics):
                    self._unsubscribe(peer, topic)
                with contextlib.suppress(OSError):
                    self._epoll.unregister(peer.fd)
                peer.socket.close()

    def close(self) -> None:
        """Stop listening and close all connections."""
        for peer in self._peers.values():
            # What waits is sent as far as it goes at once.
            self._drain(peer)
        self._broken.extend(self._peers.values())
        for peer in self._broken:
            peer.socket.close()
        self._listener.close()
        self._epoll.close()
        remove_socket(self._path)
