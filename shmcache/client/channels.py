"""Carries out the steps of an exchange with blocking sockets.

Thread-safe: every call has its own sockets, from a pool.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Generator
from typing import TypeVar

import zmq

from ..limits import CLIENT_POLL_MS
from ..protocol.frames import request_id_of
from .access import Access
from .exchange import Deadline, Reply, Request, Route, Send, Step, answers, exchange
from .sockets import MORE_NOW, close_dealer, leave_alone, open_dealer
from .streams import SCHEME, StreamChannel

_Result = TypeVar("_Result")
_POLL_S = CLIENT_POLL_MS / 1000


class _Channel:
    """One socket to one endpoint, in use by at most one call."""

    __slots__ = ("_access", "endpoint", "owed", "socket", "watch")

    def __init__(self, endpoint: str, access: Access | None) -> None:
        self.endpoint, self._access = endpoint, access
        self.socket, self.watch = open_dealer(endpoint, access)
        """The watch is there until the first reply."""
        self.owed: list[int] = []
        """Numbers of the requests that are not answered, one for each time that they were sent."""

    def send(self, number: int, header: bytes, payload: bytes) -> bool:
        # First, so that a send that an interrupt breaks off leaves a socket that is not used again.
        self.owed.append(number)
        try:
            self.socket.send(header, MORE_NOW)
            self.socket.send(payload)
        except zmq.Again:
            self.owed.remove(number)
            self._check()
            if not self.owed:
                # Its connection was refused when it came back: ZeroMQ gives such a socket up for good.
                self.close()
                self.socket, self.watch = open_dealer(self.endpoint, self._access)
            return False
        return True

    def _check(self) -> None:
        """Raise NotAuthorized if the server refuses the connection, unless a request may have got through."""
        refusal = self.watch.refusal() if self.watch is not None else None
        if refusal is not None and not (self.owed and self.watch.connected_once):
            raise refusal

    def receive(self, flags: int = 0) -> Reply | None:
        """The next message, empty if it is no reply. Waits up to CLIENT_POLL_MS; with DONTWAIT not at all."""
        try:
            message = self.socket.recv_multipart(flags)
        except zmq.Again:
            self._check()
            return None
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        if len(message) != 2:
            return Reply(b"", b"")
        reply = Reply(*message)
        number = request_id_of(reply.header)
        if number in self.owed:
            self.owed.remove(number)
        return reply

    def close(self) -> None:
        close_dealer(self.socket, self.watch)


AnyChannel = _Channel | StreamChannel


class Channels:
    """The pool of one client in one process."""

    def __init__(self, access: Access | None = None) -> None:
        self._access = access
        self._free: defaultdict[str, list[AnyChannel]] = defaultdict(list)
        self._closed = False

    def ask(self, route: Route, request: Request, timeout: float) -> None:
        """Fill in the `outcome` of one request: send it, wait, and nothing else as long as all goes well.

        Whatever is not its plain reply is left to an exchange, which goes on from there. `timeout`: seconds.
        """
        now = time.monotonic()
        target = route.target(request.slot, request.flags)
        used: dict[str, AnyChannel] = {}
        reply = None
        try:
            if target is not None and timeout >= _POLL_S:
                channel = used[target.endpoint] = self._take(target.endpoint)
                header = request.header(route, now + timeout, target.endpoint)
                if channel.send(request.number, header, request.payload):
                    reply = channel.receive()
                    if reply is not None and answers(reply, header):
                        request.outcome = reply.payload
                        return
                    request.is_sent(target, now)
            deadline = Deadline(now + timeout, timeout)
            _drive(exchange(route, (request,), deadline, reply), used, self._take)
        finally:
            for channel in used.values():
                self._give_back(channel)

    def run(self, steps: Generator[Step, object, _Result]) -> _Result:
        """Drive an exchange to its end."""
        used: dict[str, AnyChannel] = {}
        try:
            return _drive(steps, used, self._take)
        finally:
            for channel in used.values():
                self._give_back(channel)

    def _take(self, endpoint: str) -> AnyChannel:
        try:
            return self._free[endpoint].pop()
        except IndexError:
            return StreamChannel(endpoint) if endpoint.startswith(SCHEME) else _Channel(endpoint, self._access)

    def _give_back(self, channel: AnyChannel) -> None:
        # A socket that is owed a reply is closed: what it may still hold unsent must not go out later.
        # So is one that never had any: nobody would look at its watch.
        if channel.owed or channel.watch is not None or self._closed:
            channel.close()
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
                channels.pop().close()


def _drive(
    steps: Generator[Step, object, _Result], used: dict[str, AnyChannel], take: Callable[[str], AnyChannel]
) -> _Result:
    answer: object = None
    try:
        while True:
            step = steps.send(answer)
            if type(step) is Send:
                channel = used.get(step.endpoint)
                if channel is None:
                    channel = used[step.endpoint] = take(step.endpoint)
                answer = channel.send(step.request_id, step.header, step.payload)
            else:
                answer = _receive(used, step.until)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _receive(used: dict[str, AnyChannel], until: float) -> Reply | None:
    """One reply of any channel that is owed one; sleeps if there is none."""
    owed = [channel for channel in used.values() if channel.owed]
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
