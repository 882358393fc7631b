"""A full copy of a shard in slices: equal to a plain model at rest, with the log behind it under writes."""

import multiprocessing
import random
import time
from multiprocessing.synchronize import Event

import pytest

from shmcache import _engine
from tests.engine.regions import Regions, execute, regions, settle

MEMORY_BYTES = 256 << 20
LOG_BYTES = 16 << 20
LARGE = LOG_BYTES // 16
FORK = multiprocessing.get_context("fork")


def slices(reader: _engine.Reader, max_bytes: int) -> tuple[int, list[bytes]]:
    """Applied position of the first slice, and the records of all."""
    first, cursor, parts = -1, 0, []
    while True:
        try:
            following, applied, records = reader.sync_slice(0, cursor, max_bytes)
        except _engine.Busy:
            time.sleep(0.001)
            continue
        first = applied if first < 0 else first
        parts.append(records)
        if (cursor := following) == 0:
            return first, parts


def test_slices_are_what_was_written():
    """All of each entry, once, whatever the size of a slice; sequence numbers are 0."""
    with regions() as made:
        owner = made.create(MEMORY_BYTES)
        owner.configure(epoch=7)
        chance = random.Random(1)
        later = int(time.time() * 1000) + 10_000_000
        model = {}
        for number in range(5000):
            key, value = b"k%d" % number * (number % 9 + 1), chance.randbytes(chance.randrange(200))
            deadline = later if number % 3 == 0 else 0
            owner.command("SET", key, value, *(("PXAT", deadline) if deadline else ()))
            model[key] = (value, deadline)
        model[b"large"] = (b"l" * 300_000, 0)
        owner.command("SET", b"large", b"l" * 300_000)
        owner.command("SET", b"", b"")
        model[b""] = (b"", 0)
        reader = made.reader()
        for max_bytes in (1, 10_000, 1 << 30):
            position, parts = slices(reader, max_bytes)
            assert position == owner.stats()["log_head"]
            records = [record for part in parts for record in _engine.decode_records(part)]
            assert {record.key: (record.value, record.expiry_ms) for record in records} == model
            assert len(records) == len(model)
            assert {(row.seq, row.epoch, row.kind, row.more) for row in records} == {(0, 7, "set", False)}
            some = records[0]
            assert reader.get_stamped(some.key) == (some.value, some.stamp)
            assert len(parts) == 1 if max_bytes > 1 << 20 else len(parts) > 50
        owner.close()


def test_entries_past_their_deadline_are_copied():
    """The owner has not logged their end yet, so they belong to the state."""
    with regions() as made:
        owner = made.create()
        owner.command("SET", "k", "v", "PX", 1)
        time.sleep(0.01)
        _, parts = slices(made.reader(), 1 << 20)
        assert [record.key for record in _engine.decode_records(b"".join(parts))] == [b"k"]
        owner.close()


def test_retired_and_unknown_shards():
    """A region that was replaced is not copied; a shard that is not there is an error."""
    with regions() as made:
        owner = made.create()
        reader = made.reader()
        with pytest.raises(_engine.EngineError, match="no shard 1"):
            reader.sync_slice(1, 0, 1)
        owner.retire()
        with pytest.raises(_engine.Retired):
            reader.sync_slice(0, 0, 1)


def die_in_a_change(made: Regions) -> None:
    owner = made.attach()
    _engine.arm_fail_point("BucketOdd")
    owner.command("SET", "k0", "again")


def test_a_bucket_left_in_the_middle_is_busy():
    """The walk ends before such a bucket, then says Busy, and goes on when the next owner has repaired it."""
    with regions() as made:
        owner = made.create(MEMORY_BYTES)
        for number in range(3000):
            owner.command("SET", b"k%d" % number, b"v")
        owner.close()
        child = FORK.Process(target=die_in_a_change, args=(made,))
        child.start()
        child.join()
        reader, cursor, found = made.reader(), 0, []
        busy = False
        while not busy:
            try:
                cursor, _, records = reader.sync_slice(0, cursor, 1 << 20)
                found += _engine.decode_records(records)
            except _engine.Busy:
                busy = True
        assert len(found) < 3000
        owner = made.attach()
        while True:
            cursor, _, records = reader.sync_slice(0, cursor, 1 << 20)
            found += _engine.decode_records(records)
            if cursor == 0:
                break
        assert {record.key for record in found} == {b"k%d" % number for number in range(3000)}
        assert len(found) == 3000
        owner.close()


