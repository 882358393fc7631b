"""Hashes beside a real redis-server, compact and large, and what Redis 7.0 does not have by its documented answers."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from shmcache import _engine
from tests.engine.regions import execute
from tests.support.differential import Differential, Refusal, code_only, pairs, unordered

LIMITS = {"large": (0, 64), "two": (2, 8), "usual": (128, 64)}
LONG = "x" * 100


@pytest.fixture(params=LIMITS)
def sized(request: pytest.FixtureRequest, both: Differential) -> Iterator[Differential]:
    """With hashes that are large at once, from the third field or long text on, or as usual."""
    entries, size_bytes = LIMITS[request.param]
    both.owner.configure(hash_compact_entries=entries, hash_compact_bytes=size_bytes)
    yield both
    both.owner.verify()
    both.owner.configure(hash_compact_entries=128, hash_compact_bytes=64)


def test_fields(sized: Differential):
    sized.all_same(
        "HSET h a 1", "HSET h a 2 b 3", "HSET h a", "HSET h a 1 b", "HMSET h", "HMSET h a 1 b", "HMSET h c 4 d 5 c 6", "HSET new x 1 x 2 y 3", "HGET h c", "HGET h none", "HGET none a",
        "HMGET h a none c", "HMGET none a b", "HLEN h", "HLEN none", "HEXISTS h a", "HEXISTS h none", "HSETNX h a 9", "HSETNX h e 9", "HSETNX fresh a 1", "HSTRLEN h e", "HSTRLEN h none",
        "HSTRLEN none none", "HDEL h a none a", "HDEL h", "HDEL none a", "TYPE h", "HGETALL none", "HKEYS none", "HVALS none", "HSET h", "HGET h", "HLEN", "HSETNX h a", "HSTRLEN h",
    )  # fmt: skip
    sized.same("HSET", "h", "long", LONG, LONG, "short", "", "", b"\x00\xff", "binary \r\n")
    sized.same("HSTRLEN", "h", "long")
    sized.same("HKEYS", "h", by=unordered)
    sized.same("HVALS", "h", by=unordered)
    sized.same_state("h", "new", "fresh")
    fields = sized.redis_answer("HKEYS", "h")
    sized.same("HDEL", "h", *fields[1:])
    sized.same_state("h")
    sized.same("HDEL", "h", fields[0])
    sized.same("EXISTS", "h")


def test_counters(sized: Differential):
    sized.all_same(
        "HINCRBY h n 5", "HINCRBY h n -7", "HINCRBY h n x", "HINCRBY h n 1.5", "HSET h text abc max 9223372036854775807 float 3.5 spaced 1e3", "HINCRBY h text 1", "HINCRBY h max 1",
        "HINCRBY h float 1", "HINCRBYFLOAT h float 0.1", "HINCRBYFLOAT h f 0.1", "HINCRBYFLOAT h f 0.2", "HINCRBYFLOAT h text 1", "HINCRBYFLOAT h f x", "HINCRBYFLOAT h f inf", "HINCRBYFLOAT h f nan",
        "HINCRBYFLOAT h spaced -1000", "HINCRBYFLOAT h n 1.0", "HGET h f", "HINCRBY h", "HINCRBYFLOAT h f", "HINCRBY h max -9223372036854775808", "HINCRBYFLOAT h new 1e5",
    )  # fmt: skip
    sized.same_state("h")


def test_wrong_kinds(sized: Differential):
    sized.same("SET", "s", "text")
    sized.same("SADD", "set", "a")
    for key in ("s", "set"):
        for line in (
            "HSET {} a 1", "HMSET {} a 1", "HGET {} a", "HMGET {} a", "HDEL {} a", "HLEN {}", "HEXISTS {} a", "HSETNX {} a 1", "HINCRBY {} a 1", "HINCRBYFLOAT {} a 1", "HKEYS {}", "HVALS {}",
            "HGETALL {}", "HSTRLEN {} a", "HRANDFIELD {}", "HRANDFIELD {} 2", "HSCAN {} 0", "HINCRBY {} a x",
        ):  # fmt: skip
            sized.same(*line.format(key).split())
    sized.same("HSET", "h", "a", 1)
    sized.same("GET", "h")
    sized.same("SADD", "h", "a")
    sized.same("SET", "h", "now a string")
    sized.same_state("h")


def test_random_fields(sized: Differential):
    sized.all_same(
        "HRANDFIELD none", "HRANDFIELD none 3", "HRANDFIELD none -3 WITHVALUES", "HSET one a 1", "HRANDFIELD one", "HRANDFIELD one 5", "HRANDFIELD one -3", "HRANDFIELD one 2 WITHVALUES", "HRANDFIELD one 0",
        "HRANDFIELD one x", "HRANDFIELD one 1 OTHER", "HRANDFIELD one 1 WITHVALUES more", "HRANDFIELD one -9223372036854775808", "HRANDFIELD one -9223372036854770000 WITHVALUES",
        "HRANDFIELD one 9223372036854775807 WITHVALUES", "HRANDFIELD one 9223372036854775807",
    )  # fmt: skip
    for count in range(20):
        sized.same("HSET", "h", f"f{count}", f"v{count}")
    sized.same("HRANDFIELD", "h", 20, by=unordered)
    sized.same("HRANDFIELD", "h", 50, "WITHVALUES", by=pairs)
    owner = sized.owner
    seen: set[bytes] = set()
    for _ in range(40):
        some = owner.command("HRANDFIELD", "h", 7)
        assert len(set(some)) == 7
        seen.update(some)
        flat = owner.command("HRANDFIELD", "h", -30, "WITHVALUES")
        assert len(flat) == 60 and all(value == b"v" + field[1:] for field, value in zip(flat[::2], flat[1::2], strict=True))
        seen.add(owner.command("HRANDFIELD", "h"))
    assert len(seen) == 20
    refused = sized.engine_answer("HRANDFIELD", "h", -(1 << 20) - 1)
    assert isinstance(refused, Refusal) and refused.code == "LIMIT"


def scanned(owner: _engine.Owner, *options: object, key: str = "h", name: str = "HSCAN") -> list[bytes]:
    found, cursor = [], b"0"
    while True:
        cursor, some = owner.command(name, key, cursor, *options)
        found += some
        if cursor == b"0":
            return found


def test_scan(sized: Differential):
    sized.all_same("HSCAN none 0", "HSCAN none x", "HSCAN none 0 BAD", "HSET h a 1", "HSCAN h 0", "HSCAN h x", "HSCAN h 0 COUNT", "HSCAN h 0 COUNT 0", "HSCAN h 0 COUNT x", "HSCAN h 0 BAD x", "HSCAN h 0 MATCH b", "HSCAN h")
    expected = {b"f%d" % number: b"v%d" % number for number in range(3000)}
    for number in range(0, 3000, 100):
        sized.same("HSET", "h", *[part for n in range(number, number + 100) for part in (f"f{n}", f"v{n}")])
    expected[b"a"] = b"1"
    flat = scanned(sized.owner)
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == expected and len(flat) == 2 * len(expected)
    flat = scanned(sized.owner, "MATCH", "f*7", "COUNT", 1000)
    assert set(flat[::2]) == {field for field in expected if field[:1] == b"f" and field[-1:] == b"7"}
    assert set(scanned(sized.owner, "NOVALUES")) == set(expected)


def test_a_scan_finds_what_is_there_throughout(both: Differential):
    owner = both.owner
    chooser = random.Random(3)
    stable = {b"stable%d" % number for number in range(2000)}
    owner.command("HSET", "h", *[part for field in stable for part in (field, "1")])
    found, cursor = set(), b"0"
    while True:
        cursor, some = owner.command("HSCAN", "h", cursor, "NOVALUES", "COUNT", 50)
        found.update(some)
        if cursor == b"0":
            break
        for _ in range(30):
            owner.command("HSET", "h", f"fleeting{chooser.randrange(3000)}", "1")
            owner.command("HDEL", "h", f"fleeting{chooser.randrange(3000)}")
    assert stable <= found


def stream(chooser: random.Random) -> tuple[Any, ...]:
    key, field, other = f"{{t}}h{chooser.randrange(4)}", f"f{chooser.randrange(12)}", f"f{chooser.randrange(12)}"
    value = chooser.choice(["", "1", "-5", "2.5", "word", "y" * 70, str(chooser.randrange(1000))])
    return chooser.choice(
        [
            ("HSET", key, field, value), ("HSET", key, field, value, other, "1"), ("HMSET", key, other, value, field, "2"), ("HSETNX", key, field, value), ("HDEL", key, field), ("HDEL", key, field, other),
            ("HINCRBY", key, field, chooser.randrange(-9, 9)), ("HINCRBYFLOAT", key, field, "0.25"), ("HGET", key, field), ("HMGET", key, field, other), ("HLEN", key), ("HEXISTS", key, field), ("HSTRLEN", key, field),
            ("RENAME", key, f"{{t}}h{chooser.randrange(4)}"), ("COPY", key, f"{{t}}h{chooser.randrange(4)}", "REPLACE"), ("DEL", key), ("EXPIRE", key, 100), ("PERSIST", key), ("SET", key, value), ("SADD", key, field),
        ]
    )  # fmt: skip


def test_random_streams(sized: Differential):
    chooser = random.Random(8)
    for step in range(6000):
        # Keys of other kinds, and deletions, are rare.
        args = stream(chooser)
        if args[0] in ("SET", "SADD", "DEL", "RENAME", "COPY") and chooser.random() < 0.7:
            continue
        sized.same(*args)
        if step % 50 == 0:
            sized.same_state(*[f"{{t}}h{number}" for number in range(4)])


def test_random_transactions(sized: Differential):
    chooser = random.Random(9)
    for _ in range(300):
        batch = [stream(chooser) for _ in range(chooser.randrange(2, 9))]
        sized.same_transaction(batch, by=code_only)
        sized.same_state(*[f"{{t}}h{number}" for number in range(4)])


def test_encodings_and_limits(both: Differential):
    owner = both.owner
    both.same("HSET", "h", *[part for number in range(128) for part in (f"f{number}", "1")])
    both.same("OBJECT", "ENCODING", "h")
    both.same("HSET", "h", "one", "more")
    assert owner.command("OBJECT", "ENCODING", "h") == b"hashtable"
    both.same("HSET", "long", "f", "x" * 65)
    both.same("OBJECT", "ENCODING", "long")
    owner.configure(hash_compact_entries=512)
    owner.command("HSET", "wide", *[part for number in range(500) for part in (f"f{number}", "1")])
    assert owner.command("OBJECT", "ENCODING", "wide") == b"listpack"
    owner.configure(hash_compact_entries=128)
    refused = both.engine_answer("HSET", "h", "x" * 65523, "1")
    assert isinstance(refused, Refusal) and refused.code == "LIMIT"
    refused = both.engine_answer("HSET", "new", "x" * 65523, "1")
    assert isinstance(refused, Refusal) and refused.code == "LIMIT"
    assert owner.command("HSET", "h", "x" * 65522, "1") == 1
    assert owner.command("HLEN", "h") == 130
    assert owner.command("EXISTS", "new") == 0


# --- deadlines of fields: Redis 7.4 and 8 ----------------------------------------------------------


def test_field_deadlines(sized: Differential):
    run = sized.engine_answer
    now_ms = int(time.time() * 1000)
    assert run("HEXPIRE", "h", 10, "FIELDS", 2, "a", "b") == [-2, -2]
    assert run("HTTL", "h", "FIELDS", 1, "a") == [-2]
    assert run("HPERSIST", "h", "FIELDS", 1, "a") == [-2]
    run("HSET", "h", "a", "1", "b", "2", "c", "3")
    assert run("HTTL", "h", "FIELDS", 2, "a", "none") == [-1, -2]
    assert run("HEXPIRE", "h", 100, "XX", "FIELDS", 2, "a", "none") == [0, -2]
    assert run("HEXPIRE", "h", 100, "GT", "FIELDS", 1, "a") == [0]
    assert run("HEXPIRE", "h", 100, "NX", "FIELDS", 3, "a", "none", "b") == [1, -2, 1]
    assert run("HEXPIRE", "h", 200, "NX", "FIELDS", 2, "a", "c") == [0, 1]
    assert run("HEXPIRE", "h", 50, "GT", "FIELDS", 2, "a", "c") == [0, 0]
    assert run("HEXPIRE", "h", 300, "GT", "FIELDS", 1, "a") == [1]
    assert run("HEXPIRE", "h", 400, "LT", "FIELDS", 1, "a") == [0]
    assert run("HPEXPIRE", "h", 150_000, "LT", "FIELDS", 1, "a") == [1]
    assert run("HTTL", "h", "FIELDS", 4, "a", "b", "c", "none") == [150, 100, 200, -2]
    (left,) = run("HPTTL", "h", "FIELDS", 1, "a")
    assert 149_000 < left <= 150_000
    (when,) = run("HPEXPIRETIME", "h", "FIELDS", 1, "a")
    assert abs(when - now_ms - 150_000) < 2000
    assert run("HEXPIRETIME", "h", "FIELDS", 1, "a") == [-(-when // 1000)]
    assert run("HEXPIREAT", "h", now_ms // 1000 + 500, "FIELDS", 1, "a") == [1]
    assert run("HPEXPIREAT", "h", now_ms + 700_000, "FIELDS", 1, "a") == [1]
    assert run("HPEXPIRETIME", "h", "FIELDS", 1, "a") == [now_ms + 700_000]
    # What a change of the value does to it.
    assert run("HINCRBY", "h", "a", 5) == 6
    assert run("HPEXPIRETIME", "h", "FIELDS", 1, "a") == [now_ms + 700_000]
    assert run("HINCRBYFLOAT", "h", "a", "0.5") == b"6.5"
    assert run("HPEXPIRETIME", "h", "FIELDS", 1, "a") == [now_ms + 700_000]
    assert run("HSET", "h", "a", "7") == 0
    assert run("HTTL", "h", "FIELDS", 1, "a") == [-1]
    assert run("HPERSIST", "h", "FIELDS", 3, "a", "b", "none") == [-1, 1, -2]
    assert run("HTTL", "h", "FIELDS", 1, "b") == [-1]
    # The past deletes.
    assert run("HEXPIRE", "h", 0, "FIELDS", 3, "a", "a", "none") == [2, -2, -2]
    assert run("HPEXPIREAT", "h", 1, "FIELDS", 2, "b", "c") == [2, 2]
    assert run("EXISTS", "h") == 0


def test_deadlines_are_copied_and_renamed(sized: Differential):
    run = sized.engine_answer
    run("HSET", "h", "a", "1", "b", "2")
    run("HEXPIRE", "h", 100, "FIELDS", 1, "a")
    run("EXPIRE", "h", 500)
    run("COPY", "h", "copy")
    run("RENAME", "h", "other")
    for key in ("copy", "other"):
        assert run("HTTL", key, "FIELDS", 2, "a", "b") == [100, -1]
        assert run("TTL", key) == 500


def test_fields_expire(sized: Differential):
    run, owner = sized.engine_answer, sized.owner
    run("HSET", "h", "a", "1", "b", "2", "c", "3")
    run("HSET", "gone", "a", "1")
    run("HPEXPIRE", "h", 30, "FIELDS", 2, "a", "b")
    run("HPEXPIRE", "gone", 30, "FIELDS", 1, "a")
    reader = sized.reader
    time.sleep(0.05)
    # Read or not: nobody sees them any more, and the memory comes back by itself.
    assert run("HGETALL", "h") == [b"c", b"3"]
    assert reader.command("HGET", "h", "a") is None
    assert reader.command("HMGET", "h", "a", "c") == [None, b"3"]
    assert run("HKEYS", "gone") == []
    assert run("HRANDFIELD", "h", -5) == [b"c"] * 5
    assert run("HRANDFIELD", "h", 5) == [b"c"]
    assert run("HSCAN", "h", 0) == [b"0", [b"c", b"3"]]
    until = time.monotonic() + 5
    while run("EXISTS", "gone") or run("HLEN", "h") > 1:
        owner.tick()
        time.sleep(0.02)
        assert time.monotonic() < until
    assert run("HSET", "h", "a", "new") == 1
    assert run("HTTL", "h", "FIELDS", 1, "a") == [-1]


def test_get_and_set_with_deadlines(sized: Differential):
    run = sized.engine_answer
    assert run("HSETEX", "h", "EX", 100, "FIELDS", 2, "a", "1", "b", "2") == 1
    assert run("HTTL", "h", "FIELDS", 2, "a", "b") == [100, 100]
    assert run("HSETEX", "h", "FNX", "FIELDS", 2, "a", "3", "c", "4") == 0
    assert run("HSETEX", "h", "FXX", "KEEPTTL", "FIELDS", 2, "a", "3", "b", "4") == 1
    assert run("HTTL", "h", "FIELDS", 2, "a", "b") == [100, 100]
    assert run("HGETEX", "h", "PERSIST", "FIELDS", 2, "a", "none") == [b"3", None]
    assert run("HTTL", "h", "FIELDS", 1, "a") == [-1]
    assert run("HGETEX", "h", "PX", 50_000, "FIELDS", 1, "a") == [b"3"]
    assert run("HTTL", "h", "FIELDS", 1, "a") == [50]
    assert run("HGETEX", "h", "FIELDS", 1, "a") == [b"3"]
    assert run("HSETEX", "h", "FIELDS", 1, "b", "5") == 1
    assert run("HTTL", "h", "FIELDS", 1, "b") == [-1]
    assert run("HSETEX", "h", "PXAT", 5, "FIELDS", 1, "b", "6") == 1
    assert run("HGETDEL", "h", "FIELDS", 3, "a", "b", "none") == [b"3", None, None]
    assert run("EXISTS", "h") == 0
    assert run("HGETDEL", "h", "FIELDS", 1, "a") == [None]
    assert run("HGETEX", "h", "EX", 5, "FIELDS", 1, "a") == [None]


@pytest.mark.parametrize(
    "line",
    [
        "HEXPIRE h x FIELDS 1 a", "HEXPIRE h -1 FIELDS 1 a", "HEXPIRE h 9223372036854775807 FIELDS 1 a", "HPEXPIREAT h 70368744177665 FIELDS 1 a", "HEXPIRE h 1 FIELD 1 a", "HEXPIRE h 1 ZZ FIELDS 1 a",
        "HEXPIRE h 1 NX XX FIELDS 1 a", "HEXPIRE h 1 FIELDS 2 a", "HEXPIRE h 1 FIELDS 1 a b", "HEXPIRE h 1 FIELDS 0 a", "HEXPIRE h 1 FIELDS -1 a", "HEXPIRE h 1 FIELDS", "HEXPIRE h 1 NX FIELDS 1",
        "HTTL h FIELDS 0 a", "HTTL h FIELDS 9223372036854775807 a", "HTTL h 1 a b", "HPERSIST h FIELDS 2 a", "HGETEX h EX 0 FIELDS 1 a", "HGETEX h EX 1 PX 1 FIELDS 1 a", "HGETEX h KEEPTTL FIELDS 1 a",
        "HSETEX h EX 1 KEEPTTL FIELDS 1 a 1", "HSETEX h FNX FXX FIELDS 1 a 1", "HSETEX h EX 1 FIELDS 1 a", "HSETEX h EX x FIELDS 1 a 1", "HSETEX h PERSIST FIELDS 1 a 1", "HGETDEL h FIELDS 2 a",
    ],
)  # fmt: skip
def test_wrong_arguments_change_nothing(both: Differential, line: str):
    both.owner.command("HSET", "h", "a", "1")
    answer = both.engine_answer(*line.split())
    assert isinstance(answer, Refusal) and answer.code == "ERR", answer
    assert both.owner.command("HGETALL", "h") == [b"a", b"1"]
    both.owner.command("SET", "s", "1")
    wrong = line.replace(" h ", " s ")
    assert isinstance(both.engine_answer(*wrong.split()), Refusal)


def test_deadlines_in_a_transaction(sized: Differential):
    owner = sized.owner
    answers = execute(
        owner,
        [("HSET", "h", "a", "1", "b", "2"), ("HEXPIRE", "h", 100, "FIELDS", 1, "a"), ("HTTL", "h", "FIELDS", 2, "a", "b"), ("HINCRBY", "h", "a", 1), ("HSET", "h", "b", "3"), ("HLEN", "h"),
        ("HEXPIRE", "h", 0, "FIELDS", 1, "b"), ("HGETALL", "h")],
        flags=_engine.FLAG_TRANSACTION,
    )  # fmt: skip
    assert answers == [2, [1], [100, -1], 2, 0, 2, [2], [b"a", b"2"]]
    assert owner.command("HTTL", "h", "FIELDS", 1, "a") == [100]
