"""The methods on lists over every way in, and redis-py against a real Redis, which proves that the expected answers are Redis'."""

import threading
import time
from typing import Any

import pytest

import shmcache.errors
from tests.client.test_conformance import refused

LARGE = 300
"""Elements that make a list large."""


def test_ends(cache: Any) -> None:
    assert cache.lpushx("l", 1) == cache.rpushx("l", 1) == 0
    assert cache.rpush("l", "a", "b") == 2
    assert cache.lpush("l", "c", b"d") == 4
    assert cache.lrange("l", 0, -1) == [b"d", b"c", b"a", b"b"]
    assert (cache.lpop("l"), cache.rpop("l")) == (b"d", b"b")
    assert cache.rpush("l", *range(LARGE)) == LARGE + 2
    assert cache.lpop("l", 3) == [b"c", b"a", b"0"]
    assert cache.rpop("l", 2) == [b"299", b"298"]
    assert cache.llen("l") == LARGE - 3
    assert cache.lpop("none") is cache.rpop("none", 5) is None
    cache.set("text", 1)
    refused(cache, "wrong kind", "lpush", "text", 1)


def test_positions(cache: Any) -> None:
    for filler in (0, LARGE):
        cache.delete("l")
        cache.rpush("l", "a", "b", "a", *(f"f{number}" for number in range(filler)))
        assert cache.lset("l", 1, "x") is True
        assert (cache.lindex("l", 1), cache.lindex("l", 5000)) == (b"x", None)
        assert cache.linsert("l", "BEFORE", "x", "new") == filler + 4
        assert cache.linsert("l", "after", "nobody", "new") == -1
        assert cache.lpos("l", "a") == 0
        assert cache.lpos("l", "a", rank=2) == 3
        assert cache.lpos("l", "a", count=0) == [0, 3]
        assert cache.lpos("l", "a", rank=2, maxlen=2) is None
        assert cache.lrem("l", 0, "a") == 2
        assert cache.ltrim("l", 0, 1) is True
        assert cache.lrange("l", 0, -1) == [b"new", b"x"]
    refused(cache, "out of range", "lset", "l", 99, "x")
    refused(cache, "no such key", "lset", "none", 0, "x")


def test_several_lists(cache: Any) -> None:
    cache.rpush("{l}1", "a", "b", "c")
    assert cache.lmove("{l}1", "{l}2") == b"a"
    assert cache.lmove("{l}1", "{l}2", "RIGHT", "LEFT") == b"c"
    assert cache.rpoplpush("{l}2", "{l}2") == b"a"
    assert cache.lrange("{l}2", 0, -1) == [b"a", b"c"]
    assert cache.lmpop(2, "{l}none", "{l}2", direction="RIGHT", count=5) == [b"{l}2", [b"c", b"a"]]
    assert cache.lmpop(2, "{l}none", "{l}2", direction="LEFT") is None


def test_waiting_for_what_is_there_or_never_comes(cache: Any) -> None:
    cache.rpush("{l}1", *range(10))
    assert cache.blpop("{l}1") == (b"{l}1", b"0")
    assert cache.brpop(["{l}none", "{l}1"], 1) == (b"{l}1", b"9")
    assert cache.brpoplpush("{l}1", "{l}2", 1) == b"8"
    assert cache.blmove("{l}1", "{l}2", 1, "LEFT", "LEFT") == b"1"
    assert cache.blmpop(1, 1, "{l}2", direction="LEFT", count=2) == [b"{l}2", [b"1", b"8"]]
    before = time.monotonic()
    assert cache.blpop("none", 0.1) is cache.brpoplpush("none", "{none}2", 0.1) is None
    assert 0.2 <= time.monotonic() - before < 3
    refused(cache, "negative", "blpop", "none", -1)


def test_sort(cache: Any) -> None:
    cache.rpush("{s}", 3, 10, 1)
    cache.mset({"{s}by_1": 9, "{s}by_3": 8, "{s}by_10": 7})
    assert cache.sort("{s}") == [b"1", b"3", b"10"]
    assert cache.sort("{s}", start=1, num=1, desc=True) == [b"3"]
    assert cache.sort_ro("{s}", alpha=True) == [b"1", b"10", b"3"]
    assert cache.sort("{s}", by="{s}by_*", get=["#", "{s}by_*", "{s}no_*"])[:3] == [b"10", b"7", None]
    assert cache.sort("{s}", store="{s}to") == 3
    assert cache.lrange("{s}to", 0, -1) == [b"1", b"3", b"10"]


def test_dump_and_restore(cache: Any) -> None:
    cache.set("text", "x")
    cache.rpush("l", *range(LARGE))
    for key in ("text", "l"):
        payload = cache.dump(key)
        assert cache.restore(f"{key}2", 100_000, payload) == b"OK"
        assert 90 < cache.ttl(f"{key}2") <= 100
        refused(cache, "BUSYKEY|exists", "restore", key, 0, payload)
        refused(cache, "checksum", "restore", key, 0, payload[:-1], replace=True)
        assert cache.restore(key, 0, payload, replace=True, idletime=5) == b"OK"
    assert cache.lrange("l2", 0, -1) == [b"%d" % number for number in range(LARGE)]
    assert cache.dump("none") is None
    assert cache.memory_usage("none") is None
    assert 20 < cache.memory_usage("text") < 200
    assert cache.memory_usage("l") > 600


def test_an_element_that_comes_later(three_workers: Any) -> None:
    """A waiting client gets it within milliseconds, a waiting asyncio client too."""
    with shmcache.connect(three_workers.url) as cache, shmcache.connect(three_workers.url) as other:
        cache.delete("later")
        timer = threading.Timer(0.15, other.rpush, ("later", "x"))
        timer.start()
        try:
            before = time.monotonic()
            assert cache.blpop("later", 10) == (b"later", b"x")
            assert time.monotonic() - before < 5
        finally:
            timer.join()


def test_pipelines_do_not_wait(three_workers: Any) -> None:
    with shmcache.connect(three_workers.url) as cache:
        pipeline = cache.pipeline()
        pipeline.blpop("nothing", 5).rpush("{t}l", 1).lset("{t}l", 0, 2).blpop("{t}l", 5)
        before = time.monotonic()
        assert pipeline.execute() == [None, 1, True, (b"{t}l", b"2")]
        assert time.monotonic() - before < 3


def test_a_watched_key_that_changed(three_workers: Any) -> None:
    """CHECKSTAMP at the head of a transaction decides about all of it."""
    with shmcache.connect(three_workers.url) as cache:
        cache.delete("{w}", "{w}2")
        for kind in ("none", "list", "large"):
            if kind != "none":
                cache.rpush("{w}", *range(5 if kind == "list" else LARGE))
            stamp = cache.key_stamp("{w}")
            assert (stamp == 0) == (kind == "none")
            pipeline = cache.pipeline(transaction=True)
            pipeline.execute_command("CHECKSTAMP", "{w}", stamp).set("{w}2", kind)
            assert pipeline.execute() == [True, True]
            cache.rpush("{w}", "more")
            pipeline.execute_command("CHECKSTAMP", "{w}", stamp).set("{w}2", "never")
            errors = pipeline.execute(raise_on_error=False)
            assert [getattr(error, "code", error) for error in errors] == ["ABORTED"] * 2
            assert cache.get("{w}2") == kind.encode()
        with pytest.raises(shmcache.errors.ResponseError, match="watched"):
            cache.execute_command("CHECKSTAMP", "{w}", 1)
