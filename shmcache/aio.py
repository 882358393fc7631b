"""The asyncio client: `async with shmcache.aio.connect() as cache: await cache.get("k")`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any, Self

from .client.arguments import Key, Value, plain
from .client.core import NOT_READ, ClientCore, _not_attached
from .client.exchange import Request
from .client.hub import hub_steps
from .client.loop import LoopChannels
from .client.options import NO_OPTIONS, RequestOptions
from .client.pipeline import PipelineCore
from .client.pubsub_aio import PubSub
from .client.waiting import pauses, seconds_of
from .limits import CLIENT_TIMEOUT_S
from .protocol.needs import Ack

__all__ = ["Client", "Pipeline", "connect"]


class Client(ClientCore):
    """The methods of `shmcache.Client`, to be awaited.

    It connects at the first use; `await client` connects at once.
    """

    _streams = False

    def __init__(
        self,
        url: str | None = None,
        *,
        decode_responses: bool = False,
        timeout: float = CLIENT_TIMEOUT_S,
        options: RequestOptions = NO_OPTIONS,
        **keys: str | None,
    ) -> None:
        super().__init__(url, decode_responses=decode_responses, timeout=timeout, options=options, **keys)
        self._channels = LoopChannels(self._access)

    async def _run_async(self, args: tuple[Any, ...], timeout: float | None) -> Any:
        args = plain(args)
        result = self._read_now(args)
        return await self._channels.run(self._steps(args, timeout)) if result is NOT_READ else result

    def _run(self, args: tuple[Any, ...], timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        return self._run_async(args, timeout)

    async def _run_waiting(self, args: tuple[Any, ...]) -> Any:
        seconds = seconds_of(args)
        until = time.monotonic() + seconds if seconds else float("inf")
        for pause in pauses():
            result = await self._run_async(args, None)
            left = until - time.monotonic()
            if result is not None or left <= 0:
                break
            await asyncio.sleep(min(pause, left))
        return result

    def _ask_hub(
        self, request: Request, finish: Callable[[list[Any]], Any], timeout: float | None
    ) -> Coroutine[Any, Any, Any]:
        return self._ask_hub_async(request, finish, timeout)

    async def _ask_hub_async(
        self, request: Request, finish: Callable[[list[Any]], Any], timeout: float | None
    ) -> Any:
        return finish(await self._channels.run(hub_steps(self._hub, request, self._deadline(timeout))))

    async def publish_many(
        self, messages: Iterable[tuple[Key, Value]], *, timeout: float | None = None
    ) -> list[int]:
        """Send many `(channel, message)` in as few requests as possible; the receivers of each."""
        counts: list[int] = []
        for request in self._batches(messages):
            counts += await self._ask_hub_async(request, list, timeout)
        return counts

    def pubsub(self, ignore_subscribe_messages: bool = False) -> PubSub:
        """An object that subscribes to channels and receives their messages."""
        return PubSub(self, ignore_subscribe_messages)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._channels.after_fork()

    async def open(self) -> Self:
        """Connect now. Raises InstanceNotFound, Unavailable, LayoutMismatch."""
        await self._channels.run(self._open_steps())
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            # Nobody will leave what was not entered; its sockets would go on trying to connect.
            await self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give up sockets and mappings. A client that is used again connects again."""
        self._channels.close()
        self._reader_get = _not_attached
        self._route.detach()

    aclose = close

    def pipeline(self, transaction: bool = False, shard_hint: None = None) -> "Pipeline":
        """Collect commands (without `await`) and send them together by `await pipeline.execute()`."""
        return Pipeline(self, transaction)

    async def scan_iter(
        self, match: Key | None = None, count: int | None = None, _type: str | None = None
    ) -> AsyncIterator[Any]:
        """All keys that match, by SCAN."""
        cursor = 0
        while True:
            cursor, keys = await self.scan(cursor, match, count, _type)
            for key in keys:
                yield key
            if cursor == 0:
                return

    async def hscan_iter(
        self, name: Key, match: Key | None = None, count: int | None = None, no_values: bool | None = None
    ) -> AsyncIterator[Any]:
        """All fields and values that match, or all fields, by HSCAN."""
        cursor = 0
        while True:
            cursor, found = await self.hscan(name, cursor, match, count, no_values)
            for item in found if no_values else found.items():
                yield item
            if cursor == 0:
                return

    async def sscan_iter(self, name: Key, match: Key | None = None, count: int | None = None) -> AsyncIterator[Any]:
        """All members that match, by SSCAN."""
        cursor = 0
        while True:
            cursor, members = await self.sscan(name, cursor, match, count)
            for member in members:
                yield member
            if cursor == 0:
                return


class Pipeline(PipelineCore):
    """Collected commands of an asyncio client."""

    _client: Client

    async def execute(self, raise_on_error: bool = True, *, timeout: float | None = None) -> list[Any]:
        """As `shmcache.Pipeline.execute`."""
        commands, names = self._take()
        if not commands:
            return []
        results = self._read_now(commands, names)
        if results is None:
            steps = self._steps(commands, names, self._client._deadline(timeout))
            results = await self._client._channels.run(steps)
        return self._finish(commands, names, results, raise_on_error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()


def connect(
    url: str | None = None,
    *,
    decode_responses: bool = False,
    timeout: float = CLIENT_TIMEOUT_S,
    ack: Ack | None = None,
    ack_timeout: float | None = None,
    max_staleness: float | None = None,
    server_key: str | None = None,
    client_key: str | None = None,
    curve: str | None = None,
) -> Client:
    """An asyncio client: await it, enter it by `async with`, or use it directly.

    Arguments as `shmcache.connect`.
    """
    options = RequestOptions(ack, ack_timeout, max_staleness)
    keys = {"server_key": server_key, "client_key": client_key, "curve": curve}
    return Client(url, decode_responses=decode_responses, timeout=timeout, options=options, **keys)
