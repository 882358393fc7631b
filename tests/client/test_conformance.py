"""Every command over every way in: shared memory and tcp, sync and asyncio, one worker and three, and
redis-py against a real Redis, which proves that the expected answers are Redis'.
"""

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

import shmcache.errors


def refused(cache: Any, text: str, method: str, *args: Any, **kwargs: Any) -> None:
    """The call fails as a command, with `text` in its message."""
    redis = pytest.importorskip("redis")
    with pytest.raises((shmcache.errors.ResponseError, redis.ResponseError), match=text):
        getattr(cache, method)(*args, **kwargs)


def test_set_and_get(cache: Any) -> None:
    """Bytes, text and numbers come back as bytes; a missing key is None."""
    assert cache.get("k") is None
    assert cache.set("k", b"\x00\xffbinary") is True
    assert cache.get(b"k") == b"\x00\xffbinary"
    for value, stored in (
        ("é", "é".encode()),
        (17, b"17"),
        (-1, b"-1"),
        (1.5, b"1.5"),
        (2**80, b"%d" % 2**80),
        ("", b""),
    ):
        cache.set("k", value)
        assert cache.get("k") == stored
    cache.set(7, b"x")
    assert cache.get("7") == b"x"
    cache.set("k", memoryview(b"view"))
    assert cache.get(memoryview(b"k")) == b"view"


def test_set_options(cache: Any) -> None:
    """NX, XX, GET, KEEPTTL and the four expiries."""
    assert cache.set("k", 1, xx=True) is None
    assert cache.set("k", 1, nx=True) is True
    assert cache.set("k", 2, nx=True) is None
    assert cache.set("k", 2, xx=True, get=True) == b"1"
    assert cache.set("new", 2, get=True) is None
    assert cache.set("k", 3, ex=100) is True
    assert 99 <= cache.ttl("k") <= 100
    cache.set("k", 4, keepttl=True)
    assert 99 <= cache.ttl("k") <= 100
    cache.set("k", 5)
    assert cache.ttl("k") == -1
    cache.set("k", 5, px=timedelta(seconds=50))
    assert 49_000 < cache.pttl("k") <= 50_000
    when = int(time.time()) + 1000
    cache.set("k", 5, exat=when)
    assert cache.expiretime("k") == when
    cache.set("k", 5, pxat=datetime.fromtimestamp(when))
    assert cache.pexpiretime("k") == when * 1000
    refused(cache, "invalid expire time", "set", "k", 1, ex=0)


def test_set_variants(cache: Any) -> None:
    """SETNX, SETEX, PSETEX, GETSET, GETDEL, GETEX."""
    assert cache.setnx("k", 1) is True
    assert cache.setnx("k", 2) is False
    assert cache.setex("k", 10, "x") is True
    assert cache.ttl("k") == 10
    assert cache.psetex("k", 10_000, "y") is True
    assert cache.getset("k", "z") == b"y"
    assert cache.ttl("k") == -1
    assert cache.getex("k", ex=20) == b"z"
    assert cache.ttl("k") == 20
    assert cache.getex("k", persist=True) == b"z"
    assert cache.ttl("k") == -1
    assert cache.getdel("k") == b"z"
    assert cache.getdel("k") is None
    assert cache.getex("k") is None


def test_expiry_happens(cache: Any) -> None:
    """A key is gone when its time has come."""
    cache.set("k", 1, px=60)
    assert cache.get("k") == b"1"
    time.sleep(0.08)
    assert cache.get("k") is None
    assert cache.exists("k") == 0
    assert cache.ttl("k") == -2


def test_expire_options(cache: Any) -> None:
    """EXPIRE and its family with NX, XX, GT, LT; PERSIST."""
    assert cache.expire("k", 10) is False
    assert cache.ttl("k") == cache.pttl("k") == cache.expiretime("k") == cache.pexpiretime("k") == -2
    cache.set("k", 1)
    assert cache.ttl("k") == cache.pttl("k") == cache.expiretime("k") == cache.pexpiretime("k") == -1
    assert cache.expire("k", 10, xx=True) is False
    assert cache.expire("k", timedelta(minutes=1), nx=True) is True
    assert cache.expire("k", 50, gt=True) is False
    assert cache.pexpire("k", 50_000, lt=True) is True
    assert 49 <= cache.ttl("k") <= 50
    when = int(time.time()) + 500
    assert cache.expireat("k", when) is True
    assert cache.expiretime("k") == when
    assert cache.pexpireat("k", when * 1000 + 5) is True
    assert cache.pexpiretime("k") == when * 1000 + 5
    assert cache.persist("k") is True
    assert cache.persist("k") is False
    assert cache.expire("k", -1) is True
    assert cache.get("k") is None


