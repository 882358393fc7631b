"""Digests per slot: equal on hosts with the same entries, and what differs is found by name."""

import contextlib
import random
import struct
import threading
import time

import pytest

from shmcache import _engine
from tests.engine.regions import Regions, regions

MEMORY_BYTES = 64 << 20
SLOTS = _engine.SLOT_COUNT
ALL_SLOTS = b"\xff" * (SLOTS // 8)
MASK = (1 << 64) - 1


def now() -> int:
    return int(time.time() * 1000)


def bitmap(*slots: int) -> bytes:
    bits = bytearray(SLOTS // 8)
    for slot in slots:
        bits[slot // 8] |= 1 << slot % 8
    return bytes(bits)


def digests(made: Regions, at: int | None = None) -> tuple[int, ...]:
    for _ in range(100):
        # A writer that lost its core in the middle of a change: whoever compares asks again.
        with contextlib.suppress(_engine.Busy):
            return struct.unpack(f"<{SLOTS}Q", made.reader().slot_digests(0, at or now()))
        time.sleep(0.01)
    raise AssertionError("a bucket stays busy")


def copy(made: Regions, other: Regions) -> _engine.Owner:
    """A replica, by a full copy."""
    replica = other.create(MEMORY_BYTES)
    cursor, reader = 0, made.reader()
    while True:
        cursor, _, records = reader.sync_slice(0, cursor, 10_000)
        replica.apply(records)
        if cursor == 0:
            return replica


def fill(owner: _engine.Owner, keys: int = 3000) -> None:
    chance = random.Random(11)
    for number in range(keys):
        options = ("PX", 10_000_000 + number) if number % 3 == 0 else ()
        owner.command("SET", b"k%d" % number, chance.randbytes(chance.randrange(300)), *options)
    for size in (65_535, 65_536, 65_537, 200_001):
        owner.command("SET", b"large:%d" % size, chance.randbytes(size))


def test_a_copy_has_the_same_digests():
    """Whatever the hash seed and the order of writing; large values included."""
    with regions() as made, regions() as other:
        owner = made.create(MEMORY_BYTES)
        fill(owner)
        replica = copy(made, other)
        assert digests(made) == digests(other)
        assert any(digests(made))
        owner.close()
        replica.close()


@pytest.mark.parametrize(
    "change",
    [
        ("SET", "k1", "other"),
        ("DEL", "k2"),
        ("PEXPIRE", "k3", 5_000_000),
        ("SET", "new", "v"),
        ("SETRANGE", "large:200001", 200_000, "\0"),
    ],
)
def test_a_difference_is_found_in_its_slot_only(change: tuple[str | int, ...]):
    """One key differs: so does its slot's digest and no other, and the lists of entries in that key."""
    with regions() as made, regions() as other:
        owner = made.create(MEMORY_BYTES)
        fill(owner)
        replica = copy(made, other)
        owner.command(*change)
        one, two = digests(made), digests(other)
        slot = _engine.key_slot(str(change[1]))
        assert [index for index in range(SLOTS) if one[index] != two[index]] == [slot]
        lists = [set(side.reader().slot_entries(0, bitmap(slot), now(), 100)) for side in (made, other)]
        assert {row[0] for row in lists[0] ^ lists[1]} == {str(change[1]).encode()}
        owner.close()
        replica.close()


def test_entries_add_up_to_the_digests():
    """A slot's digest is the sum of its entries', each listed once with its stamp; a bitmap limits them."""
    with regions() as made:
        owner = made.create(MEMORY_BYTES)
        fill(owner)
        reader, moment = made.reader(), now()
        sums = [0] * SLOTS
        rows = reader.slot_entries(0, ALL_SLOTS, moment, 10_000)
        for key, stamp, node, digest in rows:
            slot = _engine.key_slot(key)
            sums[slot] = sums[slot] + digest & MASK
            assert node == 0
            assert reader.get_stamped(key)[1] == stamp  # type: ignore[index]
        assert tuple(sums) == digests(made, moment)
        assert len(rows) == len({row[0] for row in rows}) == owner.command("DBSIZE")
        wanted = {_engine.key_slot(b"k1"), _engine.key_slot(b"k2")}
        some = reader.slot_entries(0, bitmap(*wanted), moment, 10_000)
        assert sorted(some) == sorted(row for row in rows if _engine.key_slot(row[0]) in wanted)
        owner.close()


def test_what_has_expired_does_not_count():
    """At the moment that the caller names, so that two hosts can use the same."""
    with regions() as made:
        owner = made.create()
        owner.command("SET", "k", "v", "PXAT", now() + 60_000)
        slot = _engine.key_slot("k")
        assert digests(made)[slot] != 0
        assert digests(made, now() + 60_001)[slot] == 0
        assert made.reader().slot_entries(0, ALL_SLOTS, now() + 60_001, 10) == []
        owner.close()


def test_limits():
    """More entries than allowed, and a bitmap of another size, are errors."""
    with regions() as made:
        owner = made.create()
        fill(owner, 100)
        reader = made.reader()
        assert len(reader.slot_entries(0, ALL_SLOTS, 0, 104)) == 104
        with pytest.raises(_engine.EngineError, match="more than 103"):
            reader.slot_entries(0, ALL_SLOTS, 0, 103)
        with pytest.raises(_engine.EngineError, match="2048"):
            reader.slot_entries(0, b"", 0, 103)
        with pytest.raises(_engine.EngineError, match="no shard 1"):
            reader.slot_digests(1, 0)
        owner.close()


def test_beside_a_writer_untouched_slots_are_exact():
    """Growth of the index and rewriting of other keys change no digest of a slot that is left alone."""
    with regions() as made:
        owner = made.create(256 << 20)
        fill(owner, 500)
        kept = [b"k%d" % number for number in range(500)]
        before, slots = digests(made), {_engine.key_slot(key) for key in kept}
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                key = b"n%d" % (number % 200_000)
                if _engine.key_slot(key) not in slots:
                    owner.command("SET", key, b"v" * (number % 200))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(30):
                during = digests(made)
                assert [during[slot] for slot in slots] == [before[slot] for slot in slots]
        finally:
            stop.set()
            writer.join()
        assert owner.stats()["buckets"] > 1000
        owner.close()
