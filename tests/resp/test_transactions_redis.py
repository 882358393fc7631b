"""The same transactions given to a real Redis and to an instance of three shards: the same replies, the same keys."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.differential import RedisSocket, differential
from tests.support.instance import running_instance

KEYS = [f"k{number}" for number in range(12)]
ROUNDS = 150


@pytest.fixture(scope="module")
def both(redis_server_program: str) -> Iterator[tuple[RedisSocket, redis.Redis]]:
    with differential(redis_server_program) as theirs, running_instance(workers=3, memory="96MB", resp="127.0.0.1:0") as ours:
        with redis.Redis(port=ours.resp_port) as client:
            yield theirs.redis, client


def some_command(chance: random.Random) -> list[Any]:
    """One that a Redis and a cluster of shards answer alike."""
    one, *some = chance.sample(KEYS, 5)
    return chance.choice(
        [
            ["SET", one, chance.randrange(100)],
            ["SET", one, "text", "XX"],
            ["INCRBY", one, 3],
            ["APPEND", one, "x"],
            ["GET", one],
            ["MGET", one, *some],
            ["MSET", *(part for key in some for part in (key, chance.randrange(9)))],
            ["DEL", one, *some[: chance.randrange(3)]],
            ["EXISTS", one, *some],
            ["TOUCH", *some],
            ["UNLINK", one],
            ["LPUSH", one, "a", "b"],
            ["RPOP", one],
            ["HSET", one, "f", chance.randrange(9)],
            ["HGETALL", one],
            ["TYPE", one],
            ["ECHO", "x"],
            ["GET"],
            ["SET", one, 1, "NOSUCH"],
        ]
    )


def told(reply: Any) -> Any:
    """Without the texts of errors, which have a test of their own."""
    if isinstance(reply, list):
        return [told(part) for part in reply]
    if hasattr(reply, "code"):
        return "error", reply.code
    if isinstance(reply, Exception):
        return "error", str(reply).split(" ", 1)[0]
    return reply


class _Plain:
    """The instance's replies as they come, through a socket like the other."""

    def __init__(self, port: int) -> None:
        import socket

        self._socket = socket.create_connection(("127.0.0.1", port))
        self._lines = self._socket.makefile("rb")

    command = RedisSocket.command
    _reply = RedisSocket._reply

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def test_random_transactions(both: tuple[RedisSocket, redis.Redis]) -> None:
    """EXEC's replies are the same, command by command, and so is what is left."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    theirs, client = both
    ours = _Plain(client.connection_pool.connection_kwargs["port"])
    try:
        for _ in range(ROUNDS):
            commands = [["MULTI"], *(some_command(chance) for _ in range(chance.randrange(1, 12))), ["EXEC"]]
            for command in commands:
                args = [part if isinstance(part, bytes) else str(part).encode() for part in command]
                assert told(ours.command(args)) == told(theirs.command(args)), commands
        for key in KEYS:
            for command in ([b"TYPE", key.encode()], [b"GET", key.encode()], [b"LRANGE", key.encode(), b"0", b"-1"]):
                assert told(ours.command(command)) == told(theirs.command(command))
    finally:
        ours.close()
