"""The methods of sorted sets and places over every way in, compact and large, and redis-py against a real Redis."""

import threading
import time
from typing import Any

import pytest

import shmcache
from shmcache.errors import CrossSlot, DataError, WrongType

SIZES = [5, 300]
"""Members: of a compact sorted set, and of a large one."""


def fill(cache: Any, key: str, size: int) -> None:
    assert cache.zadd(key, {f"m{number:03}": number / 2 for number in range(size)}) == size


@pytest.mark.parametrize("size", SIZES)
def test_single_members(cache: Any, size: int) -> None:
    fill(cache, "z", size)
    assert cache.zadd("z", {"m000": 1, "new": 2.5}, ch=True) == 2
    assert cache.zadd("z", {"m000": 0}, nx=True) == 0
    assert cache.zadd("z", {"m000": 0.5}, lt=True, ch=True) == 1
    assert cache.zadd("z", {"m000": -0.5}, incr=True) == 0.0
    assert cache.zadd("z", {"nobody": 1}, xx=True, incr=True) is None
    assert cache.zincrby("z", 1.5, "new") == 4.0
    assert cache.zrem("z", "new", "nobody") == 1
    assert cache.zscore("z", "m003") == 1.5
    assert isinstance(cache.zscore("z", "m002"), float)
    assert cache.zscore("z", "nobody") is cache.zscore("none", "m") is None
    assert cache.zmscore("z", ["m001", "nobody"]) == [0.5, None]
    assert (cache.zrank("z", "m003"), cache.zrevrank("z", "m003")) == (3, size - 4)
    assert cache.zrank("z", "nobody") is None
    assert cache.zcard("z") == size
    assert cache.zcount("z", "(0.5", 1.5) == 2
    assert cache.zcount("z", "-inf", "+inf") == size
    assert cache.zadd("z", {"far": float("inf")}) == 1
    assert cache.zscore("z", "far") == float("inf")


@pytest.mark.parametrize("size", SIZES)
def test_ranges(cache: Any, size: int) -> None:
    fill(cache, "{z}", size)
    assert cache.zrange("{z}", 0, 1) == [b"m000", b"m001"]
    assert cache.zrange("{z}", 0, 1, withscores=True) == [(b"m000", 0.0), (b"m001", 0.5)]
    assert cache.zrange("{z}", 1, 0, desc=True, byscore=True, withscores=True) == [(b"m002", 1.0), (b"m001", 0.5), (b"m000", 0.0)]
    assert cache.zrange("{z}", 0, 9, byscore=True, offset=1, num=2) == [b"m001", b"m002"]
    assert cache.zrevrange("{z}", -2, -1, withscores=True) == [(b"m001", 0.5), (b"m000", 0.0)]
    assert cache.zrangebyscore("{z}", "(0", 1, withscores=True) == [(b"m001", 0.5), (b"m002", 1.0)]
    assert cache.zrevrangebyscore("{z}", 1, "-inf", start=1, num=1) == [b"m001"]
    assert cache.zrangestore("{z}2", "{z}", 0, 2) == 3
    assert cache.zremrangebyrank("{z}2", 0, 0) == 1
    assert cache.zremrangebyscore("{z}2", 1, 1) == 1
    assert cache.zrange("{z}2", 0, -1) == [b"m001"]
    cache.zadd("{z}l", {f"m{number:03}": 0 for number in range(size)})
    assert cache.zrangebylex("{z}l", "[m001", "(m003") == [b"m001", b"m002"]
    assert cache.zrevrangebylex("{z}l", "(m003", "-", start=0, num=2) == [b"m002", b"m001"]
    assert cache.zlexcount("{z}l", "-", "+") == size
    assert cache.zremrangebylex("{z}l", "-", "[m001") == 2


@pytest.mark.parametrize("size", SIZES)
def test_some_members(cache: Any, size: int) -> None:
    fill(cache, "z", size)
    assert cache.zpopmin("z") == [(b"m000", 0.0)]
    assert cache.zpopmax("z", 2) == [(b"m%03d" % number, number / 2) for number in (size - 1, size - 2)]
    assert cache.zpopmin("none") == []
    assert cache.zmpop(2, ["{z}none", "{z}"], min=True) is None
    assert cache.zmpop(1, ["z"], min=True) == [b"z", [[b"m001", b"0.5"]]]
    assert cache.zrandmember("none") is None
    assert cache.zrandmember("z") in cache.zrange("z", 0, -1)
    assert len(set(cache.zrandmember("z", 1000))) == size - 4
    assert len(cache.zrandmember("z", -1000)) == 1000
    member, score = cache.zrandmember("z", 1, withscores=True)
    assert member == b"m%03d" % (float(score) * 2)
    assert sorted(cache.zscan_iter("z", match="m*", count=20)) == sorted(cache.zrange("z", 0, -1, withscores=True))
    assert cache.bzpopmin("z", 1) == (b"z", b"m002", 1.0)
    assert cache.bzpopmax(["z"], 1)[0] == b"z" if size > 5 else cache.bzpopmax(["z"], 0.05) is None


