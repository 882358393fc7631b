"""Time to own and to map a warm region, and what a write costs the owner with its log record."""

import time

from shmcache import _engine
from shmcache.protocol.codec import encode_commands

from .region import VALUE, allocated_bytes, engine, fill, key_of, memory_for
from .suite import Row

COST_KEYS = 10_000
COST_ROUNDS = 20


def run(keys: int) -> list[Row]:
    """A worker's attach after a kill (the owner is dropped without a word) and after a clean stop, and a client's mapping."""
    with engine(memory_for(keys)) as (owner, _, fds):
        fill(owner, keys)
        size = f"{allocated_bytes(fds) / (1 << 30):.2f} GB, {keys:,} keys"
        cost = _write_cost_ns(owner, keys)
        # Nobody says goodbye: what a killed worker leaves is what stands in the regions now.
        killed, answer = _attach(fds, keys)
        rebuilt = _rebuild_s(killed)
        killed.close()
        attached, clean = _attach(fds, keys)
        started = time.perf_counter()
        reader = _engine.Reader([fds[:2]], bytes(_engine.SLOT_COUNT * 2))
        found = reader.get(key_of(keys // 2))
        mapped = time.perf_counter() - started
        assert found == VALUE
        attached.close()
    return [
        Row("owner attaches after kill -9, first answer", answer * 1000, "ms", "<= 500 at 10 GB", note=size),
        Row("the walk of the index, in slices, while it serves", rebuilt * 1000, "ms", note=size),
        Row("owner attaches after a clean stop, first answer", clean * 1000, "ms", "<= 500 at 10 GB", note=size),
        Row("client maps and reads its first key", mapped * 1000, "ms", "<= 500 at 10 GB", note=size),
        Row("one overwriting SET in a batch, log record included", cost, "ns", note="per command, decoding included"),
    ]


def _attach(fds: tuple[int, int, int], keys: int) -> tuple[_engine.Owner, float]:
    """The new owner, and the seconds until it has answered a GET and a SET."""
    started = time.perf_counter()
    owner = _engine.Owner.attach(*fds)
    assert owner.command(b"GET", key_of(keys // 2)) == VALUE
    owner.command(b"SET", key_of(keys // 2), VALUE)
    return owner, time.perf_counter() - started


def _rebuild_s(owner: _engine.Owner) -> float:
    started = time.perf_counter()
    while owner.tick():
        pass
    return time.perf_counter() - started


def _write_cost_ns(owner: _engine.Owner, keys: int) -> float:
    """Best of several rounds: the machine's other work only adds to it."""
    count = min(keys, COST_KEYS)
    batches = [
        encode_commands([(b"SET", key_of(n), VALUE) for n in range(start, min(count, start + 100))]) for start in range(0, count, 100)
    ]
    best = float("inf")
    for _ in range(COST_ROUNDS):
        started = time.perf_counter_ns()
        for batch in batches:
            owner.execute(batch)
        best = min(best, (time.perf_counter_ns() - started) / count)
    return best
