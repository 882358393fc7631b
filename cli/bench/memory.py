"""Bytes per key above key and value, of all regions together, against Redis."""

from .peers import PeerMissing, redis_server
from .region import VALUE, allocated_bytes, engine, fill, key_of, memory_for
from .suite import Row, missing

DATA_BYTES = len(key_of(0)) + len(VALUE)


def run(keys: int) -> list[Row]:
    """The write log's ring has a fixed size and is not counted."""
    with engine(memory_for(keys)) as (owner, _, (data, hints, _log)):
        empty = allocated_bytes((data, hints))
        fill(owner, keys)
        stats = owner.stats()
        ours = stats["used_bytes"] / keys - DATA_BYTES
        committed = (allocated_bytes((data, hints)) - empty) / keys - DATA_BYTES
    rows = [Row("heap as committed, index and hints", committed, "bytes/key", "<= 32")]
    try:
        with redis_server() as (redis, _):
            before = redis.info("memory")["used_memory"]
            for start in range(0, keys, 10_000):
                redis.mset({key_of(n): VALUE for n in range(start, min(keys, start + 10_000))})
            theirs = (redis.info("memory")["used_memory"] - before) / keys - DATA_BYTES
        rows.append(Row("as the accounts have it", ours, "bytes/key", "<= 32", "Redis", theirs, theirs / ours))
    except PeerMissing as reason:
        rows += [Row("as the accounts have it", ours, "bytes/key", "<= 32"), missing("memory", "Redis", str(reason))]
    return rows
