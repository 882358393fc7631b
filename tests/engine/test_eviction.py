"""Eviction and reclaiming: each policy keeps the memory limit, takes what it may, spares what it should."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shmcache import _engine
from tests.engine.regions import Regions, execute, regions, settle

LIMIT_BYTES = 4 << 20
VALUE = b"v" * 200
FILL = 40_000
"""Keys of that size that do not fit into the limit."""
EVICTING = [policy for policy in _engine.POLICIES if policy != "noeviction"]
VOLATILE = [policy for policy in EVICTING if policy.startswith("volatile")]


@contextmanager
def shard(policy: str, **options: int) -> Iterator[tuple[Regions, _engine.Owner]]:
    """A small shard whose accounts are checked at the end."""
    with regions() as made:
        owner = made.create(LIMIT_BYTES, policy=policy, **options)
        yield made, owner
        settle(owner)
        owner.verify()
        owner.close()


def fill(owner: _engine.Owner, prefix: bytes, count: int, *options: object, tick: bool = False) -> int:
    """Set that many keys; returns how many were refused."""
    refused = 0
    for start in range(0, count, 100):
        batch = [
            (b"SET", b"%s:%d" % (prefix, n), VALUE, *options) for n in range(start, min(start + 100, count))
        ]
        refused += sum(result != "OK" for result in execute(owner, batch))
        if tick:
            owner.tick()
    return refused


def alive(owner: _engine.Owner, prefix: bytes, count: int) -> list[int]:
    names = [b"%s:%d" % (prefix, n) for n in range(count)]
    return [n for n, name in enumerate(names) if owner.command("EXISTS", name)]


@pytest.mark.parametrize("policy", EVICTING)
def test_memory_stays_under_the_limit(policy: str):
    """Every policy makes room for new keys, and never counts more than the limit."""
    with shard(policy) as (_, owner):
        for start in range(4):
            assert fill(owner, b"k%d" % start, FILL // 4, "EX", 1000 + start) == 0
            stats = owner.stats()
            assert stats["used_bytes"] <= LIMIT_BYTES
        assert stats["evicted"] > FILL // 4
        assert stats["keys"] + stats["evicted"] == FILL
        assert owner.command("GET", b"k3:%d" % (FILL // 4 - 1)) == VALUE


@pytest.mark.parametrize("policy", VOLATILE)
def test_volatile_policies_spare_keys_without_deadline(policy: str):
    """Only keys with a deadline go; when there are none left, writes fail and nothing is lost."""
    with shard(policy) as (_, owner):
        keep = 2000
        assert fill(owner, b"keep", keep) == 0
        assert fill(owner, b"go", FILL // 4, "EX", 1000) == 0
        assert len(alive(owner, b"keep", keep)) == keep
        assert fill(owner, b"more", 15_000, "KEEPTTL") > 0
        assert len(alive(owner, b"keep", keep)) == keep
        assert alive(owner, b"go", FILL // 4) == []
        assert owner.stats()["used_bytes"] <= LIMIT_BYTES


def test_noeviction_refuses_writes_and_reads_on():
    """At the limit a write that needs memory is OOM; what is there stays; a delete makes room."""
    with shard("noeviction") as (made, owner):
        refused = fill(owner, b"k", FILL)
        kept = FILL - refused
        assert 0 < kept < FILL
        assert owner.stats()["evicted"] == 0
        with pytest.raises(_engine.CommandError) as caught:
            owner.command("SET", "large", b"l" * 100_000)
        assert caught.value.code == "OOM"
        assert len(alive(owner, b"k", FILL)) == kept
        assert made.reader().get(b"k:0") == VALUE
        assert owner.command("DEL", *[b"k:%d" % n for n in range(2000)]) == 2000
        assert owner.command("SET", "large", b"l" * 100_000) == "OK"
        assert owner.stats()["used_bytes"] <= LIMIT_BYTES


def test_policy_and_limit_change_live():
    """noeviction -> allkeys-lru makes room at once; a lower limit is reached by housekeeping."""
    with shard("noeviction") as (_, owner):
        assert fill(owner, b"k", FILL) > 0
        owner.configure(policy="allkeys-lru")
        assert fill(owner, b"new", 2000) == 0
        owner.configure(memory_bytes=LIMIT_BYTES // 2)
        settle(owner)
        fill(owner, b"newer", 200)
        assert owner.stats()["used_bytes"] <= LIMIT_BYTES // 2
        owner.configure(policy="noeviction", memory_bytes=LIMIT_BYTES)
        assert fill(owner, b"newest", FILL) > 0
        with pytest.raises(_engine.EngineError, match="policy"):
            owner.configure(policy="nosuch")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "volatile-lru", "volatile-lfu"])
def test_keys_that_only_readers_touch_stay(policy: str):
    """Marks of lock-free readers reach eviction: keys that only they use survive a flood."""
    with shard(policy) as (made, owner):
        hot, cold = 500, 5000
        fill(owner, b"hot", hot, "EX", 5000)
        fill(owner, b"cold", cold, "EX", 5000)
        reader = made.reader()
        names = [b"hot:%d" % n for n in range(hot)]
        for round_ in range(FILL // 400):
            for _ in range(3):
                reader.mget(names)
            fill(owner, b"flood%d" % round_, 400, "EX", 5000, tick=True)
        stats = owner.stats()
        hits_by_owner = stats["hits"] - stats["local_hits"]
        hot_left, cold_left = len(alive(owner, b"hot", hot)) / hot, len(alive(owner, b"cold", cold)) / cold
        assert hits_by_owner == 0, "only readers read"
        assert hot_left > 0.9, f"{hot_left:.0%} of the hot keys left, {cold_left:.0%} of the cold"
        # By frequency the cold keys, used once, are worth as much as the flood's.
        assert policy.endswith("lfu") or cold_left < 0.3


def test_random_takes_any():
    """allkeys-random neither keeps nor prefers: what is read goes as everything else does."""
    with shard("allkeys-random") as (made, owner):
        fill(owner, b"old", 5000)
        reader = made.reader()
        for round_ in range(20):
            reader.mget([b"old:%d" % n for n in range(5000)])
            fill(owner, b"flood%d" % round_, 1000)
        left = len(alive(owner, b"old", 5000))
        assert 0 < left < 4000


def test_ttl_takes_the_nearest_deadlines():
    """volatile-ttl, by sampling: of the nearest deadlines most are gone; by chance two thirds would stay."""
    with shard("volatile-ttl") as (_, owner):
        count = 10_000
        order = [n * 7919 % count for n in range(count)]
        for n in order:
            owner.command("SET", b"k:%d" % n, VALUE, "EX", 1000 + n)
        fill(owner, b"late", 10_000, "EX", 100_000)
        left = alive(owner, b"k", count)
        gone = count - len(left)
        assert gone > 1000
        wrongly = sum(n < gone for n in left)
        assert wrongly < gone * 0.35, f"{wrongly} of the {gone} nearest deadlines are still there"


def test_expired_memory_comes_back_unread():
    """Within a second of the deadline the memory is free, by ticks alone; other keys are untouched."""
    with shard("noeviction") as (_, owner):
        fill(owner, b"stay", 1000)
        before = owner.stats()["heap_used_bytes"]
        fill(owner, b"go", 8000, "PX", 300)
        assert owner.stats()["keys"] == 9000
        end = time.monotonic() + 1.3
        while owner.stats()["keys"] > 1000 and time.monotonic() < end + 1:
            owner.tick()
            time.sleep(0.02)
        assert time.monotonic() < end, "the expired keys are still there a second later"
        assert owner.stats()["heap_used_bytes"] <= before
        assert owner.stats()["expired"] == 8000
        assert len(alive(owner, b"stay", 1000)) == 1000
