"""Replica mode: the shard repeats its primary and decides nothing by itself."""

import time

import pytest

from shmcache import _engine
from tests.engine.regions import execute, settle
from tests.engine.writers import Writers

MB = 1 << 20


def test_writing_commands_are_refused_with_the_primarys_address(writers: Writers):
    """READONLY, in a batch, a transaction and alone; reading goes on; the mode outlives the owner."""
    replica = writers()
    replica.command("SET", "k", "v")
    replica.owner.configure(replica=True)
    replica.owner.set_primary("10.0.0.1:7000")
    for name in sorted(spec.name for spec in _engine.COMMANDS if "write" in spec.flags):
        arity = next(spec.arity for spec in _engine.COMMANDS if spec.name == name)
        call = [name, *["k"] * (abs(arity) - 1)]
        for flags in (0, _engine.FLAG_TRANSACTION):
            (error,) = execute(replica.owner, [call], flags)
            assert (error.code, error.message) == (
                "READONLY",
                "this instance is a replica of 10.0.0.1:7000: write there",
            ), name
    assert replica.command("GET", "k") == b"v"
    replica.reattach()
    with pytest.raises(_engine.CommandError, match="this instance is a replica: write to its primary"):
        replica.command("SET", "k", "w")
    replica.owner.configure(replica=False)
    assert replica.command("SET", "k", "w") == "OK"
    with pytest.raises(_engine.EngineError, match="256"):
        replica.owner.set_primary("x" * 257)


def test_replica_does_not_expire_until_it_is_none(writers: Writers):
    """An expired entry is missing but there; when the mode ends, old and new deadlines take it away."""
    replica = writers()
    replica.command("SET", "before", "v", "PX", 30)
    replica.owner.configure(replica=True)
    primary = writers()
    primary.command("SET", "during", "v", "PX", 30)
    replica.owner.apply(primary.news())
    replica.news()
    time.sleep(0.3)
    settle(replica.owner)
    assert replica.command("GET", "before") is None
    assert replica.regions.reader().get("during") is None
    assert replica.command("DBSIZE") == 2
    assert replica.news() == b""
    replica.owner.configure(replica=False)
    settle(replica.owner)
    assert replica.command("DBSIZE") == 0
    assert sorted(record.key for record in replica.records()) == [b"before", b"during"]
    replica.owner.verify()


def test_replica_does_not_evict(writers: Writers):
    """What the primary has the replica keeps, beyond its own limit; when the mode ends, that holds again."""
    primary = writers(memory_bytes=8 * MB, log_bytes=32 * MB)
    replica = writers(memory_bytes=MB, policy="allkeys-lru")
    replica.owner.configure(replica=True)
    for number in range(4000):
        primary.command("SET", b"k%d" % number, b"v" * 1000)
    replica.owner.apply(primary.news())
    assert replica.owner.digest() == primary.owner.digest()
    assert replica.owner.stats()["used_bytes"] > MB
    replica.reattach()
    replica.owner.verify()
    assert replica.command("DBSIZE") == 4000
    replica.owner.configure(replica=False)
    replica.command("SET", "one", "more")
    assert replica.owner.stats()["used_bytes"] <= MB
    assert replica.owner.stats()["evicted"] > 2000
    replica.owner.verify()


def test_replica_that_cannot_take_more_says_so(writers: Writers):
    """The region's capacity is the end: an error that names it, nothing lost, nothing evicted."""
    primary = writers(memory_bytes=200 * MB, log_bytes=256 * MB)
    replica = writers(memory_bytes=MB, policy="allkeys-lru")
    replica.owner.configure(replica=True)
    for number in range(1000):
        primary.command("SET", b"k%d" % number, b"v" * 150_000)
    with pytest.raises(_engine.EngineError, match=r"OutOfMemory|NoSpace"):
        replica.owner.apply(primary.news())
    assert 0 < replica.command("DBSIZE") < 1000
    assert replica.owner.stats()["evicted"] == 0
    replica.owner.verify()


def test_positions_for_the_hot_path(writers: Writers):
    """`log_position` and `last_stamp` are what `stats` and the tailer say."""
    writer = writers()
    for number in range(3):
        writer.command("SET", "k", number)
        assert writer.owner.log_position == writer.owner.stats()["log_head"]
        assert writer.owner.last_stamp == int(writer.command("GETSTAMP", "k")[1])
    writer.news()
    assert writer.tailer.position == writer.owner.log_position
