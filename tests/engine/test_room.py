"""Memory that entries no longer take is there for entries of any other size."""

import msgpack
import pytest

from shmcache import _engine
from tests.engine.damage import Regions


@pytest.fixture
def regions():
    regions = Regions.anonymous()
    yield regions
    regions.close()


def test_slabs_without_entries_make_room_for_large_values(regions):
    """When pages run out, slabs that have become empty are given back before a write is refused."""
    owner = regions.create(1 << 20, capacity_bytes=1 << 20)
    doublings = [512 << doubling for doubling in range(5)]
    classes = [*range(48, 513, 8), *(base + step * base // 8 for base in doublings for step in range(1, 9))]
    for class_bytes in classes:
        # Two full slabs of the class: the first is empty before the second loses an entry, so both stay.
        keys = [b"%05d-%05d" % (class_bytes, number) for number in range(2 * (65_536 // class_bytes))]
        for key in keys:
            owner.command("SET", key, bytes(class_bytes - 32))
        for key in keys[:-1]:
            owner.command("DEL", key)
    for number in range(8):
        owner.command("SET", b"large-%d" % number, bytes(40_000))
    owner.verify()


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_transactions_keep_their_entries_while_room_is_made(regions, policy):
    """A batch larger than the memory left evicts or is refused; its own pending entries are not lost."""
    owner = regions.create(1 << 20, capacity_bytes=1 << 20, policy=policy)
    for round_number in range(30):
        size = 40 + 97 * round_number % 1500
        batch = [
            [b"SET", b"r%d-%d" % (round_number, number), bytes([number % 256]) * size]
            for number in range(200)
        ]
        results = msgpack.unpackb(owner.execute(msgpack.packb(batch), _engine.FLAG_TRANSACTION))
        if results == ["OK"] * len(batch):
            assert [owner.command("GET", key) for _, key, _ in batch] == [value for _, _, value in batch]
        else:
            assert policy == "noeviction"
            written = {key for (_, key, _), result in zip(batch, results, strict=True) if result == "OK"}
            assert {key for _, key, _ in batch if owner.command("EXISTS", key)} == written
        owner.verify()


@pytest.mark.parametrize("command", ["MSET", "MSETNX", "RENAME"])
def test_a_failed_command_leaves_nothing_in_its_transaction(regions, command):
    """A command that fails half way inside a transaction is undone; what was before and after it counts."""
    owner = regions.create(1 << 20, capacity_bytes=1 << 20)
    too_large = bytes(1 << 20)
    failing = {
        "MSET": [b"MSET", b"a", b"wrong", b"new", b"wrong", b"a", b"again", b"b", too_large],
        "MSETNX": [b"MSETNX", b"new", b"wrong", b"newer", too_large],
        "RENAME": [b"RENAME", b"a", b"k" * 65_537],
    }[command]
    batch = [[b"SET", b"a", b"right"], failing, [b"SET", b"c", b"after"], [b"GET", b"a"]]
    results = msgpack.unpackb(owner.execute(msgpack.packb(batch), _engine.FLAG_TRANSACTION))
    assert isinstance(results[1], msgpack.ExtType)
    assert [results[0], *results[2:]] == ["OK", "OK", b"right"]
    assert sorted(owner.command("KEYS", "*")) == [b"a", b"c"]
    assert owner.command("GET", "a") == b"right"
    owner.verify()
