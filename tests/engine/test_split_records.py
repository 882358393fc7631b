"""Log records divided among shards: against a plain model, and applied to engines."""

import random
import struct

import pytest

from shmcache import _engine
from tests.engine.regions import execute, regions

MEMORY_BYTES = 64 << 20


def table(shards: int, seed: int = 5) -> bytes:
    """A random slot table; the last shard owns nothing."""
    chance = random.Random(seed)
    owners = max(1, shards - 1)
    return struct.pack("<16384H", *(chance.randrange(owners) for _ in range(_engine.SLOT_COUNT)))


@pytest.fixture(scope="module")
def log() -> bytes:
    """Single writes, deletions, deadlines, groups, a flush."""
    chance = random.Random(2)
    with regions() as made:
        owner = made.create(MEMORY_BYTES)
        tailer = _engine.LogTailer(made.log, "split", 0)
        for number in range(2000):
            commands = []
            for _ in range(chance.choice((1, 1, 1, 2, 9))):
                key = b"k%d" % chance.randrange(300)
                choices = ((b"SET", key, b"%d" % number), (b"DEL", key), (b"EXPIRE", key, 10_000))
                commands.append(chance.choice(choices))
            execute(owner, commands, _engine.FLAG_TRANSACTION)
            if number == 1000:
                owner.command("FLUSHALL")
        frame = tailer.poll_frame(1 << 30)
        assert frame is not None
        tailer.close()
        owner.close()
        return frame.records


def model(records: list[_engine.LogRecord], slots: tuple[int, ...], shard: int) -> list[_engine.LogRecord]:
    """What one shard gets, group by group."""
    result, group = [], []
    for record in records:
        wanted = shard in slots if record.kind == "flush" else slots[_engine.key_slot(record.key)] == shard
        group += [record._replace(more=True)] if wanted else []
        if not record.more:
            if group:
                group[-1] = group[-1]._replace(more=False)
            result += group
            group = []
    return result


@pytest.mark.parametrize("shards", [1, 2, 3, 17])
def test_each_shard_gets_its_part(log: bytes, shards: int):
    """Every record in order, nothing else, groups whole."""
    slots = table(shards)
    parts = _engine.split_records(log, slots, shards)
    records = _engine.decode_records(log)
    assert any(record.more for record in records)
    assert len(parts) == shards
    for shard, part in enumerate(parts):
        assert _engine.decode_records(part) == model(records, struct.unpack("<16384H", slots), shard)


def test_one_shard_gets_the_input(log: bytes):
    """Without a copy."""
    assert _engine.split_records(log, bytes(32768), 1)[0] is log


@pytest.mark.parametrize("shards", [1, 3])
def test_damage_is_told_with_its_offset(log: bytes, shards: int):
    """One wrong byte, or a cut, and nothing is returned."""
    part = log[: 20 * 64]
    for at in range(0, len(part), 13):
        damaged = bytearray(part)
        damaged[at] ^= 4
        with pytest.raises(_engine.EngineError, match=r"byte \d+"):
            _engine.split_records(bytes(damaged), table(shards), shards)
    with pytest.raises(_engine.EngineError, match=r"byte \d+"):
        _engine.split_records(log[:-8], table(shards), shards)


def test_arguments_are_checked(log: bytes):
    """A table of another size, one that names a shard that is not there, no shards, too many."""
    third = struct.pack("<16384H", *[2] * 16384)
    for slots, shards in ((b"", 1), (third, 2), (bytes(32768), 0), (bytes(32768), 1 << 40)):
        with pytest.raises(_engine.EngineError):
            _engine.split_records(log, slots, shards)
    assert _engine.split_records(b"", table(3), 3) == [b"", b"", b""]