@pytest.mark.timeout(120)
def test_the_largest_value():
    """A value of the largest size goes as one record."""
    size = _engine.MAX_VALUE_BYTES
    with regions() as made:
        owner = made.create(size + (64 << 20), log_bytes=1 << 20)
        owner.command("SET", "huge", bytes(size))
        position, parts = slices(made.reader(), 1 << 20)
        assert max(len(part) for part in parts) == 48 + 8 + size
        tailer = _engine.LogTailer(made.log, "huge", 0)
        frame = tailer.poll_frame(1, made.reader())
        assert frame is not None
        assert len(frame.records) == 48 + 8 + size
        assert position == frame.to_position
        tailer.close()
        owner.close()


def write(made: Regions, stop: Event, seed: int) -> None:
    """Overwrite, delete, expire, flush, and add keys so that the index grows during each copy."""
    chance = random.Random(seed)
    owner = made.attach()
    number = 0
    while not stop.is_set():
        batch = []
        for _ in range(50):
            number += 1
            key = b"k%d" % chance.randrange(2000)
            match chance.randrange(12):
                case 0:
                    batch.append((b"DEL", key))
                case 1:
                    batch.append((b"PEXPIRE", key, 10_000_000 + number))
                case 2:
                    batch.append((b"SET", key, b"%d" % number, b"PX", chance.choice((1, 20, 10_000_000))))
                case 3 | 4 | 5:
                    batch.append((b"SET", b"new:%d" % number, b"%d" % number * chance.randrange(40)))
                case _:
                    batch.append((b"SET", key, b"%d" % number * chance.randrange(40)))
        if chance.randrange(5) == 0:
            # Not in the ring: the frames fetch it from the region.
            value = b"%d" % (number % 10) * (LARGE + number)
            batch.append((b"SET", b"large:%d" % (number % 5), value, b"PX", 10_000_000))
        if chance.randrange(1500) == 0:
            batch.append((b"FLUSHALL",))
        execute(owner, batch, _engine.FLAG_TRANSACTION if chance.randrange(3) == 0 else 0)
        owner.tick()
        time.sleep(0.002)
    time.sleep(0.03)
    settle(owner)
    owner.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("max_bytes", [1, 100_000, 1 << 30])
@pytest.mark.parametrize("seed", [1, 2])
def test_slices_and_the_log_behind_them_are_the_state(max_bytes: int, seed: int):
    """Each copy taken beside a writer, with the frames from its first slice's position on, is equal."""
    with regions() as made:
        owner = made.create(MEMORY_BYTES, log_bytes=LOG_BYTES)
        for number in range(50):
            # So many that a slice takes longer than some of the writer's batches.
            execute(owner, [(b"SET", b"old:%d:%d" % (number, key), b"v" * 100) for key in range(1000)])
        owner.close()
        stop = FORK.Event()
        writer = FORK.Process(target=write, args=(made, stop, seed))
        writer.start()
        reader = made.reader()
        copies = []
        for _ in range(4):
            time.sleep(0.2)
            copies.append(slices(reader, max_bytes))
        time.sleep(0.2)
        stop.set()
        writer.join()
        assert writer.exitcode == 0
        owner = made.attach()
        settle(owner)
        wanted = owner.digest()
        assert owner.command("DBSIZE") > 100
        for position, parts in copies:
            with regions() as other:
                replica = other.create(MEMORY_BYTES)
                for part in parts:
                    replica.apply(part)
                between = replica.digest()
                tailer = _engine.LogTailer(made.log, "replica", position)
                applied = 0
                while (frame := tailer.poll_frame(1 << 16, reader)) is not None:
                    replica.apply(frame.records)
                    applied += frame.count
                assert replica.digest() == wanted
                assert applied > 0
                assert between != wanted, "nothing was written meanwhile"
                replica.verify()
                replica.close()
                tailer.close()
        owner.close()
