"""Frames of the write log: whole groups, no gaps, large values filled in; and the agreement on sleeping."""

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator

import pytest

from shmcache import _engine
from tests.engine.regions import Regions, execute, regions

LOG_BYTES = 1 << 20
LARGE = LOG_BYTES // 16 + 1
"""Bytes of a value that goes as a reference."""

Shard = tuple[Regions, _engine.Owner, _engine.LogTailer]


@pytest.fixture
def shard() -> Iterator[Shard]:
    with regions() as made:
        owner = made.create(memory_bytes=64 << 20, log_bytes=LOG_BYTES)
        tailer = _engine.LogTailer(made.log, "frames", 0)
        yield made, owner, tailer
        tailer.close()
        owner.close()


def frames(
    tailer: _engine.LogTailer, max_bytes: int, reader: _engine.Reader | None = None
) -> list[_engine.LogFrame]:
    found = []
    while (frame := tailer.poll_frame(max_bytes, reader)) is not None:
        found.append(frame)
    return found


def replica_of(*records: bytes) -> dict[bytes, bytes]:
    """Content of an engine that applied these records."""
    with regions() as made:
        owner = made.create(memory_bytes=64 << 20)
        for part in records:
            owner.apply(part)
        content = {key: owner.command("GET", key) for key in owner.command("KEYS", "*")}
        owner.verify()
        owner.close()
        return content


def test_frames_join(shard: Shard):
    """Round after round of the ring each frame begins where the one before ended, in dense sequence."""
    _, owner, tailer = shard
    chance = random.Random(7)
    position, seq, copies = tailer.position, 0, []
    plain = _engine.LogTailer(shard[0].log, "plain", 0)
    for number in range(3000):
        size = chance.randrange(3000)
        group = [(b"SET", b"k%d:%d" % (number % 50, part), b"v" * size) for part in range(number % 3 + 1)]
        execute(owner, group, _engine.FLAG_TRANSACTION)
        if number % 7 == 0:
            for frame in frames(tailer, 4000):
                assert frame.from_position == position < frame.to_position
                assert frame.first_seq == seq + 1
                records = _engine.decode_records(frame.records)
                assert (len(records), records[-1].seq, records[-1].stamp) == frame[5:6] + frame[3:5]
                assert not records[-1].more
                position, seq = frame.to_position, frame.last_seq
                copies.append(frame.records)
            together = b""
            while part := plain.poll():
                together += part
            assert b"".join(copies) == together
            copies.clear()
    assert position > 4 * LOG_BYTES
    plain.close()


def test_references_stay_without_a_reader(shard: Shard):
    """Without a reader the frame is the log as it is."""
    _, owner, tailer = shard
    owner.command("SET", "large", b"x" * LARGE)
    frame = tailer.poll_frame()
    assert frame is not None
    assert [record.kind for record in _engine.decode_records(frame.records)] == ["set_ref"]


def test_references_become_values(shard: Shard):
    """With a reader it is a plain set: same sequence number, stamp, deadline and group, and the value."""
    made, owner, tailer = shard
    deadline = int(time.time() * 1000) + 3_600_000
    large = (b"SET", b"large", b"x" * LARGE, b"PXAT", deadline)
    execute(owner, [(b"SET", b"a", b"1"), large, (b"SET", b"b", b"2")], _engine.FLAG_TRANSACTION)
    plain = _engine.LogTailer(made.log, "plain", 0)
    before = _engine.decode_records(plain.poll())
    frame = tailer.poll_frame(1, made.reader())
    assert frame is not None
    after = _engine.decode_records(frame.records)
    assert [record.kind for record in before] == ["set", "set_ref", "set"]
    assert after[1] == before[1]._replace(kind="set", value=b"x" * LARGE)
    assert after[::2] == before[::2]
    plain.close()


def test_a_value_past_its_deadline_is_still_shipped(shard: Shard):
    """The log says when it expires, not the reader's clock."""
    made, owner, tailer = shard
    owner.command("SET", "large", b"x" * LARGE, "PX", 1)
    time.sleep(0.01)
    frame = tailer.poll_frame(1 << 20, made.reader())
    assert frame is not None
    assert frame.count == 1


def test_a_frame_with_a_gap_holds_the_successor(shard: Shard):
    """The overwritten value is dropped, and the frame goes on to the log's end, whatever its size."""
    made, owner, tailer = shard
    owner.command("SET", "large", b"1" * LARGE)
    for number in range(100):
        owner.command("SET", b"k%d" % number, b"v" * 100)
    owner.command("SET", "large", b"2" * LARGE)
    owner.command("SET", "last", b"l")
    found = frames(tailer, 1, made.reader())
    assert [(frame.first_seq, frame.last_seq, frame.count) for frame in found] == [(1, 103, 102)]
    assert replica_of(found[0].records)[b"large"] == b"2" * LARGE


def test_a_gap_at_the_end_of_a_group_ends_the_group_before(shard: Shard):
    """What is left of a group is a whole group."""
    made, owner, tailer = shard
    execute(owner, [(b"SET", b"a", b"1"), (b"SET", b"large", b"1" * LARGE)], _engine.FLAG_TRANSACTION)
    owner.command("DEL", "large")
    frame = tailer.poll_frame(1, made.reader())
    assert frame is not None
    records = _engine.decode_records(frame.records)
    assert [(record.key, record.kind, record.more) for record in records] == [
        (b"a", "set", False),
        (b"large", "delete", False),
    ]


