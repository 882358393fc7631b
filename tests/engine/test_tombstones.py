"""Deletions that are remembered: nobody sees them, and nothing older comes back while they last."""

import time

import pytest

from shmcache import _engine
from tests.engine.regions import execute, settle
from tests.engine.writers import Writer, Writers

LIFE_MS = 600_000
MB = 1 << 20


def dead(writer: Writer) -> int:
    return int(writer.owner.stats()["tombstones"])


@pytest.fixture
def pair(writers: Writers) -> tuple[Writer, Writer]:
    return writers(node=1, tombstone_life_ms=LIFE_MS), writers(node=2, tombstone_life_ms=LIFE_MS)


@pytest.mark.parametrize("how", ["deleted", "expired", "in a group", "unknown", "flushed"])
def test_older_write_does_not_bring_a_key_back(pair: tuple[Writer, Writer], how: str):
    """Whichever way the key went, the write that it had arrives late and is refused."""
    one, two = pair
    one.command("SET", "k", "v")
    write = one.news()
    if how != "unknown":
        two.owner.apply(write)
    match how:
        case "deleted":
            two.command("DEL", "k")
        case "expired":
            two.command("PEXPIRE", "k", 20)
            time.sleep(0.2)
            settle(two.owner)
        case "in a group":
            execute(two.owner, [("SET", "x", "1"), ("DEL", "k"), ("DEL", "x")], _engine.FLAG_TRANSACTION)
        case "unknown":
            one.command("DEL", "k")
            assert two.owner.apply(one.news()) == 1
        case "flushed":
            two.command("FLUSHALL")
    assert two.owner.apply(write) == 0
    assert two.command("DBSIZE") == 0
    assert (dead(two) == 0) == (how == "flushed")
    two.reattach()
    two.owner.verify()
    assert two.owner.apply(write) == 0, "after a restart as well"


def test_nobody_sees_a_tombstone(pair: tuple[Writer, Writer]):
    """To every command and every reader the key is missing; commands that create do create."""
    writer = pair[0]
    empty = writer.owner.digest()
    keys = [b"k%d" % number for number in range(50)]
    for key in keys:
        writer.command("SET", key, "1")
        writer.command("DEL", key)
    assert dead(writer) == 50
    assert writer.owner.digest() == empty
    assert (
        writer.command("DBSIZE")
        == writer.owner.stats()["keys"]
        == _engine.region_info(writer.regions.data)["keys"]
        == 0
    )
    reader = writer.regions.reader()
    for see in (writer.command, reader.command):
        assert see("KEYS", "*") == []
        assert see("RANDOMKEY") is None
        assert see("EXISTS", *keys) == 0
        assert see("MGET", *keys) == [None] * 50
        assert (see("TYPE", "k1"), see("PTTL", "k1"), see("GETSTAMP", "k1"), see("STRLEN", "k1")) == (
            "none",
            -2,
            None,
            0,
        )
    assert writer.command("SCAN", "0", "COUNT", "1000") == [b"0", []]
    assert reader.scan(0, 0, None, 1000, None) == (0, [])
    assert (
        writer.command("DEL", "k1")
        == writer.command("PERSIST", "k1")
        == writer.command("EXPIRE", "k1", 100)
        == 0
    )
    with pytest.raises(_engine.CommandError, match="no such key"):
        writer.command("RENAME", "k1", "k2")
    assert writer.command("INCR", "k1") == 1
    assert writer.command("SETNX", "k2", "v") == 1
    assert writer.command("APPEND", "k3", "v") == 1
    assert writer.command("SET", "k4", "v", "IFSTAMP", 0) == "OK"
    assert writer.command("PTTL", "k1") == -1
    assert writer.command("DBSIZE") == 4
    assert dead(writer) == 46
    writer.owner.verify()


def test_tombstones_vanish_without_a_word(writers: Writers):
    """At their deadline; the log says nothing, the memory is back."""
    writer = writers(node=1, tombstone_life_ms=100)
    before = writer.owner.stats()["used_bytes"]
    for number in range(20):
        writer.command("SET", b"k%d" % number, "v")
    writer.command("DEL", *(b"k%d" % number for number in range(20)))
    writer.news()
    assert dead(writer) == 20
    time.sleep(0.4)
    settle(writer.owner)
    assert dead(writer) == 0
    assert writer.news() == b""
    assert writer.owner.stats()["used_bytes"] == before
    writer.owner.verify()


