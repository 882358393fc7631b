"""Instances with channels, and the ways in: sync and asyncio, from shared memory and over tcp."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import shmcache
from tests.support.instance import RunningInstance, running_instance


@pytest.fixture(scope="session")
def with_channels() -> Iterator[RunningInstance]:
    """Keeps messages for late subscribers. Shared: tests use channel names of their own."""
    with running_instance(channels=True, channel_replay_messages=50, channel_message_size="1MB") as instance:
        yield instance


class Awaited:
    """An asyncio client or subscriber that looks like a sync one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wrapped: Any) -> None:
        self._loop, self._wrapped = loop, wrapped

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._wrapped, name)
        if name in ("subscribed", "channels", "patterns", "shard_channels"):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            result = attribute(*args, **kwargs)
            if name == "pubsub":
                return Awaited(self._loop, result)
            return self._loop.run_until_complete(result)

        return call

    def take(self, count: int) -> list[dict[str, Any]]:
        async def collect() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            async for message in self._wrapped.listen():
                found.append(message)
                if len(found) == count:
                    break
            return found

        return self._loop.run_until_complete(asyncio.wait_for(collect(), 10))


@pytest.fixture(params=["sync-shm", "sync-tcp", "aio-shm", "aio-tcp"])
def client(request: pytest.FixtureRequest, with_channels: RunningInstance) -> Iterator[Any]:
    """A client over each of the ways."""
    face, scheme = request.param.split("-")
    url = with_channels.url if scheme == "shm" else with_channels.tcp
    if face == "sync":
        with shmcache.connect(url) as sync:
            yield sync
        return
    loop = asyncio.new_event_loop()
    awaited = Awaited(loop, shmcache.aio.connect(url))
    yield awaited
    awaited.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def messages(subscriber: Any, count: int, seconds: float = 5.0) -> list[dict[str, Any]]:
    """The next messages, confirmations of subscriptions left out."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = subscriber.get_message(timeout=seconds)
        assert message is not None, f"only {len(found)} of {count} messages came: {found}"
        if not message["type"].endswith("subscribe"):
            found.append(message)
    return found


def nothing(subscriber: Any, seconds: float = 0.2) -> bool:
    """Whether no message comes."""
    return subscriber.get_message(timeout=seconds) is None