def test_many_keys(cache: Any) -> None:
    """MGET, MSET, DEL, UNLINK, EXISTS and TOUCH over many slots answer as if there were one shard."""
    mapping = {f"k{n}": f"v{n}" for n in range(200)}
    assert cache.mset(mapping) is True
    keys = list(mapping)
    assert cache.mget(keys) == [value.encode() for value in mapping.values()]
    assert cache.mget("k3", "nope", "k3") == [b"v3", None, b"v3"]
    assert cache.exists("k1", "k1", "nope", "k2") == 3
    assert cache.touch("k1", "nope", "k2") == 2
    assert cache.delete("k1", "k2", "k1") == 2
    assert cache.unlink("k3", "k4", "nope") == 2
    assert cache.dbsize() == 196


def test_msetnx(cache: Any) -> None:
    """MSETNX sets all keys of one slot or none."""
    assert cache.msetnx({"{t}a": 1, "{t}b": 2}) is True
    assert cache.msetnx({"{t}c": 1, "{t}b": 2}) is False
    assert cache.mget("{t}a", "{t}b", "{t}c") == [b"1", b"2", None]


def test_counters(cache: Any) -> None:
    """INCR and its family, their results and refusals."""
    assert cache.incr("n") == 1
    assert cache.incr("n", 10) == 11
    assert cache.incrby("n", -1) == 10
    assert cache.decr("n") == 9
    assert cache.decrby("n", 4) == 5
    assert cache.incrbyfloat("n", 0.5) == 5.5
    assert cache.get("n") == b"5.5"
    refused(cache, "not an integer", "incr", "n")
    cache.set("n", 2**63 - 1)
    refused(cache, "overflow", "incr", "n")
    cache.set("n", "abc")
    refused(cache, "not a valid float", "incrbyfloat", "n", 1)


def test_parts_of_values(cache: Any) -> None:
    """APPEND, STRLEN, GETRANGE, SETRANGE."""
    assert cache.strlen("k") == 0
    assert cache.append("k", "Hello") == 5
    assert cache.append("k", " World") == 11
    assert cache.strlen("k") == 11
    assert cache.getrange("k", 0, 4) == b"Hello"
    assert cache.getrange("k", -5, -1) == b"World"
    assert cache.getrange("k", 5, 2) == b""
    assert cache.setrange("k", 6, "Redis") == 11
    assert cache.get("k") == b"Hello Redis"
    assert cache.setrange("pad", 3, "x") == 4
    assert cache.get("pad") == b"\0\0\0x"
    refused(cache, "out of range", "setrange", "k", -1, "x")


def test_rename_and_copy(cache: Any) -> None:
    """RENAME, RENAMENX and COPY take value and expiry along."""
    cache.set("{t}a", 1, ex=100)
    assert cache.rename("{t}a", "{t}b") is True
    assert cache.get("{t}a") is None
    assert cache.ttl("{t}b") == 100
    refused(cache, "no such key", "rename", "{t}a", "{t}b")
    cache.set("{t}c", 3)
    assert cache.renamenx("{t}b", "{t}c") is False
    assert cache.renamenx("{t}b", "{t}d") is True
    assert cache.copy("{t}d", "{t}c") is False
    assert cache.copy("{t}d", "{t}c", replace=True) is True
    assert cache.mget("{t}c", "{t}d") == [b"1", b"1"]
    assert cache.ttl("{t}c") == 100


def test_type_and_random_key(cache: Any) -> None:
    """TYPE and RANDOMKEY."""
    assert cache.type("k") == b"none"
    assert cache.randomkey() is None
    cache.set("k", 1)
    assert cache.type("k") == b"string"
    assert cache.randomkey() == b"k"


