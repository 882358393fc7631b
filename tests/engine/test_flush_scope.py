"""A flush concerns slots: those of the shard that was flushed, whatever the shards of a copy are."""

import pytest

from shmcache import _engine
from tests.engine.writers import Writer, Writers

HALF = _engine.SLOT_COUNT // 2
LOW = bytes([255] * (HALF // 8) + [0] * (HALF // 8))
HIGH = bytes([0] * (HALF // 8) + [255] * (HALF // 8))
KEYS = [b"key:%d" % number for number in range(300)]


def fill(writer: Writer, low: bool | None = None) -> None:
    for key in KEYS:
        if low is None or (_engine.key_slot(key) < HALF) == low:
            writer.command("SET", key, "v")


def test_flush_tells_its_slots(writers: Writers):
    """Its value in the log: nothing for an owner of everything, else the owner's bitmap."""
    writer = writers()
    writer.command("FLUSHALL")
    writer.owner.set_slots(LOW)
    writer.command("FLUSHALL")
    assert [record.value for record in writer.records()] == [b"", LOW]


@pytest.mark.parametrize("reattached", [False, True])
def test_copy_with_other_shards_loses_only_what_was_flushed(writers: Writers, reattached: bool):
    """Two shards of a primary go into one of a copy: a flush of one leaves the other's keys."""
    low, high, copy = writers(), writers(), writers()
    low.owner.set_slots(LOW)
    high.owner.set_slots(HIGH)
    fill(low, True)
    fill(high, False)
    copy.owner.apply(low.news())
    copy.owner.apply(high.news())
    assert copy.command("DBSIZE") == len(KEYS)
    if reattached:
        low.reattach()
        low.owner.set_slots(LOW)
    low.command("FLUSHALL")
    assert low.command("DBSIZE") == 0
    news = low.news()
    assert copy.owner.apply(news) == 1
    assert copy.owner.digest() == high.owner.digest()
    assert [record.kind for record in copy.records()][-1] == "flush"
    assert copy.owner.apply(news) == 0, "it has nothing left to do"
    copy.owner.verify()


def test_entries_of_other_slots_survive_a_local_flush(writers: Writers):
    """Also right after the slots were changed, or foreign records came in."""
    writer, other = writers(), writers()
    fill(writer)
    writer.owner.set_slots(LOW)
    low = sum(_engine.key_slot(key) < HALF for key in KEYS)
    writer.command("FLUSHALL")
    assert writer.command("DBSIZE") == len(KEYS) - low
    writer.owner.set_slots(HIGH)
    writer.command("FLUSHALL")
    assert writer.command("DBSIZE") == 0
    fill(other, True)
    writer.owner.apply(other.news())
    writer.command("FLUSHALL")
    assert writer.command("DBSIZE") == low
    writer.owner.verify()


def test_older_flush_spares_what_is_newer(writers: Writers):
    """A flush that arrives late deletes only what is older than it."""
    flusher, copy = writers(), writers()
    copy.command("SET", "older", "v")
    flusher.owner.apply(copy.news())
    flusher.command("FLUSHALL")
    late = flusher.news()
    newer = writers()
    newer.owner.apply(late)
    newer.news()
    newer.command("SET", "newer", "v")
    copy.owner.apply(newer.news())
    assert sorted(copy.command("KEYS", "*")) == [b"newer", b"older"]
    assert copy.owner.apply(late) == 1
    assert copy.command("KEYS", "*") == [b"newer"]


def test_damaged_scope_is_refused(writers: Writers):
    """A bitmap of another length is no scope: the mark functions and set_slots say so."""
    writer = writers()
    for call in (
        lambda: writer.owner.set_slots(b"x"),
        lambda: writer.owner.mark_stale(0, b"x", 100),
        lambda: writer.owner.sweep_stale(0, b"", 100),
    ):
        with pytest.raises(_engine.EngineError, match="2048"):
            call()
