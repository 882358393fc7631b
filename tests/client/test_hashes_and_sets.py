"""The methods of hashes and sets over every way in, compact and large, and redis-py against a real Redis."""

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

import shmcache
from shmcache.errors import CrossSlot, DataError, WrongType
from tests.support.instance import running_instance

SIZES = [3, 300]
"""Elements: of a compact collection, and of a large one."""


@pytest.mark.parametrize("size", SIZES)
def test_hashes(cache: Any, size: int, is_redis: bool) -> None:
    expected = {b"f%d" % number: b"v%d" % number for number in range(size)}
    assert cache.hset("h", mapping=expected) == size
    assert cache.hset("h", "f0", "v0") == 0
    assert cache.hset("h", "more", 1, items=["other", 2]) == 2
    assert cache.hdel("h", "more", "other", "none") == 2
    assert cache.hget("h", "f1") == b"v1"
    assert cache.hget("h", "none") is cache.hget("none", "f") is None
    assert cache.hmget("h", "f2", "none") == cache.hmget("h", ["f2", "none"]) == [b"v2", None]
    assert cache.hgetall("h") == expected
    assert cache.hgetall("none") == {}
    assert sorted(cache.hkeys("h")) == sorted(expected)
    assert sorted(cache.hvals("h")) == sorted(expected.values())
    assert cache.hlen("h") == size
    assert cache.hexists("h", "f0") is True
    assert cache.hexists("h", "none") is False
    assert cache.hstrlen("h", "f0") == 2
    assert cache.hsetnx("h", "f0", 1) == 0
    assert cache.hsetnx("h", "n", 1) == 1
    assert cache.hincrby("h", "n") == 2
    assert cache.hincrby("h", "n", -5) == -3
    assert cache.hincrbyfloat("h", "n", 0.5) == -2.5
    assert cache.hdel("h", "n") == 1
    # redis-py warns of it.
    assert is_redis or cache.hmset("h", {"f0": "v0"}) is True
    assert cache.hrandfield("h") in expected
    assert len(cache.hrandfield("h", 2)) == 2
    flat = cache.hrandfield("h", -5, withvalues=True)
    assert len(flat) == 10 and all(expected[field] == value for field, value in zip(flat[::2], flat[1::2], strict=True))
    assert cache.hrandfield("none") is None
    cursor, found = cache.hscan("h", match="f1", count=1000)
    assert cursor == 0 and found == {b"f1": b"v1"}
    assert dict(cache.hscan_iter("h", count=20)) == expected
    assert cache.type("h") == b"hash"


@pytest.mark.parametrize("size", SIZES)
def test_sets(cache: Any, size: int) -> None:
    expected = {b"m%d" % number for number in range(size)}
    assert cache.sadd("s", *expected) == size
    assert cache.sadd("s", "m0", "x") == 1
    assert cache.srem("s", "x", "none") == 1
    assert cache.scard("s") == size
    assert cache.sismember("s", "m0") == 1
    assert cache.sismember("s", "none") == cache.sismember("none", "m0") == 0
    assert cache.smismember("s", ["m1", "none"]) == cache.smismember("s", "m1", "none") == [1, 0]
    assert cache.smembers("s") == expected
    assert cache.smembers("none") == set()
    assert cache.srandmember("s") in expected
    assert expected.issuperset(cache.srandmember("s", 2))
    assert len(cache.srandmember("s", -7)) == 7
    assert set(cache.sscan_iter("s", count=20)) == expected
    assert cache.sscan("s", match="m2", count=1000) == (0, [b"m2"])
    gone = cache.spop("s")
    more = cache.spop("s", 1)
    assert cache.smembers("s") == expected - {gone, *more}
    assert cache.spop("none") is None
    assert cache.type("s") == b"set"


def test_set_algebra(cache: Any) -> None:
    cache.sadd("{t}a", 1, 2, 3)
    cache.sadd("{t}b", 2, 3, 4)
    assert cache.sinter("{t}a", "{t}b") == cache.sinter(["{t}a", "{t}b"]) == {b"2", b"3"}
    assert cache.sunion("{t}a", "{t}b") == {b"1", b"2", b"3", b"4"}
    assert cache.sdiff("{t}a", "{t}b") == {b"1"}
    assert cache.sinter("{t}a", "{t}none") == set()
    assert cache.sintercard(2, ["{t}a", "{t}b"]) == 2
    assert cache.sintercard(2, ["{t}a", "{t}b"], limit=1) == 1
    assert cache.sinterstore("{t}to", "{t}a", "{t}b") == 2
    assert cache.sunionstore("{t}to", ["{t}a", "{t}b"]) == 4
    assert cache.sdiffstore("{t}to", "{t}a", "{t}b") == 1
    assert cache.smembers("{t}to") == {b"1"}
    assert cache.smove("{t}a", "{t}b", 1) is True
    assert cache.smove("{t}a", "{t}b", 1) is False


