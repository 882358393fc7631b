"""Sets beside a real redis-server, compact and large."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.test_redis_hashes import scanned
from tests.support.differential import Differential, Refusal, unordered

LIMITS = {"large": (0, 64), "two": (2, 8), "usual": (128, 64)}


@pytest.fixture(params=LIMITS)
def sized(request: pytest.FixtureRequest, both: Differential) -> Iterator[Differential]:
    """With sets that are large at once, from the third or long member on, or as usual."""
    entries, size_bytes = LIMITS[request.param]
    both.owner.configure(set_compact_entries=entries, set_compact_bytes=size_bytes)
    yield both
    both.owner.verify()
    both.owner.configure(set_compact_entries=128, set_compact_bytes=64)


def test_members(sized: Differential):
    sized.all_same(
        "SADD s a", "SADD s a b a c", "SADD s", "SADD new x x", "SCARD s", "SCARD none", "SISMEMBER s a", "SISMEMBER s none", "SISMEMBER none a", "SMISMEMBER s a none b", "SMISMEMBER none a b", "SMISMEMBER s",
        "SREM s a none a", "SREM none a", "SREM s", "SMEMBERS none", "TYPE s", "SADD s 1 2 3", "SREM s 1 2 3 b", "SCARD s", "SREM s c", "EXISTS s", "SCARD", "SISMEMBER s",
    )  # fmt: skip
    sized.same("SADD", "s", "x" * 100, "", b"\x00\xff", "y" * 9, "\r\n")
    sized.same("SADD", "s", "x" * 100)
    sized.same_state("s", "new")
    sized.same("EXPIRE", "s", 100)
    sized.same("SADD", "s", "more")
    sized.same("SREM", "s", "")
    sized.same_state("s")


def test_moves(sized: Differential):
    sized.all_same(
        "SADD {t}a 1 2 3", "SADD {t}b 3 4", "SMOVE {t}a {t}b 1", "SMOVE {t}a {t}b 3", "SMOVE {t}a {t}b none", "SMOVE {t}none {t}b 1", "SMOVE {t}a {t}a 2", "SMOVE {t}a {t}a none", "SMOVE {t}a {t}new 2", "EXISTS {t}a",
        "SET {t}s x", "SMOVE {t}b {t}s 1", "SMOVE {t}s {t}b 1", "SMOVE {t}none {t}s 1", "SMOVE {t}b", "SMOVE {t}b {t}b",
    )  # fmt: skip
    sized.same_state("{t}a", "{t}b", "{t}new")


def test_algebra(sized: Differential):
    sized.all_same("SADD {t}a 1 2 3 4 5", "SADD {t}b 4 5 6", "SADD {t}c 5 6 7 long-long-long", "SET {t}s x", "SADD {t}dead 1 5", "PEXPIRE {t}dead 1")
    keys = ["{t}a", "{t}b", "{t}c", "{t}none", "{t}s"]
    chooser = random.Random(1)
    for name in ("SINTER", "SUNION", "SDIFF"):
        for _ in range(25):
            some = chooser.choices(keys, weights=[4, 4, 4, 1, 1], k=chooser.randrange(1, 5))
            sized.same(name, *some, by=unordered)
            sized.same(f"{name}STORE", "{t}to", *some)
            sized.same_state("{t}to")
            sized.same("SINTERCARD", len(some), *some)
            sized.same("SINTERCARD", len(some), *some, "LIMIT", chooser.randrange(3))
    sized.same("SUNIONSTORE", "{t}s", "{t}a", "{t}b")
    sized.same("SDIFFSTORE", "{t}a", "{t}a", "{t}b")
    sized.same("EXPIRE", "{t}b", 100)
    sized.same("SINTERSTORE", "{t}b", "{t}b", "{t}c")
    sized.same("SINTERSTORE", "{t}c", "{t}none", "{t}c")
    sized.same_state("{t}a", "{t}b", "{t}c", "{t}s")
    sized.all_same(
        "SINTER", "SINTERSTORE {t}x", "SINTERCARD", "SINTERCARD 1", "SINTERCARD 0 {t}a", "SINTERCARD x {t}a", "SINTERCARD -1 {t}a", "SINTERCARD 3 {t}a {t}b", "SINTERCARD 1 {t}a LIMIT", "SINTERCARD 1 {t}a LIMIT -1",
        "SINTERCARD 1 {t}a LIMIT x", "SINTERCARD 1 {t}a OTHER 1", "SINTERCARD 1 {t}a LIMIT 1 LIMIT 2", "SINTERCARD 2 {t}a LIMIT 1",
    )  # fmt: skip


def test_large_algebra(both: Differential):
    for name, numbers in (("{t}a", range(0, 5000)), ("{t}b", range(2500, 7500)), ("{t}c", range(0, 7500, 3))):
        both.same("SADD", name, *numbers)
    for name in ("SINTER", "SUNION", "SDIFF"):
        both.same(name, "{t}a", "{t}b", "{t}c", by=unordered)
        both.same(f"{name}STORE", "{t}to", "{t}c", "{t}b", "{t}a")
        both.same_state("{t}to")
    both.same("SINTERCARD", 3, "{t}a", "{t}b", "{t}c", "LIMIT", 100)


def test_wrong_kinds(sized: Differential):
    sized.same("SET", "s", "text")
    sized.same("HSET", "h", "a", "1")
    for key in ("s", "h"):
        for line in (
            "SADD {} a", "SREM {} a", "SCARD {}", "SISMEMBER {} a", "SMISMEMBER {} a", "SMEMBERS {}", "SPOP {}", "SPOP {} 2", "SRANDMEMBER {}", "SRANDMEMBER {} 2", "SSCAN {} 0", "SINTER {}", "SUNION {}", "SDIFF {}",
            "SINTERCARD 1 {}",
        ):  # fmt: skip
            sized.same(*line.format(key).split())


def test_random_members(sized: Differential):
    sized.all_same(
        "SRANDMEMBER none", "SRANDMEMBER none 3", "SRANDMEMBER none -3", "SADD one a", "SRANDMEMBER one", "SRANDMEMBER one 5", "SRANDMEMBER one -3", "SRANDMEMBER one 0", "SRANDMEMBER one x", "SRANDMEMBER one 1 2",
        "SRANDMEMBER one -9223372036854775808", "SPOP none", "SPOP none 3", "SPOP one -1", "SPOP one x", "SPOP one 1 2", "SPOP one 0", "SPOP one", "EXISTS one", "SADD two a b", "SPOP two 0", "SCARD two",
    )  # fmt: skip
    sized.same("SPOP", "two", 7, by=unordered)
    sized.same("EXISTS", "two")
    members = {b"m%d" % number for number in range(50)}
    sized.same("SADD", "s", *members)
    owner = sized.owner
    seen: set[bytes] = set()
    for count in (1, 7, 20, 45, 50, 99):
        some = owner.command("SRANDMEMBER", "s", count)
        assert len(some) == len(set(some)) == min(count, 50) and members.issuperset(some)
        again = owner.command("SRANDMEMBER", "s", -count)
        assert len(again) == count and members.issuperset(again)
    for _ in range(600):
        seen.add(owner.command("SRANDMEMBER", "s"))
    assert seen == members
    owner.command("EXPIRE", "s", 100)
    left = set(members)
    for count in (1, 5, 20):
        some = owner.command("SPOP", "s", count)
        assert len(some) == count and left.issuperset(some)
        left -= set(some)
        assert set(owner.command("SMEMBERS", "s")) == left
    for _ in range(10):
        one = owner.command("SPOP", "s")
        left.remove(one)
    assert owner.command("SCARD", "s") == len(left) == 14
    assert owner.command("TTL", "s") == 100
    assert set(owner.command("SPOP", "s", 14)) == left
    assert owner.command("EXISTS", "s") == 0


def test_scan(sized: Differential):
    sized.all_same("SSCAN none 0", "SSCAN none x", "SADD s a", "SSCAN s 0", "SSCAN s x", "SSCAN s 0 COUNT 0", "SSCAN s 0 NOVALUES", "SSCAN s 0 MATCH b", "SSCAN s 0 MATCH a COUNT 3")
    members = {b"m%d" % number for number in range(3000)}
    sized.same("SADD", "s", *members)
    found = scanned(sized.owner, "COUNT", 100, key="s", name="SSCAN")
    assert set(found) == members | {b"a"} and len(found) == 3001
    assert set(scanned(sized.owner, "MATCH", "m*99", key="s", name="SSCAN")) == {m for m in members if m.endswith(b"99")}


def stream(chooser: random.Random) -> tuple[Any, ...]:
    keys = [f"{{t}}s{number}" for number in range(4)]
    key, other, third = (chooser.choice(keys) for _ in range(3))
    member, more = (chooser.choice([str(chooser.randrange(12)), "w" * chooser.randrange(60, 70)]) for _ in range(2))
    return chooser.choice(
        [
            ("SADD", key, member), ("SADD", key, member, more), ("SREM", key, member), ("SREM", key, member, more), ("SISMEMBER", key, member), ("SMISMEMBER", key, member, more), ("SCARD", key), ("SMOVE", key, other, member),
            ("SINTERSTORE", key, other, third), ("SUNIONSTORE", key, other, third), ("SDIFFSTORE", key, other, third), ("SINTERCARD", 2, key, other), ("RENAME", key, other), ("COPY", key, other, "REPLACE"), ("DEL", key),
            ("EXPIRE", key, 100), ("SET", key, member), ("SPOP", key, 100),
        ]
    )  # fmt: skip


RARE = {"SET", "DEL", "SPOP", "SINTERSTORE", "SDIFFSTORE"}


def test_random_streams(sized: Differential):
    chooser = random.Random(8)
    for step in range(6000):
        args = stream(chooser)
        if args[0] not in RARE or chooser.random() < 0.2:
            sized.same(*args, by=unordered)
        if step % 50 == 0:
            sized.same_state(*[f"{{t}}s{number}" for number in range(4)])


def test_random_transactions(sized: Differential):
    chooser = random.Random(9)
    for _ in range(300):
        batch = [args for args in (stream(chooser) for _ in range(12)) if args[0] not in RARE or chooser.random() < 0.3]
        if not batch:
            continue
        sized.same_transaction(batch, by=unordered)
        sized.same_state(*[f"{{t}}s{number}" for number in range(4)])


def test_encodings(both: Differential):
    owner = both.owner
    both.same("SADD", "numbers", *range(512))
    both.same("OBJECT", "ENCODING", "numbers")
    both.same("SADD", "numbers", 512)
    both.same("OBJECT", "ENCODING", "numbers")
    both.same("SADD", "few", 1, -2, 9223372036854775807)
    both.same("OBJECT", "ENCODING", "few")
    owner.command("SADD", "few", "01")
    assert owner.command("OBJECT", "ENCODING", "few") == b"listpack"
    owner.command("SADD", "few", "x" * 65)
    assert owner.command("OBJECT", "ENCODING", "few") == b"hashtable"
    refused = both.engine_answer("SADD", "new", "x" * 65523)
    assert isinstance(refused, Refusal) and refused.code == "LIMIT"
    assert owner.command("EXISTS", "new") == 0
