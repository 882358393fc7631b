"""Small collections read from shared memory against redis-py, and the memory of many small and one large one against Redis."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import psutil

from .peers import PeerMissing, redis_server
from .region import BATCH, engine, key_of
from .suite import Row, missing
from .timing import per_call_us

SIZES: Final = (5, 20, 128)
"""Elements of the collections that are read: all of them are one compact entry."""
FIELDS: Final = 5
_LOOKUPS: Final = 2_000


def _names(size: int) -> list[bytes]:
    return [b"element:%04d" % n for n in range(size)]


def _fill(client: Any, size: int) -> None:
    names = _names(size)
    client.hset(f"hash{size}", mapping=dict.fromkeys(names, b"value"))
    client.sadd(f"set{size}", *names)
    client.zadd(f"zset{size}", {name: n for n, name in enumerate(names)})


def _reads(client: Any, size: int) -> dict[str, Callable[[Any], object]]:
    return {
        "HGET": partial(client.hget, f"hash{size}"),
        "SISMEMBER": partial(client.sismember, f"set{size}"),
        "ZSCORE": partial(client.zscore, f"zset{size}"),
    }


def run(keys: int) -> list[Row]:
    """`keys` hashes, and members of the sorted set."""
    return [*_read_rows(), *_memory_rows(keys)]


def _read_rows() -> list[Row]:
    import shmcache

    from . import temporary

    chosen = random.Random(1)
    wanted = {size: chosen.choices(_names(size), k=_LOOKUPS) for size in SIZES}
    ours: dict[tuple[str, int], float] = {}
    with temporary.instance(memory=64 << 20, workers=1, pin="false") as name, shmcache.connect(f"shm://{name}") as client:
        for size in SIZES:
            _fill(client, size)
            for command, call in _reads(client, size).items():
                ours[command, size] = per_call_us(call, wanted[size])
    theirs: dict[tuple[str, int], float] = {}
    reason = ""
    try:
        with redis_server() as (redis, _):
            for size in SIZES:
                _fill(redis, size)
                for command, call in _reads(redis, size).items():
                    theirs[command, size] = per_call_us(call, wanted[size], 50)
    except PeerMissing as missed:
        reason = str(missed)
    rows = []
    for (command, size), value in ours.items():
        peer = theirs.get((command, size))
        work = f"{command}, any of {size} elements"
        rows.append(Row(work, value, "us", ">= 100x", "redis-py", peer, peer / value if peer else None))
    return [*rows, missing("reads", "redis-py", reason)] if reason else rows


def _hashes(keys: int) -> Iterator[tuple[Any, ...]]:
    for n in range(keys):
        yield ("HSET", key_of(n), *(word for field in range(FIELDS) for word in (b"field%d" % field, b"%08d" % (n + field))))


def _members(keys: int) -> Iterator[tuple[Any, ...]]:
    for n in range(keys):
        # Scores in no order.
        yield ("ZADD", b"zset", n * 2_654_435_761 % (1 << 32), b"m%09d" % n)


def _memory_rows(keys: int) -> list[Row]:
    rows = []
    for work, commands in ((f"a hash of {FIELDS} small fields", _hashes), ("a member of a sorted set", _members)):
        ours = _bytes_here(commands(keys)) / keys
        try:
            theirs = _bytes_there(commands(keys)) / keys
            rows.append(Row(f"memory of {work}", ours, "bytes", ">= 1x", "Redis", theirs, theirs / ours))
        except PeerMissing as reason:
            rows += [Row(f"memory of {work}", ours, "bytes", ">= 1x"), missing(work, "Redis", str(reason))]
    return rows


def _bytes_here(commands: Iterator[tuple[Any, ...]]) -> float:
    """In the region, by its accounts, and what the owner itself needs for it. The write log's ring has a fixed size and is not counted."""
    from shmcache.protocol.codec import encode_commands

    process = psutil.Process()
    with engine(4 << 30) as (owner, _, _fds):
        # The mapping of the regions counts as shared, so what is private is the owner's.
        before, used = _private(process), owner.stats()["used_bytes"]
        for batch in _batches(commands):
            owner.execute(encode_commands(batch))
            owner.tick()
        return float(owner.stats()["used_bytes"] - used + max(0, _private(process) - before))


def _private(process: psutil.Process) -> int:
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


def _bytes_there(commands: Iterator[tuple[Any, ...]]) -> float:
    with redis_server() as (redis, _):
        before = redis.info("memory")["used_memory"]
        for batch in _batches(commands):
            pipe = redis.pipeline(transaction=False)
            for command in batch:
                pipe.execute_command(*command)
            pipe.execute()
        return float(redis.info("memory")["used_memory"] - before)


def _batches(commands: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for command in commands:
        batch.append(command)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