def test_only_a_deadline_came_after(shard: Shard):
    """A new deadline changes the stamp but brings no value: the value comes with it."""
    made, owner, tailer = shard
    owner.command("SET", "large", b"x" * LARGE, "PX", 1_000_000)
    owner.command("PEXPIRE", "large", 2_000_000)
    owner.command("PEXPIRE", "large", 3_000_000)
    wanted = owner.digest()
    frame = tailer.poll_frame(1, made.reader())
    assert frame is not None
    assert [(record.kind, record.seq) for record in _engine.decode_records(frame.records)] == [("set", 3)]
    with regions() as other:
        replica = other.create(memory_bytes=64 << 20)
        replica.apply(frame.records)
        assert replica.digest() == wanted
        replica.close()


def die_before_applying(made: Regions) -> None:
    owner = made.create(memory_bytes=64 << 20, log_bytes=LOG_BYTES)
    owner.command("SET", "small", "s")
    _engine.arm_fail_point("LogPublished")
    owner.command("SET", "large", b"x" * LARGE)


def test_published_but_not_applied_is_busy():
    """The owner died between log and index: Busy, nothing consumed; the next owner's redo ends it."""
    with regions() as made:
        child = multiprocessing.get_context("fork").Process(target=die_before_applying, args=(made,))
        child.start()
        child.join()
        tailer, reader = _engine.LogTailer(made.log, "frames", 0), made.reader()
        for _ in range(3):
            with pytest.raises(_engine.Busy):
                tailer.poll_frame(1 << 20, reader)
            assert tailer.position == 0
        owner = made.attach()
        frame = tailer.poll_frame(1 << 20, reader)
        assert frame is not None
        assert replica_of(frame.records) == {b"small": b"s", b"large": b"x" * LARGE}
        tailer.close()
        owner.close()


def write_large(made: Regions, seconds: float) -> None:
    chance = random.Random(3)
    owner = made.attach()
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        key = b"large:%d" % chance.randrange(8)
        match chance.randrange(6):
            case 0:
                owner.command("DEL", key)
            case 1:
                owner.command("PEXPIRE", key, chance.randrange(10_000_000, 20_000_000))
            case 2:
                owner.command("SET", b"small:%d" % (number % 50), b"%d" % number)
            case _:
                owner.command("SET", key, b"%08d" % number * (LARGE // 8 + 1), "PX", 10_000_000)
        time.sleep(0.0001)
    owner.close()


def test_beside_a_writer_the_replica_becomes_equal():
    """Beside a busy writer that overwrites and deletes: once all frames are applied the replica is equal."""
    with regions() as made, regions() as other:
        made.create(memory_bytes=64 << 20, log_bytes=LOG_BYTES).close()
        replica = other.create(memory_bytes=128 << 20)
        child = multiprocessing.get_context("fork").Process(target=write_large, args=(made, 2.0))
        child.start()
        tailer, reader = _engine.LogTailer(made.log, "frames", 0), made.reader()
        position = tailer.position
        dropped = 0
        alive = True
        while alive:
            alive = child.is_alive()
            # Long enough for values to be overwritten before they are read.
            time.sleep(0.01)
            try:
                while (frame := tailer.poll_frame(1, reader)) is not None:
                    assert frame.from_position == position
                    position = frame.to_position
                    replica.apply(frame.records)
                    dropped += frame.last_seq - frame.first_seq + 1 - frame.count
            except _engine.Busy:
                continue
        child.join()
        assert child.exitcode == 0
        owner = made.attach()
        assert dropped > 0
        assert replica.digest() == owner.digest()
        tailer.close()
        owner.close()
        replica.close()


def test_waiting(shard: Shard):
    """Only who may sleep is named, once, and only after he asked."""
    made, owner, tailer = shard
    assert owner.waiting_tailers() == []
    assert tailer.prepare_wait()
    owner.command("SET", "k", "v")
    assert owner.waiting_tailers() == ["frames"]
    assert owner.waiting_tailers() == []
    assert not tailer.prepare_wait()
    assert owner.waiting_tailers() == []
    tailer.poll()
    other = _engine.LogTailer(made.log, "other")
    assert tailer.prepare_wait()
    assert other.prepare_wait()
    tailer.cancel_wait()
    assert owner.waiting_tailers() == ["other"]
    assert tailer.prepare_wait()
    tailer.close()
    assert owner.waiting_tailers() == []
    other.close()


@pytest.mark.timeout(60)
def test_no_wake_up_is_lost():
    """A tailer that sleeps without a time limit reads all that is written."""
    with regions() as made:
        owner = made.create()
        tailer = _engine.LogTailer(made.log, "sleeper", 0)
        wake = threading.Event()
        writes = 20_000

        def write() -> None:
            for number in range(writes):
                owner.command("SET", "k", number)
                if owner.waiting_tailers():
                    wake.set()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        seen = 0
        while seen < writes:
            if (frame := tailer.poll_frame(1)) is not None:
                seen += frame.count
            elif tailer.prepare_wait():
                wake.wait()
                wake.clear()
        writer.join()
        assert seen == writes
        tailer.close()
        owner.close()