def test_several_sorted_sets(cache: Any) -> None:
    cache.zadd("{z}a", {"x": 1, "y": 2})
    cache.zadd("{z}b", {"y": 10, "w": 0.5})
    cache.sadd("{z}s", "x", "w")
    assert cache.zunion(["{z}a", "{z}b"]) == [b"w", b"x", b"y"]
    assert cache.zunion({"{z}a": 2, "{z}b": 1}, aggregate="MAX", withscores=True) == [(b"w", 0.5), (b"x", 2.0), (b"y", 10.0)]
    assert cache.zinter(["{z}a", "{z}b"], withscores=True) == [(b"y", 12.0)]
    assert cache.zinter(["{z}a", "{z}s"]) == [b"x"]
    assert cache.zdiff(["{z}a", "{z}b"], withscores=True) == [b"x", b"1"]
    assert cache.zintercard(2, ["{z}a", "{z}b"]) == 1
    assert cache.zunionstore("{z}c", ["{z}a", "{z}b"]) == 3
    assert cache.zinterstore("{z}c", {"{z}a": 1, "{z}b": 3}, aggregate="SUM") == 1
    assert cache.zscore("{z}c", "y") == 32.0
    assert cache.zdiffstore("{z}c", ["{z}a", "{z}a"]) == 0
    assert cache.exists("{z}c") == 0


def test_places(cache: Any) -> None:
    assert cache.geoadd("{g}", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
    assert cache.geodist("{g}", "Palermo", "Catania", "km") == pytest.approx(166.2742, abs=1e-3)
    assert cache.geodist("{g}", "Palermo", "nobody") is None
    assert cache.geohash("{g}", "Palermo", "nobody") == ["sqc8b49rny0", None]
    (longitude, latitude), none = cache.geopos("{g}", "Palermo", "nobody")
    assert none is None
    assert (longitude, latitude) == pytest.approx((13.361389, 38.115556), abs=1e-5)
    assert cache.geosearch("{g}", longitude=15, latitude=37, radius=200, unit="km", sort="ASC") == [b"Catania", b"Palermo"]
    row = cache.geosearch("{g}", member="Palermo", width=400, height=400, unit="km", count=1, withdist=True, withhash=True, withcoord=True)
    assert row == [[b"Palermo", 0.0, 3479099956230698, pytest.approx((13.361389, 38.115556), abs=1e-5)]]
    assert cache.georadius("{g}", 15, 37, 100, "km") == [b"Catania"]
    assert cache.georadiusbymember("{g}", "Palermo", 200, "km", store="{g}2") == 2
    assert cache.geosearchstore("{g}3", "{g}", member="Palermo", radius=200, unit="km", storedist=True) == 2
    assert cache.zrange("{g}3", 0, -1, withscores=True) == [(b"Palermo", 0.0), (b"Catania", pytest.approx(166.2742, abs=1e-3))]


def test_what_is_refused(three_workers: Any) -> None:
    with shmcache.connect(three_workers.url) as cache:
        cache.set("text", 1)
        for call in (lambda: cache.zscore("text", "m"), lambda: cache.zadd("text", {"m": 1}), lambda: cache.zrange("text", 0, 1)):
            with pytest.raises(WrongType):
                call()
        for call in (lambda: cache.zadd("z", {}), lambda: cache.zadd("z", {"m": 1}, nx=True, gt=True), lambda: cache.zmpop(1, ["z"])):
            with pytest.raises(DataError):
                call()
        with pytest.raises(CrossSlot):
            cache.zunionstore("a", ["b", "c"])
        with pytest.raises(shmcache.errors.ResponseError, match="not a valid float"):
            cache.execute_command("ZADD", "z", "x", "m")


def test_a_member_that_comes_later(three_workers: Any) -> None:
    with shmcache.connect(three_workers.url) as cache, shmcache.connect(three_workers.url) as other:
        cache.delete("later")
        timer = threading.Timer(0.15, other.zadd, ("later", {"x": 1.5}))
        timer.start()
        try:
            before = time.monotonic()
            assert cache.bzpopmin("later", 10) == (b"later", b"x", 1.5)
            assert time.monotonic() - before < 5
        finally:
            timer.join()
