"""Carries out the steps of an exchange with blocking sockets. Thread-safe: every call has its own sockets, from a pool."""

import time
from collections import defaultdict
from collections.abc import Generator
from typing import TypeVar

import zmq

from ..limits import CLIENT_POLL_MS
from .exchange import Reply, Send, Step
from .sockets import leave_alone, open_dealer

_Result = TypeVar("_Result")
_POLL_S = CLIENT_POLL_MS / 1000


class _Channel:
    """One socket to one endpoint, in use by at most one call."""

    __slots__ = ("endpoint", "outstanding", "socket")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.socket = open_dealer(endpoint)
        self.outstanding = 0

    def send(self, step: Send) -> bool:
        try:
            self.socket.send(step.header, zmq.SNDMORE | zmq.DONTWAIT)
            self.socket.send(step.payload)
        except zmq.Again:
            return False
        self.outstanding += 1
        return True

    def receive(self, flags: int = 0) -> Reply | None:
        """The next reply, waiting up to CLIENT_POLL_MS (or not at all with DONTWAIT)."""
        try:
            frames = self.socket.recv_multipart(flags)
        except zmq.Again:
            return None
        self.outstanding -= 1
        return Reply(frames[0], frames[1]) if len(frames) == 2 else Reply(b"", b"")


class Channels:
    """The pool of one client in one process."""

    def __init__(self) -> None:
        self._free: defaultdict[str, list[_Channel]] = defaultdict(list)
        self._closed = False

    def run(self, steps: Generator[Step, object, _Result]) -> _Result:
        """Drive an exchange to its end."""
        used: dict[str, _Channel] = {}
        answer: object = None
        try:
            while True:
                step = steps.send(answer)
                if type(step) is Send:
                    channel = used.get(step.endpoint)
                    if channel is None:
                        channel = used[step.endpoint] = self._take(step.endpoint)
                    answer = channel.send(step)
                else:
                    answer = _receive(used, step.until)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            for channel in used.values():
                self._give_back(channel)

    def _take(self, endpoint: str) -> _Channel:
        try:
            return self._free[endpoint].pop()
        except IndexError:
            return _Channel(endpoint)

    def _give_back(self, channel: _Channel) -> None:
        # A socket that is owed a reply is closed: what it may still hold unsent must not go out later.
        if channel.outstanding or self._closed:
            channel.socket.close()
        else:
            self._free[channel.endpoint].append(channel)

    def after_fork(self) -> None:
        """In a child: the parent's sockets stay the parent's."""
        leave_alone(self._free)
        self._free = defaultdict(list)

    def close(self) -> None:
        """Close what is in no call; the others are closed at their call's end."""
        self._closed = True
        for channels in self._free.values():
            while channels:
                channels.pop().socket.close()


def _receive(used: dict[str, _Channel], until: float) -> Reply | None:
    """One reply of any channel that is owed one; sleeps if there is none."""
    owed = [channel for channel in used.values() if channel.outstanding]
    left = until - time.monotonic()
    if not owed:
        time.sleep(max(0.0, left))
        return None
    if len(owed) == 1 and left > 0.9 * _POLL_S:
        # The usual case: no poller, one system call. It waits as long as the socket's own timeout says.
        return owed[0].receive()
    poller = zmq.Poller()
    for channel in owed:
        poller.register(channel.socket, zmq.POLLIN)
    ready = {socket for socket, _ in poller.poll(max(0, int(left * 1000) + 1))}
    for channel in owed:
        if channel.socket in ready:
            return channel.receive(zmq.DONTWAIT)
    return None
