"""Carries out the steps of an exchange in an asyncio loop: one socket per endpoint, shared by all tasks.

A ZeroMQ socket tells of events through a descriptor that is edge-triggered: after every look at it, and after
every send, whatever is there must be taken, because the loop is not told a second time.
"""

import asyncio
import time
from collections.abc import Generator
from typing import Any, TypeVar

import zmq

from ..errors import NotAuthorized
from ..protocol.frames import request_id_of
from .access import Access
from .exchange import Reply, Send, Step
from .sockets import MORE_NOW, close_dealer, leave_alone, open_dealer

_Result = TypeVar("_Result")
_READABLE, _NOW = int(zmq.POLLIN), int(zmq.DONTWAIT)
"""As int: combining pyzmq's enums takes a microsecond."""


class _Inbox:
    """Replies of one call, and the future that it waits with."""

    __slots__ = ("refusal", "replies", "waiter")

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.refusal: NotAuthorized | None = None
        self.waiter: asyncio.Future[None] | None = None

    def put(self, reply: Reply) -> None:
        self.replies.append(reply)
        self._wake()

    def refuse(self, error: NotAuthorized) -> None:
        self.refusal = error
        self._wake()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class _Channel:
    """One DEALER in one loop, and who waits for which reply."""

    def __init__(self, endpoint: str, loop: asyncio.AbstractEventLoop, access: Access | None) -> None:
        self.socket, self.watch = open_dealer(endpoint, access)
        self.waiting: dict[int, _Inbox] = {}
        self.refused = False
        """Dead for good: whoever begins a call needs a new one."""
        self._loop = loop
        if self.watch is not None:
            loop.add_reader(self.watch.fd, self._look)
        self._fd = self.socket.get(zmq.FD)
        loop.add_reader(self._fd, self._drain)

    def send(self, step: Send, inbox: _Inbox) -> bool:
        try:
            self.socket.send(step.header, MORE_NOW)
            self.socket.send(step.payload)
        except zmq.Again:
            if self.watch is not None:
                self._look()
            return False
        self.waiting[step.request_id] = inbox
        self._drain()
        return True

    def _drain(self) -> None:
        while self.socket.get(zmq.EVENTS) & _READABLE:
            try:
                frames = self.socket.recv_multipart(_NOW)
            except zmq.Again:
                return
            inbox = self.waiting.pop(request_id_of(frames[0]), None)
            if inbox is not None and len(frames) == 2:
                inbox.put(Reply(frames[0], frames[1]))

    def _look(self) -> None:
        """Tell who waits that the server refuses the connection, if nothing can have got through."""
        assert self.watch is not None
        refusal = self.watch.refusal()
        if refusal is not None and not self.refused:
            self.refused = True
            if not self.watch.connected_once:
                for inbox in self.waiting.values():
                    inbox.refuse(refusal)

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            if self.watch is not None:
                self._loop.remove_reader(self.watch.fd)
        close_dealer(self.socket, self.watch)


class LoopChannels:
    """The channels of one asyncio client.

    They belong to one loop; in another one (or a child) they are made anew.
    """

    def __init__(self, access: Access | None = None) -> None:
        self._access = access
        self._channels: dict[str, _Channel] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, steps: Generator[Step, object, _Result]) -> _Result:
        """Drive an exchange to its end."""
        inbox = _Inbox()
        sent: list[tuple[_Channel, int]] = []
        used: dict[str, _Channel] = {}
        answer: object = None
        try:
            while True:
                step = steps.send(answer)
                if type(step) is Send:
                    channel = used.get(step.endpoint)
                    if channel is None:
                        channel = used[step.endpoint] = self._channel(step.endpoint)
                    answer = channel.send(step, inbox)
                    if answer:
                        sent.append((channel, step.request_id))
                    elif channel.refused and not sent:
                        # Nothing of this call is on its way: the next attempt may have a new channel.
                        del used[step.endpoint]
                elif inbox.replies:
                    answer = inbox.replies.pop(0)
                else:
                    answer = await _receive(inbox, step.until)
                if inbox.refusal is not None:
                    raise inbox.refusal
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()
            for channel, request_id in sent:
                channel.waiting.pop(request_id, None)

    def post(self, step: Send, inbox: Any) -> bool:
        """Send one message whose reply goes to `inbox.put`; False if the queue to that endpoint is full."""
        return self._channel(step.endpoint).send(step, inbox)

    def withdraw(self, endpoint: str, request_id: int) -> None:
        """The reply to that message is not wanted any more."""
        channel = self._channels.get(endpoint)
        if channel is not None:
            channel.waiting.pop(request_id, None)

    def _channel(self, endpoint: str) -> _Channel:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.close()
            self._loop = loop
        channel = self._channels.get(endpoint)
        if channel is not None and channel.refused:
            self._channels.pop(endpoint).close()
            channel = None
        if channel is None:
            channel = self._channels[endpoint] = _Channel(endpoint, loop, self._access)
        return channel

    def after_fork(self) -> None:
        """In a child: the parent's sockets stay the parent's."""
        leave_alone(self._channels)
        self._channels = {}
        self._loop = None

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


async def _receive(inbox: _Inbox, until: float) -> Reply | None:
    inbox.waiter = waiter = asyncio.get_running_loop().create_future()
    timer = waiter.get_loop().call_later(max(0.0, until - time.monotonic()), _wake, waiter)
    try:
        await waiter
    finally:
        inbox.waiter = None
        timer.cancel()
    return inbox.replies.pop(0) if inbox.replies else None


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
