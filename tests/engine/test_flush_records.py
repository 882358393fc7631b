"""The flushes that a shard remembers, as records for a full copy: what they would have deleted or kept away does not survive it."""

import mmap
import multiprocessing
import time

from shmcache import _engine
from tests.engine.writers import Writer, Writers

LIFE_MS = 3_600_000
HALF = _engine.SLOT_COUNT // 2
LOW = bytes([255] * (HALF // 8) + [0] * (HALF // 8))
KEYS = [b"key:%d" % number for number in range(300)]
FORK = multiprocessing.get_context("fork")


def copy(source: Writer, target: Writer) -> None:
    """A full copy that is merged in, as between two-way peers: the flushes first."""
    reader, cursor = source.regions.reader(), 0
    target.owner.apply(reader.flush_records(0))
    while True:
        cursor, _, records = reader.sync_slice(0, cursor, 1 << 20)
        target.owner.apply(records)
        if not cursor:
            return


def node(writers: Writers, number: int) -> Writer:
    return writers(node=number, tombstone_life_ms=LIFE_MS)


def test_a_copy_brings_a_flush_that_the_log_no_longer_has(writers: Writers):
    """What is older than it goes, what is newer stays, and late records from before it are refused."""
    one, two, three = (node(writers, number) for number in (1, 2, 3))
    for key in KEYS:
        one.command("SET", key, "v")
    before = one.news()
    two.owner.apply(before)
    one.command("FLUSHALL")
    one.command("SET", "after", "1")
    flush = one.news()
    two.command("SET", "meanwhile", "2")
    copy(one, two)
    assert sorted(two.command("KEYS", "*")) == [b"after", b"meanwhile"]
    assert two.owner.apply(flush) == 0, "it knows the flush"
    assert two.owner.apply(before) == 0
    three.owner.apply(before)
    three.owner.apply(two.news())
    assert sorted(three.command("KEYS", "*")) == [b"after", b"meanwhile"], "it is in the copy's own log, for its followers"
    two.owner.verify()


def test_copies_both_ways_come_to_rest_equal(writers: Writers):
    one, two = node(writers, 1), node(writers, 2)
    for key in KEYS:
        one.command("SET", key, "v")
    copy(one, two)
    one.owner.set_slots(LOW)
    one.command("FLUSHALL")
    two.command("SET", KEYS[0], "newer")
    for _ in range(2):
        copy(two, one)
        copy(one, two)
    assert one.owner.digest() == two.owner.digest()
    kept = sum(_engine.key_slot(key) >= HALF or key == KEYS[0] for key in KEYS)
    assert two.command("DBSIZE") == one.command("DBSIZE") == kept
    for writer in (one, two):
        writer.news()
    copy(two, one)
    copy(one, two)
    assert one.news() == two.news() == b"", "the same once more is no news"


def test_records_are_the_flushes_by_origin(writers: Writers):
    """One for each flush, whatever the ranges that it takes; all slots are told as none. Without a node there are none."""
    writer = node(writers, 7)
    assert writer.regions.reader().flush_records(0) == b""
    holes = bytes([0x55] * 4 + [0] * 2044)
    writer.owner.set_slots(holes)
    writer.command("FLUSHALL")
    writer.owner.set_slots(LOW)
    first = writer.records()
    found = _engine.decode_records(writer.regions.reader().flush_records(0))
    assert [(row.kind, row.value, row.stamp, row.node, row.seq) for row in found] == [("flush", holes, first[0].stamp, 7, 0)]
    writer.owner.set_slots(bytes([255] * 2048))
    writer.command("FLUSHALL")
    (whole,) = _engine.decode_records(writer.regions.reader().flush_records(0))
    assert whole.value == b""
    single = writers()
    single.command("FLUSHALL")
    assert single.regions.reader().flush_records(0) == b""


def flush_for_ever(writer: Writer, stop: object) -> None:
    owner, number = writer.regions.attach(), 0
    while not stop.is_set():  # type: ignore[attr-defined]
        number += 1
        bitmap = bytearray(2048)
        for slot in range(number % 7, 300, 2 + number % 5):
            bitmap[slot // 8] |= 1 << slot % 8
        owner.set_slots(bytes(bitmap))
        owner.command("FLUSHALL")
    owner.close()


def test_read_while_the_owner_flushes(writers: Writers):
    """Never a mixture of two marks: each record's stamp is one that a flush had, with slots of that flush."""
    writer = writers(node=1, tombstone_life_ms=LIFE_MS, log_bytes=64 << 20)
    reader, stop = writer.regions.reader(), FORK.Event()
    writer.owner.close()
    flusher = FORK.Process(target=flush_for_ever, args=(writer, stop))
    flusher.start()
    seen = set()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        seen |= {(row.stamp, row.value) for row in _engine.decode_records(reader.flush_records(0))}
    stop.set()
    flusher.join()
    writer.owner = writer.regions.attach()
    scopes = {record.stamp: int.from_bytes(record.value, "little") for record in writer.records()}
    assert len(scopes) > 100
    assert len(seen) > 100
    for stamp, value in seen:
        assert not int.from_bytes(value, "little") & ~scopes[stamp]


def test_damaged_marks_are_left_out(writers: Writers):
    """Whatever stands in the header, what comes out can be applied."""
    writer = node(writers, 1)
    writer.command("FLUSHALL")
    with mmap.mmap(writer.regions.data, 4096) as header:
        header[512 + 8 : 512 + 16] = (0xFFFF_FFFF_FFFF).to_bytes(8, "little")
    assert writer.regions.reader().flush_records(0) == b""
