"""The asyncio subscriber: `await pubsub.subscribe("news")`, `async for message in pubsub.listen()`."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import zmq

from ..errors import ShmcacheError
from ..protocol.channels import CHANNEL, PATTERN, SHARD
from .arguments import Key
from .loop import _wake
from .pubsub import PubSubCore, PubSubSteps, Readable
from .streams import StreamSub
from .subscriber import Handler

_HURRY_S = 0.01
"""Between two looks at a plain socket that is not connected or takes nothing at present."""

if TYPE_CHECKING:
    from ..aio import Client


class PubSub(PubSubCore):
    """Subscriptions of an asyncio client: the methods of the sync one, to be awaited. Not for several
    tasks at once.
    """

    _client: "Client"
    _waiter: "asyncio.Future[None] | None" = None
    _watched: "tuple[asyncio.AbstractEventLoop, int] | None" = None

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._socket is not None
        stream = isinstance(self._socket, StreamSub)
        watched = (loop, self._socket.fd if stream else int(self._socket.get(zmq.FD)))
        if watched != self._watched:
            self._unwatch()
            loop.add_reader(watched[1], self._on_readable)
            self._watched = watched

    def _unwatch(self) -> None:
        if self._watched is not None and not self._watched[0].is_closed():
            self._watched[0].remove_reader(self._watched[1])
        self._watched = None

    def _disconnect(self) -> None:
        self._unwatch()
        super()._disconnect()

    def _on_readable(self) -> None:
        if self._waiter is not None:
            _wake(self._waiter)

    async def _wait(self, until: float) -> None:
        """Until the socket has something. Its descriptor is edge-triggered: a look comes before each wait."""
        loop = asyncio.get_running_loop()
        if self._socket is None:
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            return
        stream = self._socket if isinstance(self._socket, StreamSub) else None
        if stream is not None and stream.fd < 0:
            self._unwatch()
            await asyncio.sleep(max(0.0, min(until - time.monotonic(), _HURRY_S)))
            return
        self._watch(loop)
        while stream is not None or not self._socket.get(zmq.EVENTS) & zmq.POLLIN:
            left = until - time.monotonic()
            if left <= 0:
                break
            if stream is not None and stream.hurried:
                left = min(left, _HURRY_S)
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(left, _wake, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                timer.cancel()
            if stream is not None:
                break

    async def _drive(self, steps: PubSubSteps) -> Any:
        try:
            step = next(steps)
            while True:
                if type(step) is Readable:
                    await self._wait(step.until)
                    step = steps.send(None)
                else:
                    try:
                        answer = await self._client._channels.run(step.steps)
                    except ShmcacheError as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(answer)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    async def subscribe(
        self,
        *args: Key,
        replay: int = 0,
        replay_seconds: float = 0,
        timeout: float | None = None,
        **kwargs: Handler,
    ) -> None:
        """As `shmcache.client.pubsub.PubSub.subscribe`; a handler may be a coroutine function."""
        await self._drive(self._subscribe_steps(CHANNEL, args, kwargs, replay, replay_seconds, timeout))

    async def psubscribe(self, *args: Key, timeout: float | None = None, **kwargs: Handler) -> None:
        """Subscribe to patterns (`news.*`)."""
        await self._drive(self._subscribe_steps(PATTERN, args, kwargs, 0, 0, timeout))

    async def ssubscribe(
        self,
        *args: Key,
        replay: int = 0,
        replay_seconds: float = 0,
        timeout: float | None = None,
        **kwargs: Handler,
    ) -> None:
        """Subscribe to shard channels."""
        await self._drive(self._subscribe_steps(SHARD, args, kwargs, replay, replay_seconds, timeout))

    async def unsubscribe(self, *args: Key) -> None:
        """From these channels, or from all."""
        self._unsubscribe(CHANNEL, args)

    async def punsubscribe(self, *args: Key) -> None:
        """From these patterns, or from all."""
        self._unsubscribe(PATTERN, args)

    async def sunsubscribe(self, *args: Key) -> None:
        """From these shard channels, or from all."""
        self._unsubscribe(SHARD, args)

    async def get_message(
        self, ignore_subscribe_messages: bool = False, timeout: float | None = 0.0
    ) -> dict[str, Any] | None:
        """As `shmcache.client.pubsub.PubSub.get_message`."""
        found = await self._drive(self._message_steps(timeout))
        if found is None:
            return None
        message, handler = found
        if handler is not None:
            result = handler(message)
            if inspect.isawaitable(result):
                await result
            return None
        if ignore_subscribe_messages and message["type"].endswith("subscribe"):
            return None
        return message  # type: ignore[no-any-return]

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Messages as they come, as long as there are subscriptions."""
        while self.subscribed:
            message = await self.get_message(timeout=None)
            if message is not None:
                yield message

    async def close(self) -> None:
        """Unsubscribe from everything and give up the socket. It may be used again."""
        self._reset()

    aclose = reset = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
