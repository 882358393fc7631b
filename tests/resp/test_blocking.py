"""Waiting for a key: the loop alone, with an engine that answers nil at first."""

import asyncio

import pytest

from shmcache.errors import CommandFailed
from shmcache.server.gateway import blocking
from shmcache.server.gateway.rows import Row

ROW = Row("BLPOP", -3)


class Client:
    id = 1

    def __init__(self, misses: int) -> None:
        self.gateway = self
        self.loop = asyncio.get_running_loop()
        self.blocked = {}
        self.misses = misses

    async def ask(self, *args):
        self.misses -= 1
        return None if self.misses >= 0 else [b"k", b"v"]


def run(misses: int, timeout: bytes, wake: bool | None = None):
    async def one():
        client = Client(misses)
        if wake is not None:
            client.loop.call_later(0.02, lambda: client.blocked[1](wake))
        result = await blocking.wait(client, ROW, ["BLPOP", b"k", timeout])
        assert not client.blocked
        return result

    return asyncio.run(one())


@pytest.mark.parametrize(("timeout", "text"), [(b"-1", "negative"), (b"x", "not a float"), (b"nan", "not a float")])
def test_wrong_timeouts(timeout, text):
    with pytest.raises(CommandFailed, match=text):
        run(0, timeout)
