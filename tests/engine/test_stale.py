"""Marks of a full sync: what the primary does not confirm goes, the rest is served all the time."""

from collections.abc import Callable

from shmcache import _engine
from tests.engine.writers import Writer, Writers

HALF = _engine.SLOT_COUNT // 2
LOW = bytes([255] * (HALF // 8) + [0] * (HALF // 8))


def mark(writer: Writer, slots: bytes | None = None, between: Callable[[], object] = lambda: None) -> int:
    """Mark everything, in the smallest slices; how many it took."""
    cursor, slices = writer.owner.mark_stale(0, slots, 0), 1
    while cursor:
        between()
        cursor, slices = writer.owner.mark_stale(cursor, slots, 0), slices + 1
    return slices


def sweep(writer: Writer, slots: bytes | None = None) -> int:
    cursor, deleted = writer.owner.sweep_stale(0, slots, 0)
    while cursor:
        cursor, more = writer.owner.sweep_stale(cursor, slots, 0)
        deleted += more
    return deleted


def test_full_sync_leaves_what_the_primary_has(writers: Writers):
    """Confirmed entries stay without a word in the log, changed ones are replaced, others deleted."""
    primary, replica = writers(log_bytes=16 << 20), writers(log_bytes=16 << 20)
    for number in range(5000):
        primary.command("SET", b"k%d" % number, b"v")
    snapshot = primary.news()
    replica.owner.apply(snapshot)
    extra = writers()
    for number in range(100):
        extra.command("SET", b"extra%d" % number, b"v")
    replica.owner.apply(extra.news())
    primary.command("SET", "k7", "other")
    snapshot += primary.news()
    replica.owner.configure(replica=True)
    replica.news()
    before = replica.owner.digest()
    assert mark(replica) > 5, "in slices"
    assert replica.owner.digest() == before
    assert replica.regions.reader().get("extra5") == b"v"
    assert replica.owner.apply(snapshot) == 1
    assert [record.key for record in replica.records()] == [b"k7"]
    assert sweep(replica) == 100
    assert {record.kind for record in replica.records()} == {"delete"}
    assert replica.owner.digest() == primary.owner.digest()
    assert sweep(replica) == 0
    replica.owner.verify()


def test_stale_entries_lose_to_older_records(writers: Writers):
    """An old primary's last writes do not outlive the sync, nor in a copy fed from the replica's log."""
    new_primary, old_primary, replica, copy = (writers() for _ in range(4))
    new_primary.command("SET", "k", "kept")
    new_primary.command("SET", "gone", "v")
    new_primary.command("DEL", "gone")
    news = new_primary.news()
    old_primary.owner.apply(news)
    old_primary.command("SET", "k", "lost", "PXAT", 4_102_444_800_000)
    old_primary.command("SET", "gone", "lost")
    replica.owner.apply(old_primary.news())
    copy.owner.apply(replica.news())
    mark(replica)
    assert replica.owner.apply(news) == 3
    sweep(replica)
    copy.owner.apply(replica.news())
    assert replica.owner.digest() == new_primary.owner.digest() == copy.owner.digest()
    assert replica.command("GET", "k") == b"kept"


def test_deadline_of_a_stale_entry_is_ignored(writers: Writers):
    """Which value it belongs to is not known."""
    primary, replica = writers(), writers()
    primary.command("SET", "k", "v", "PXAT", 4_102_444_800_000)
    first = primary.news()
    replica.owner.apply(first)
    primary.command("PEXPIREAT", "k", 4_102_444_800_001)
    mark(replica)
    assert replica.owner.apply(primary.news()) == 0
    assert replica.command("PEXPIRETIME", "k") == 4_102_444_800_000


def test_only_the_slots_that_are_meant(writers: Writers):
    """Marking and sweeping keep to the bitmap."""
    writer = writers()
    keys = [b"key:%d" % number for number in range(200)]
    for key in keys:
        writer.command("SET", key, "v")
    mark(writer, LOW)
    assert sweep(writer, bytes(2048)) == 0
    low = sum(_engine.key_slot(key) < HALF for key in keys)
    assert sweep(writer) == low
    assert writer.command("DBSIZE") == len(keys) - low
    writer.owner.verify()


def test_writes_during_the_marking_are_not_swept(writers: Writers):
    """Neither new keys nor new values, while the index grows under the walk; and old ones are all found."""
    writer = writers()
    for number in range(3000):
        writer.command("SET", b"old%d" % number, "v")
    count = 0

    def write() -> None:
        nonlocal count
        for _ in range(100):
            writer.command("SET", b"new%d" % count, "v")
            count += 1

    mark(writer, between=write)
    writer.command("SET", "old1", "again")
    assert count > 500
    assert sweep(writer) == 2999
    assert writer.command("DBSIZE") == count + 1
    assert writer.command("GET", "old1") == b"again"
    writer.owner.verify()


def test_the_same_stamp_does_not_make_two_values_one(writers: Writers):
    """Two primaries gave it at once, one of them already replaced: the lost value must not pass as confirmed."""
    new_primary, old_primary = writers(), writers()
    equal = []
    for number in range(2000):
        key = b"k%d" % number
        new_primary.command("SET", key, "kept")
        old_primary.command("SET", key, "lost")
        (kept,), (lost,) = new_primary.records(), old_primary.records()
        equal += [key] if kept.stamp == lost.stamp else []
    assert equal, "both count from the same millisecond"
    reader, cursor = new_primary.regions.reader(), 0
    mark(old_primary)
    while True:
        cursor, _, records = reader.sync_slice(0, cursor, 1 << 20)
        old_primary.owner.apply(records)
        if not cursor:
            break
    sweep(old_primary)
    assert [old_primary.command("GET", key) for key in equal] == [b"kept"] * len(equal)
    assert old_primary.owner.digest() == new_primary.owner.digest()


def test_a_successor_goes_on_marking_where_the_dead_owner_was(writers: Writers):
    """A worker that is killed in the middle of the marking: the rest is asked of the next one, by the cursor, and nothing escapes."""
    writer = writers()
    for number in range(5000):
        writer.command("SET", b"old%d" % number, "v")
    writer.owner.configure(replica=True)
    cursor = writer.owner.mark_stale(0, None, 0)
    for _ in range(3):
        cursor = writer.owner.mark_stale(cursor, None, 0)
    assert cursor
    writer.reattach()
    while cursor:
        cursor = writer.owner.mark_stale(cursor, None, 0)
    assert sweep(writer) == 5000
    assert writer.command("DBSIZE") == 0
    writer.owner.verify()
