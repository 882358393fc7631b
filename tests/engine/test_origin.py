"""Who wrote an entry, and when: it decides which write stands, and stays with the entry wherever it goes."""

import pytest

from shmcache import _engine
from tests.engine.writers import Writers

FAR_MS = 4_102_444_800_000


def test_local_writes_carry_the_own_node(writers: Writers):
    """Every kind of record of a local write, groups and deadlines included, has the configured node."""
    writer = writers(node=7)
    writer.command("SET", "a", "1")
    writer.command("MSET", "b", "1", "c", "2")
    writer.command("PEXPIREAT", "a", FAR_MS)
    writer.command("PEXPIREAT", "a", FAR_MS + 1)
    writer.command("RENAME", "a", "d")
    writer.command("DEL", "b")
    writer.command("FLUSHALL")
    assert {record.node for record in writer.records()} == {7}


def test_applied_records_keep_stamp_and_node(writers: Writers):
    """An applied record stands in the own log as it came, but for sequence number and epoch."""
    origin, relay, last = writers(node=3), writers(node=4, epoch=9), writers(node=5)
    origin.command("SET", "k", "v", "PXAT", FAR_MS)
    origin.command("SET", "x", "1")
    origin.command("DEL", "x")
    records = origin.news()
    assert relay.owner.apply(records) == 3
    relayed = relay.news()
    for came, went in zip(_engine.decode_records(records), _engine.decode_records(relayed), strict=True):
        assert came._replace(seq=0, epoch=0) == went._replace(seq=0, epoch=0)
        assert went.epoch == 9
    last.owner.apply(relayed)
    assert origin.owner.digest() == relay.owner.digest() == last.owner.digest()


def test_digest_tells_nodes_apart(writers: Writers):
    """The same key, value and stamp by another node is another entry."""
    one, two, reader = writers(node=1), writers(node=2), [writers(node=8), writers(node=9)]
    one.command("SET", "k", "v")
    two.owner.apply(one.news())
    assert one.owner.digest() == two.owner.digest()
    for writer in reader:
        writer.command("SET", "k", "v")
    assert reader[0].owner.digest() != reader[1].owner.digest()


def test_single_writer_replica_follows_deadlines_in_place(writers: Writers):
    """Without nodes a deadline that changes in place is one small record, and a copy ends up the same."""
    primary, replica = writers(), writers()
    primary.command("SET", "k", "v" * 1000, "PXAT", FAR_MS)
    replica.owner.apply(primary.news())
    primary.command("PEXPIREAT", "k", FAR_MS + 5)
    news = primary.news()
    assert [record.kind for record in _engine.decode_records(news)] == ["expire_at"]
    assert replica.owner.apply(news) == 1
    assert replica.owner.apply(news) == 0
    assert replica.command("PEXPIRETIME", "k") == FAR_MS + 5
    assert primary.owner.digest() == replica.owner.digest()


def test_deadlines_travel_with_their_value_among_several_writers(writers: Writers):
    """A new deadline on one node and a new value on another: all agree on one of them, never on a mixture."""
    one, two = writers(node=1), writers(node=2)
    one.command("SET", "k", "old", "PXAT", FAR_MS)
    two.owner.apply(one.news())
    two.command("SET", "k", "new")
    one.command("PEXPIREAT", "k", FAR_MS + 1)
    first, second = one.news(), two.news()
    one.owner.apply(second)
    two.owner.apply(first)
    assert one.owner.digest() == two.owner.digest()
    assert (one.command("GET", "k"), one.command("PEXPIRETIME", "k")) in ((b"new", -1), (b"old", FAR_MS + 1))


def test_node_outlives_the_owner(writers: Writers):
    """The node is part of the region: the next owner writes under it, and the entries keep theirs."""
    writer, other = writers(node=511), writers(node=2)
    other.command("SET", "theirs", "v")
    writer.owner.apply(other.news())
    writer.command("SET", "ours", "v")
    before = writer.owner.digest()
    writer.reattach()
    assert writer.owner.digest() == before
    assert writer.owner.stats()["node"] == 511
    writer.news()
    writer.command("SET", "ours", "w")
    assert [record.node for record in writer.records()] == [511]


@pytest.mark.parametrize("node", [-1, 512, 1 << 20])
def test_node_has_bounds(writers: Writers, node: int):
    """Nine bits hold it."""
    writer = writers()
    with pytest.raises((_engine.EngineError, OverflowError)):
        writer.owner.configure(node=node)
