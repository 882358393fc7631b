"""Waiting for many ZeroMQ sockets at the price of those that have something.

`zmq_poll` asks each socket, twice, at every call: with the ten of a relay that is 50 us, as much as the work it wakes up for. Here epoll waits
for the sockets' descriptors. What they tell is that something has changed, once; so a socket is read until it is empty, and also again
after something was sent on it, as sending takes note of the change, too (the manual of ZMQ_FD). `used` says that it was.
"""

import select
from collections.abc import Callable
from typing import Any

import zmq

from ..limits import DRAIN_MESSAGES_MAX

_NOW = int(zmq.NOBLOCK)

Take = Callable[[list[bytes]], None]


class Selector:
    """Sockets and descriptors, and what takes what comes from them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._takes: dict[Any, Take] = {}
        self._by_fd: dict[int, Any] = {}
        self._bells: dict[int, Callable[[], None]] = {}
        self._unread: dict[Any, None] = {}

    def add(self, socket: "zmq.Socket[bytes]", take: Take) -> None:
        """Give each message of the socket to `take`."""
        self._takes[socket] = take
        self._by_fd[socket.fileno()] = socket
        self._epoll.register(socket.fileno(), select.EPOLLIN)
        self._unread[socket] = None

    def add_bell(self, fd: int, heard: Callable[[], None]) -> None:
        """Call `heard` when the descriptor becomes readable; it makes it unreadable again."""
        self._bells[fd] = heard
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, socket: "zmq.Socket[bytes]") -> None:
        """Forget a socket, before it is closed. It may be forgotten already."""
        if self._takes.pop(socket, None) is None:
            return
        self._epoll.unregister(socket.fileno())
        del self._by_fd[socket.fileno()]
        self._unread.pop(socket, None)

    def used(self, socket: "zmq.Socket[bytes]") -> None:
        """Something was sent on it."""
        if socket in self._takes:
            self._unread[socket] = None

    def run(self, timeout_ms: int) -> None:
        """Take what is there; if that is nothing, sleep until there is something, or the timeout.

        When nothing came in all that time every socket is looked at: forgetting `used` somewhere costs time then, never a message.
        """
        if not self._unread:
            for fd, _ in self._epoll.poll(timeout_ms / 1000):
                if (bell := self._bells.get(fd)) is not None:
                    bell()
                elif (socket := self._by_fd.get(fd)) is not None:
                    self._unread[socket] = None
            if timeout_ms and not self._unread:
                self._unread.update(dict.fromkeys(self._takes))
        unread, self._unread = self._unread, {}
        for socket in unread:
            self._drain(socket)

    def _drain(self, socket: Any) -> None:
        for _ in range(DRAIN_MESSAGES_MAX):
            # A message may have closed the socket, or made its owner want no more of it.
            take = self._takes.get(socket)
            if take is None:
                return
            try:
                message = socket.recv_multipart(_NOW)
            except zmq.Again:
                return
            take(message)
        self.used(socket)

    def close(self) -> None:
        self._epoll.close()