def test_scan(cache: Any) -> None:
    """SCAN gives every key that is there all the time, over all shards, and ends with 0."""
    wanted = {b"key:%d" % n for n in range(300)}
    cache.mset(dict.fromkeys(wanted, 1) | {"other": 1})
    found: set[bytes] = set()
    cursor, steps = 0, 0
    while True:
        cursor, keys = cache.scan(cursor, match="key:*", count=20)
        assert isinstance(cursor, int)
        found.update(keys)
        steps += 1
        if cursor == 0:
            break
    assert found == wanted
    assert steps > 5
    assert set(cache.scan_iter(match="key:*", count=50)) == wanted
    assert set(cache.scan_iter(_type="string")) == wanted | {b"other"}
    assert list(cache.scan_iter(match="nothing*")) == []
    assert set(cache.keys("key:1?")) == {b"key:%d" % n for n in range(10, 20)}
    assert len(cache.keys()) == 301


def test_server_commands(cache: Any) -> None:
    """PING, ECHO, TIME, INFO, DBSIZE, FLUSHALL, FLUSHDB."""
    assert cache.ping() is True
    assert cache.echo("hi") == b"hi"
    seconds, microseconds = cache.time()
    assert abs(seconds - time.time()) < 5
    assert 0 <= microseconds < 1_000_000
    cache.set("k", 1)
    assert cache.dbsize() == 1
    assert cache.info()["used_memory"] > 0
    assert cache.flushdb() is True
    assert cache.dbsize() == 0
    assert cache.flushall(asynchronous=True) is True


def test_execute_command(cache: Any) -> None:
    """Any command by name gives what its method gives; unknown names and wrong arity are refused."""
    assert cache.execute_command("SET", "k", 1) is True
    assert cache.execute_command("GET", "k") == b"1"
    assert cache.execute_command("EXPIRE", "k", 10) in (True, 1)
    refused(cache, "unknown command", "execute_command", "NOSUCH", 1)
    refused(cache, "wrong number of arguments", "execute_command", "GET")
    refused(cache, "wrong number of arguments", "execute_command", "MSET", "a")
    refused(cache, "syntax error", "execute_command", "SET", "k", 1, "NONSENSE")


def test_bits_and_sketches(cache: Any) -> None:
    """Commands without a method, also those whose key is not the first argument."""
    run = cache.execute_command
    assert run("SETBIT", "{x}a", 7, 1) == 0
    assert [run("GETBIT", "{x}a", 7), run("BITCOUNT", "{x}a"), run("BITPOS", "{x}a", 1)] == [1, 1, 7]
    assert run("BITFIELD", "{x}a", "INCRBY", "u8", 0, 64) == [65]
    assert run("BITFIELD_RO", "{x}a", "GET", "u8", 0) == [65]
    assert run("BITOP", "NOT", "{x}b", "{x}a") == 1
    assert cache.get("{x}b") == b"\xbe"
    assert run("PFADD", "{x}h", "one", "two") == 1
    assert run("PFADD", "{x}i", "three") == 1
    assert run("PFMERGE", "{x}j", "{x}h", "{x}i") is True
    assert [run("PFCOUNT", "{x}j"), run("PFCOUNT", "{x}h", "{x}i")] == [3, 3]
    assert cache.mset({"{x}s": "ohmytext", "{x}t": "mynewtext"})
    assert run("LCS", "{x}s", "{x}t") == b"mytext"
    assert run("LCS", "{x}s", "{x}t", "LEN") == 6
    assert run("SUBSTR", "{x}s", 2, 3) == b"my"
    for number in range(8):
        cache.set(f"object:{number}", "1234")
        assert run("OBJECT", "ENCODING", f"object:{number}") in (b"int", "int")
    assert run("OBJECT", "ENCODING", "none") is None
    assert len(run("OBJECT", "HELP")) > 4


def test_commands_of_one_slot(cache: Any, is_redis: bool) -> None:
    if is_redis:
        pytest.skip("one server knows no slots")
    for words in (("PFCOUNT", "a", "b"), ("PFMERGE", "a", "b"), ("BITOP", "AND", "a", "b"), ("LCS", "a", "b")):
        with pytest.raises(shmcache.errors.CrossSlot):
            cache.execute_command(*words)


def test_decode_responses(connected: Any) -> None:
    """With decode_responses data is text everywhere."""
    cache = connected(decode_responses=True)
    cache.mset({"a": "é", "b": "2"})
    assert cache.get("a") == "é"
    assert cache.mget("a", "nope") == ["é", None]
    assert cache.type("a") == "string"
    assert sorted(cache.keys()) == sorted(cache.scan_iter()) == ["a", "b"]
    assert cache.getset("a", 1) == "é"
    assert cache.echo("x") == "x"
    assert cache.randomkey() in ("a", "b")
    assert cache.pipeline().get("a").set("a", 2).type("a").execute() == ["1", True, "string"]


