"""Prepared groups of two shards, and an owner of both that dies at any point of them."""

import os
import signal
from collections.abc import Iterator

import msgpack
import pytest

from shmcache import _engine
from tests.engine.regions import Regions, new_regions, unpack

TOKEN = 0x1234_5678_9ABC_DEF1
KEYS = [b"k%d" % number for number in range(6)]
LARGE = b"l" * 50_000
POINTS = [
    *("EntryWritten", "LogTailMoved", "PreparedWritten", "GroupPrepared", "DecisionNoted", "PreparedPublished"),
    *("BucketOdd", "WordSwung", "BucketEven", "EntryFreed", "GroupHalfApplied", "Applied", "OverflowLinked"),
]


@pytest.fixture
def two() -> Iterator[list[Regions]]:
    """Shard 0, which decides, and shard 1; with a log that wraps, and values that are only named in it."""
    made = [new_regions(), new_regions()]
    for shard, regions in enumerate(made):
        owner = regions.create(shard=shard, shards=2, log_bytes=64 << 10)
        for key in KEYS:
            owner.command("SET", key, "old")
        for number in range(300):
            owner.command("SET", "filler", b"f" * number)
        owner.close()
    yield made
    for regions in made:
        regions.close()


def batch(*commands: tuple[object, ...]) -> bytes:
    packed: bytes = msgpack.packb([list(command) for command in commands])
    return packed


def values(owner: _engine.Owner) -> list[bytes | None]:
    return [owner.command("GET", key) for key in KEYS]


NEW = [b"new", b"new", b"new", None, None, LARGE]
CHANGES = batch(*(("SET", key, "new") for key in KEYS[:3]), *(("DEL", key) for key in KEYS[3:5]), ("SET", KEYS[5], LARGE), ("RPUSH", "list", *range(200)))


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("point", POINTS)
def test_both_or_none(two: list[Regions], point: str, after: int) -> None:
    """Wherever the owner dies: asked what was decided, both shards have all of it or nothing."""
    if not (child := os.fork()):
        owners = [regions.attach() for regions in two]
        _engine.arm_fail_point(point, after)
        for owner in owners:
            owner.prepare(CHANGES, TOKEN, 0)
        owners[0].commit_prepared([1])
        owners[1].commit_prepared()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert died or after or point in ("LogTailMoved", "OverflowLinked"), "the point was not reached"
    first = two[0].attach()
    outcome = _engine.Decisions(two[0].data).outcome(TOKEN, 1)
    assert outcome is not None
    second = _engine.Owner.attach(two[1].data, two[1].hints, two[1].log, outcome)
    for owner in (first, second):
        owner.verify()
        assert values(owner) == (NEW if outcome else [b"old"] * 6)
        assert owner.command("LLEN", "list") == (200 if outcome else 0)
        assert owner.prepared == 0
        owner.command("SET", "after", 1)
        owner.verify()
    assert died or outcome


def test_what_is_held_is_not_seen(two: list[Regions]) -> None:
    """Nor logged; abandoned it leaves no trace, in the log's numbers either."""
    owner = two[0].attach()
    tailer = _engine.LogTailer(two[0].log, "test")
    before = owner.log_position, owner.digest(), owner.stats()["log_seq"]
    results = unpack(owner.prepare(CHANGES, TOKEN, 0))
    assert results == ["OK"] * 3 + [1, 1, "OK", 200]
    assert owner.prepared == TOKEN
    assert _engine.Decisions(two[0].data).prepared == (TOKEN, 0)
    assert two[0].reader().get(KEYS[0]) == b"old"
    assert tailer.poll() == b""
    owner.abandon_prepared()
    assert (owner.log_position, owner.digest(), owner.stats()["log_seq"]) == before
    owner.verify()
    owner.command("SET", "next", 1)
    assert b"next" in tailer.poll()
    owner.prepare(CHANGES, TOKEN + 2, 0)
    owner.commit_prepared([1])
    assert b"new" in tailer.poll()
    assert values(owner) == NEW


def test_misuse(two: list[Regions]) -> None:
    """One at a time, with a token; a refused one is not held."""
    owner = two[0].attach()
    with pytest.raises(_engine.EngineError):
        owner.prepare(CHANGES, 0, 0)
    with pytest.raises(_engine.EngineError):
        owner.prepare_group(TOKEN, 0)
    owner.begin_group()
    owner.command("SET", KEYS[0], "new")
    owner.prepare_group(TOKEN, 0)
    with pytest.raises(_engine.EngineError):
        owner.prepare(CHANGES, TOKEN + 2, 0)
    owner.abandon_prepared()
    owner.abandon_prepared()
    owner.commit_prepared()
    assert values(owner) == [b"old"] * 6
    too_large = batch(*(("SET", f"x{number}", bytes(3_000)) for number in range(20)))
    assert {result.code for result in unpack(owner.prepare(too_large, TOKEN, 0))} == {"LIMIT"}
    assert owner.prepared == 0
    with pytest.raises(_engine.EngineError):
        _engine.Decisions(two[0].log)
