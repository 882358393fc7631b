"""The ways in that the conformance suite takes, and instances shared by the tests that do no harm to them."""

import asyncio
import functools
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import shmcache
from tests.support.instance import RunningInstance, running_instance


@pytest.fixture(scope="session")
def one_worker() -> Iterator[RunningInstance]:
    with running_instance(workers=1) as instance:
        yield instance


@pytest.fixture(scope="session")
def three_workers() -> Iterator[RunningInstance]:
    with running_instance(workers=3, memory="96MB") as instance:
        yield instance


class AwaitedClient:
    """An asyncio client that looks like a sync one, so that one suite serves both."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = shmcache.aio.connect(url, **options)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._loop.run_until_complete(getattr(self._client, name)(*args, **kwargs))

        return call

    def _collected(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def collect() -> list[Any]:
            return [item async for item in items]

        return iter(self._loop.run_until_complete(collect()))

    def scan_iter(self, *args: Any, **kwargs: Any) -> Any:
        return self._collected(self._client.scan_iter(*args, **kwargs))

    def hscan_iter(self, *args: Any, **kwargs: Any) -> Any:
        return self._collected(self._client.hscan_iter(*args, **kwargs))

    def sscan_iter(self, *args: Any, **kwargs: Any) -> Any:
        return self._collected(self._client.sscan_iter(*args, **kwargs))

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        pipeline = self._client.pipeline(*args, **kwargs)
        execute = pipeline.execute

        @functools.wraps(execute)
        def execute_now(*more: Any, **options: Any) -> Any:
            return self._loop.run_until_complete(execute(*more, **options))

        pipeline.execute = execute_now  # type: ignore[method-assign]
        return pipeline

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


@pytest.fixture(scope="session")
def redis_port(redis_server_program: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [
            redis_server_program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ],
        stdout=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 10
        while not _answers(port) and time.monotonic() < until:
            time.sleep(0.02)
        yield port
        process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


WAYS = [
    f"{face}-{scheme}-{workers}"
    for face in ("sync", "aio")
    for scheme in ("shm", "tcp")
    for workers in ("1", "3")
]


@pytest.fixture(params=[*WAYS, "redis"])
def connected(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A function that gives a client over one of the ways; the instance is empty at first."""
    clients: list[Any] = []

    def connect(**options: Any) -> Any:
        if request.param == "redis":
            redis = pytest.importorskip("redis")
            client = redis.Redis(port=request.getfixturevalue("redis_port"), **options)
        else:
            face, scheme, workers = request.param.split("-")
            instance = request.getfixturevalue("one_worker" if workers == "1" else "three_workers")
            url = instance.url if scheme == "shm" else instance.tcp
            client = shmcache.connect(url, **options) if face == "sync" else AwaitedClient(url, **options)
        clients.append(client)
        return client

    connect().flushall()
    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def cache(connected: Any) -> Any:
    return connected()


@pytest.fixture
def is_redis(request: pytest.FixtureRequest) -> bool:
    return "redis" in request.node.callspec.id