def test_pipeline(cache: Any) -> None:
    """Results in order over all shards; reads see the writes before them."""
    pipeline = cache.pipeline(transaction=False)
    for number in range(60):
        pipeline.set(f"k{number}", number).get(f"k{number}").incr(f"k{number}")
    pipeline.mget("k1", "k2").delete("k1", "k2", "k3").exists("k1", "k4").dbsize()
    assert len(pipeline) == 184
    results = pipeline.execute()
    expected: list[Any] = [part for n in range(60) for part in (True, b"%d" % n, n + 1)]
    assert results[:180] == expected
    assert results[180:183] == [[b"2", b"3"], 3, 1]
    assert results[183] == 57
    assert len(pipeline) == 0
    assert pipeline.execute() == []


def test_pipeline_of_reads(cache: Any) -> None:
    """A pipeline of reads alone gives the same as one with writes."""
    cache.mset({"a": 1, "b": 2})
    assert cache.pipeline(transaction=False).get("a").get("nope").get("b").execute() == [b"1", None, b"2"]
    assert cache.pipeline(transaction=False).get("a").strlen("b").ttl("nope").mget("b", "a").execute() == [
        b"1",
        1,
        -2,
        [b"2", b"1"],
    ]


def test_pipeline_with_errors(cache: Any) -> None:
    """A failed command keeps its place; the others happen. The first error is raised if wished."""
    redis = pytest.importorskip("redis")
    kinds = (shmcache.errors.ResponseError, redis.ResponseError)
    cache.set("text", "abc")
    pipeline = cache.pipeline(transaction=False)
    results = (
        pipeline.set("a", 1).incr("text").execute_command("NOSUCH").set("b", 2).execute(raise_on_error=False)
    )
    assert results[0] is True
    assert results[3] is True
    assert isinstance(results[1], kinds)
    assert isinstance(results[2], kinds)
    with pytest.raises(kinds, match="not an integer"):
        cache.pipeline(transaction=False).set("c", 1).incr("text").set("d", 2).execute()
    assert cache.mget("a", "b", "c", "d") == [b"1", b"2", b"1", b"2"]


def test_transaction(cache: Any) -> None:
    """A transaction on one slot runs as a whole."""
    pipeline = cache.pipeline(transaction=True)
    assert pipeline.set("{t}a", 1).incr("{t}a").set("{t}b", "x").get("{t}a").execute() == [
        True,
        2,
        True,
        b"2",
    ]


def test_large_value(cache: Any) -> None:
    """16 MB go in and come back whole."""
    value = bytes(range(256)) * 65536
    assert cache.set("large", value) is True
    assert cache.strlen("large") == len(value)
    assert cache.get("large") == value
    assert cache.getrange("large", 256, 258) == b"\0\1\2"
    assert cache.delete("large") == 1


def test_unstorable_types(cache: Any, is_redis: bool) -> None:
    """None, bools and objects are refused before anything is sent."""
    redis = pytest.importorskip("redis")
    for value in (None, True, [1], object()):
        with pytest.raises(redis.DataError if is_redis else TypeError):
            cache.set("k", value)


def test_stamps(cache: Any, is_redis: bool) -> None:
    """Compare-and-set: a write with a stamp that is no longer the key's does nothing."""
    if is_redis:
        pytest.skip("Redis has no stamps")
    assert cache.get_stamped("k") is None
    assert cache.set_if_stamp("k", 1, 0) is True
    assert cache.set_if_stamp("k", 2, 0) is None
    value, stamp = cache.get_stamped("k")
    assert value == b"1"
    assert cache.set_if_stamp("k", 2, stamp, ex=10) is True
    assert cache.ttl("k") == 10
    assert cache.set_if_stamp("k", 3, stamp) is None
    value, newer = cache.get_stamped("k")
    assert value == b"2"
    assert newer > stamp


def test_cross_slot(cache: Any, is_redis: bool) -> None:
    """Commands that need one slot refuse others and name the remedy."""
    if is_redis:
        pytest.skip("a single Redis has no slots")
    for method, args in (("msetnx", ({"a": 1, "b": 2},)), ("rename", ("a", "b")), ("copy", ("a", "b"))):
        with pytest.raises(shmcache.errors.CrossSlot, match="hash tag"):
            getattr(cache, method)(*args)
    assert cache.exists("a", "b") == 0
