"""A real redis-server for a test: at a free port of this host, gone afterwards."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class RealRedis:
    """One that answers; `client` is redis-py's."""

    port: int
    client: Any
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@contextlib.contextmanager
def real_redis(program: str, *words: str, port: int = 0, password: str = "") -> Iterator[RealRedis]:
    """`words`: further ones of its command line."""
    redis = pytest.importorskip("redis")
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    guarded = ["--requirepass", password] if password else []
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *guarded, *words]
    with (
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process,
        redis.Redis(port=port, password=password or None) as client,
    ):
        try:
            _wait(client, redis.ConnectionError)
            yield RealRedis(port, client, process)
        finally:
            process.kill()


def _wait(client: Any, lost: type[Exception]) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            client.ping()
            return
        except lost:
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.02)