def test_decoded_results(connected: Any) -> None:
    cache = connected(decode_responses=True)
    cache.hset("h", mapping={"a": "é", "b": 2})
    cache.sadd("s", "x", "y")
    assert cache.hget("h", "a") == "é"
    assert cache.hgetall("h") == {"a": "é", "b": "2"}
    assert cache.hscan("h") == (0, {"a": "é", "b": "2"})
    assert cache.smembers("s") == {"x", "y"}
    assert sorted(cache.sscan("s")[1]) == ["x", "y"]
    pipeline = cache.pipeline(transaction=False)
    results = pipeline.hgetall("h").smembers("s").hscan("h").hget("h", "b").hexists("h", "a").execute()
    assert results == [{"a": "é", "b": "2"}, {"x", "y"}, (0, {"a": "é", "b": "2"}), "2", True]


def test_pipelines(connected: Any) -> None:
    cache = connected()
    pipeline = cache.pipeline(transaction=True)
    results = pipeline.hset("{t}h", "a", 1).hincrby("{t}h", "a", 2).sadd("{t}s", 1, 2).hgetall("{t}h").smembers("{t}s").spop("{t}s", 5).exists("{t}s").execute()
    assert results[:5] == [1, 3, 2, {b"a": b"3"}, {b"1", b"2"}]
    assert sorted(results[5]) == [b"1", b"2"] and results[6] == 0


def test_deadlines_of_fields(cache: Any, is_redis: bool) -> None:
    if is_redis:
        pytest.skip("Redis 7.0 has none")
    cache.hset("h", mapping={"a": 1, "b": 2})
    assert cache.hexpire("h", 100, "a", "none") == [1, -2]
    assert cache.hexpire("h", timedelta(seconds=50), "a", gt=True) == [0]
    assert cache.hpexpire("h", 60_000, "a", lt=True) == [1]
    assert cache.httl("h", "a", "b", "none") == [60, -1, -2]
    assert 59_000 < cache.hpttl("h", "a")[0] <= 60_000
    when = int(time.time()) + 500
    assert cache.hexpireat("h", datetime.fromtimestamp(when), "a") == [1]
    assert cache.hpexpireat("h", when * 1000, "b", nx=True) == [1]
    assert cache.hexpiretime("h", "a", "b") == [when, when]
    assert cache.hpexpiretime("h", "a") == [when * 1000]
    assert cache.hpersist("h", "a", "none") == [1, -2]
    assert cache.hgetex("h", "a", "none", ex=100) == [b"1", None]
    assert cache.hsetex("h", "c", 3, px=50_000) == 1
    assert cache.hsetex("h", mapping={"c": 4}, data_persist_option="FNX") == 0
    assert cache.hsetex("h", items=["c", 4], data_persist_option="FXX", keepttl=True) == 1
    assert cache.httl("h", "a", "c") == [100, 50]
    assert cache.hgetdel("h", "a", "b", "c") == [b"1", b"2", b"4"]
    assert cache.exists("h") == 0


def test_refusals(connected: Any, is_redis: bool) -> None:
    cache = connected()
    if is_redis:
        pytest.skip("redis-py has other errors")
    cache.set("text", "x")
    for call in (lambda: cache.hget("text", "a"), lambda: cache.sismember("text", "a"), lambda: cache.hgetall("text"), lambda: cache.sadd("text", 1)):
        with pytest.raises(WrongType):
            call()
    with pytest.raises(CrossSlot):
        cache.sinter("a", "b")
    with pytest.raises(CrossSlot):
        cache.sintercard(2, ["a", "b"])
    with pytest.raises(DataError):
        cache.hset("h")
    assert cache.execute_command("HSCAN", "none", 0, "NOVALUES") == (0, [])


def test_limits_are_options() -> None:
    """Given at the start; a cache with large collections only works as any other, and its readers ask the owners for what they cannot know."""
    with running_instance(workers=2, memory="32MB", hash_compact_entries=0, set_compact_entries=0) as instance, shmcache.connect(instance.url) as cache:
        cache.hset("h", "a", 1)
        cache.sadd("s", 1)
        assert cache.execute_command("OBJECT", "ENCODING", "h") == b"hashtable"
        assert cache.hget("h", "a") == b"1"
        assert cache.sismember("s", 1) == 1
        assert cache.hgetall("h") == {b"a": b"1"}
        assert cache.smembers("s") == {b"1"}
        assert cache.hlen("h") == cache.scard("s") == 1
        assert cache.hrandfield("h") == b"a"
        assert cache.pipeline().hgetall("h").scard("s").hstrlen("h", "a").execute() == [{b"a": b"1"}, 1, 1]
