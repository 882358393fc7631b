"""A group takes effect as a group in the copy too, and stands as one in the copy's log."""

import os
import signal
import time

import pytest

from shmcache import _engine
from tests.engine.regions import execute
from tests.engine.writers import Writer, Writers


def group(writer: Writer, *commands: tuple[object, ...]) -> None:
    execute(writer.owner, commands, _engine.FLAG_TRANSACTION)


def test_groups_stay_groups(writers: Writers):
    """Sets and deletions of one transaction are one group in the log of whoever applies them."""
    origin, relay, last = writers(), writers(), writers()
    for key in ("gone", "stays"):
        origin.command("SET", key, "old")
    relay.owner.apply(origin.news())
    last.owner.apply(relay.news())
    group(
        origin,
        ("SET", "a", "1"),
        ("DEL", "gone"),
        ("PEXPIREAT", "stays", 4_102_444_800_000),
        ("SET", "b", "2"),
    )
    records = origin.news()
    assert relay.owner.apply(records) == 4
    relayed = relay.news()
    assert [record.more for record in _engine.decode_records(relayed)] == [True, True, True, False]
    last.owner.apply(relayed)
    assert origin.owner.digest() == relay.owner.digest() == last.owner.digest()
    assert relay.owner.apply(records) == 0
    assert relay.news() == b"", "nothing of it is new"


def test_records_of_a_group_keep_their_own_events(writers: Writers):
    """What a subscriber to the copy's key events hears of a move or a transaction is what the origin's hear."""
    origin, copy = writers(), writers()
    origin.command("RPUSH", "{t}from", "a", "b")
    copy.owner.apply(origin.news())
    copy.news()
    origin.command("LMOVE", "{t}from", "{t}to", "LEFT", "RIGHT")
    group(origin, ("SET", "one", "1"), ("INCR", "two"), ("RPUSH", "three", "x"))
    origin.command("SET", "last", "1")
    records = origin.news()
    told = [(record.key, record.event) for record in _engine.decode_records(records)]
    assert {event for _, event in told} >= {"rpush", "set", "incrby"}
    copy.owner.apply(records)
    assert [(record.key, record.event) for record in copy.records()] == told


def test_only_what_is_newer_of_a_group_counts(writers: Writers):
    """The parts of a group that the copy has newer are left out; the rest is still one group."""
    one, two = writers(node=1), writers(node=2)
    group(one, ("SET", "a", "1"), ("SET", "b", "1"), ("SET", "c", "1"))
    time.sleep(0.002)  # stamps of two owners are ordered by their clocks
    two.command("SET", "b", "newer")
    news = two.news()
    assert two.owner.apply(one.news()) == 2
    assert [(record.key, record.more) for record in two.records()] == [(b"a", True), (b"c", False)]
    one.owner.apply(news)
    assert one.owner.digest() == two.owner.digest()


def test_unfinished_group_is_refused(writers: Writers):
    """A call that ends inside a group is an error; the groups before it count, nothing of it does."""
    origin, copy = writers(), writers()
    origin.command("SET", "single", "v")
    whole = origin.news()
    group(origin, ("SET", "a", "1"), ("SET", "b", "1"))
    part = origin.news()
    half = part[: len(part) // 2]
    assert len(_engine.decode_records(half)) == 1
    with pytest.raises(_engine.EngineError, match="middle of a group"):
        copy.owner.apply(whole + half)
    assert copy.command("KEYS", "*") == [b"single"]
    assert copy.owner.apply(part) == 2


def test_group_too_large_for_the_own_log_is_applied_in_parts(writers: Writers):
    """The copy's ring is smaller: the records go in one by one."""
    origin, copy = writers(), writers(log_bytes=64 << 10)
    group(origin, *(("SET", b"k%d" % number, b"v" * 1000) for number in range(100)))
    assert copy.owner.apply(origin.news()) == 100
    assert copy.owner.digest() == origin.owner.digest()
    copy.owner.verify()


@pytest.mark.parametrize(
    "point", ["EntryWritten", "LogWritten", "GroupLogged", "GroupHalfApplied", "EntryFreed"]
)
@pytest.mark.parametrize("after", [0, 3])
def test_kill_leaves_all_or_nothing_of_a_group(writers: Writers, point: str, after: int):
    """Wherever the applying owner dies: after recovery the whole group is there, or nothing of it."""
    origin, copy = writers(node=3), writers(node=4)
    keys = [b"k%d" % number for number in range(8)]
    for key in keys:
        origin.command("SET", key, "old")
    copy.owner.apply(origin.news())
    old = copy.owner.digest()
    group(origin, *(("SET", key, "new" * 10) for key in keys[:5]), *(("DEL", key) for key in keys[5:]))
    news = origin.news()
    if not (child := os.fork()):
        _engine.arm_fail_point(point, after)
        copy.owner.apply(news)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert died or (point in ("LogWritten", "GroupLogged", "EntryFreed") and after), (
        "the point was not reached"
    )
    copy.reattach()
    copy.owner.verify()
    assert copy.owner.digest() in (old, origin.owner.digest())
    copy.owner.apply(news)
    assert copy.owner.digest() == origin.owner.digest()