def test_single_writer_buries_nothing(writers: Writers):
    """Without a node number a deletion leaves nothing."""
    writer = writers()
    writer.command("SET", "k", "v")
    writer.command("DEL", "k")
    assert dead(writer) == 0
    with pytest.raises(_engine.EngineError, match="tombstone_life_ms"):
        writer.owner.configure(tombstone_life_ms=0)


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_tombstones_go_first_when_memory_is_needed(writers: Writers, policy: str):
    """Full of tombstones is as good as empty: no living key goes for them, and no write is refused."""
    writer = writers(memory_bytes=MB, policy=policy, node=1, tombstone_life_ms=LIFE_MS)
    for number in range(40_000):
        writer.command("SET", b"dead%d" % number, b"v" * 100)
        writer.command("DEL", b"dead%d" % number)
    stats = writer.owner.stats()
    assert stats["tombstones_dropped"] > 10_000
    assert stats["tombstones"] > 5_000
    for number in range(3_000):
        assert writer.command("SET", b"alive%d" % number, b"v" * 100) == "OK"
    stats = writer.owner.stats()
    assert (stats["keys"], stats["evicted"]) == (3_000, 0)
    assert stats["used_bytes"] <= MB
    writer.owner.verify()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "volatile-lru"])
@pytest.mark.parametrize("size", [0, 3, 300])
def test_eviction_makes_progress(writers: Writers, policy: str, size: int):
    """Also where a tombstone is larger than the entry of the key that was evicted."""
    writer = writers(memory_bytes=MB, policy=policy, node=1, tombstone_life_ms=LIFE_MS)
    options = ("EX", 1000) if policy.startswith("volatile") else ()
    for number in range(40_000):
        assert writer.command("SET", b"k%d" % number, b"v" * size, *options) == "OK"
    stats = writer.owner.stats()
    assert stats["evicted"] > 0
    assert stats["used_bytes"] <= MB
    writer.owner.verify()


def test_index_grows_with_tombstones(pair: tuple[Writer, Writer]):
    """They are in its buckets, so they count for its growth, from unknown deletions too."""
    one, two = pair
    for number in range(20_000):
        one.command("SET", b"k%d" % number, "")
        one.command("DEL", b"k%d" % number)
        if number % 1000 == 0:
            two.owner.apply(one.news())
    two.owner.apply(one.news())
    for writer in pair:
        stats = writer.owner.stats()
        assert stats["tombstones"] == 20_000
        assert stats["buckets"] * 6 >= 19_000
        writer.reattach()
        assert writer.owner.verify()["keys"] == 0
        assert dead(writer) == 20_000


def test_flush_marks_are_bounded(writers: Writers):
    """A mark per range of slots, the newer covering the older; beyond 64 the oldest go and are counted."""
    writer = writers(node=1, tombstone_life_ms=LIFE_MS)

    def flush(slots: list[int]) -> None:
        bitmap = bytearray(2048)
        for slot in slots:
            bitmap[slot // 8] |= 1 << slot % 8
        writer.owner.set_slots(bytes(bitmap))
        writer.command("FLUSHALL")

    def marks() -> tuple[int, int]:
        stats = writer.owner.stats()
        return stats["flush_marks"], stats["flush_marks_dropped"]

    flush(list(range(0, 100, 2)))
    assert marks() == (50, 0)
    flush(list(range(1000, 1100, 2)))
    assert marks() == (64, 36)
    writer.reattach()
    assert marks() == (64, 0)
    flush(list(range(16384)))
    assert marks() == (1, 0)


def test_flush_does_not_go_round(writers: Writers):
    """Three that relay everything to each other: a flush reaches all and comes to rest."""
    three = [writers(node=node, tombstone_life_ms=LIFE_MS) for node in (1, 2, 3)]
    three[0].command("SET", "k", "v")
    three[0].command("FLUSHALL")
    three[1].owner.set_slots(bytes([0x55] * 2048))
    three[1].command("FLUSHALL")
    for _ in range(8):
        logs = [writer.news() for writer in three]
        for writer in three:
            for log in logs:
                writer.owner.apply(log)
    assert [writer.news() for writer in three] == [b"", b"", b""]
    assert three[0].owner.digest() == three[1].owner.digest() == three[2].owner.digest()
