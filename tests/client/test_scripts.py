"""Scripts and functions in the clients, over shared memory and over ZeroMQ, and what replicas get of them."""

import asyncio
import os
import signal

import pytest

import shmcache
from shmcache.errors import CrossSlot, ResponseError, Unavailable
from tests.support.instance import RunningInstance, running_instance, wait_until

COUNT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


@pytest.fixture(params=["shm", "tcp"])
def cache(request: pytest.FixtureRequest, three_workers: RunningInstance):
    with shmcache.connect(three_workers.url if request.param == "shm" else three_workers.tcp) as client:
        client.flushall()
        client.script_flush()
        yield client


def test_scripts(cache):
    assert cache.eval("return {KEYS[1], ARGV[1], 3.9, {ok='fine'}, false, {1, {2}}}", 1, "k", 7) == [b"k", b"7", 3, "fine", None, [1, [2]]]
    assert cache.eval(COUNT, 1, "n", 5) == 5
    sha = cache.script_load(COUNT)
    assert cache.script_exists(sha, "0" * 40) == [True, False]
    assert [cache.evalsha(sha, 1, f"k{n}", n) for n in range(9)] == list(range(9))
    assert cache.script_flush() is True
    with pytest.raises(ResponseError, match="No matching script") as raised:
        cache.evalsha(sha, 1, "n", 1)
    assert raised.value.code == "NOSCRIPT"
    count = cache.register_script(COUNT)
    assert count.sha == sha
    assert count(keys=["n"], args=[1]) == 6
    assert count(["n"], [1]) == 7
    with pytest.raises(ResponseError, match="Write commands are not allowed"):
        cache.eval_ro(COUNT, 1, "n", 1)
    with pytest.raises(CrossSlot):
        cache.eval("return 1", 9, *(f"k{n}" for n in range(9)))
    with pytest.raises(ResponseError, match="boom"):
        cache.eval("error('boom')", 0)


def test_functions(cache):
    text = "#!lua name=counting\nredis.register_function('add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)"
    assert cache.function_load(text, replace=True) == b"counting"
    assert [cache.fcall("add", 1, f"f{n}", n) for n in range(9)] == list(range(9))
    assert [library[b"library_name"] for library in cache.function_list()] == [b"counting"]
    dump = cache.function_dump()
    assert cache.function_delete("counting") is True
    assert cache.function_restore(dump) is True
    assert cache.fcall("add", 1, "f1", 1) == 2
    with pytest.raises(ResponseError, match="write flag"):
        cache.fcall_ro("add", 1, "f1", 1)
    assert cache.function_flush() is True
    assert cache.function_list() == []


def test_pipelines_and_transactions(cache):
    count = cache.register_script(COUNT)
    with cache.pipeline() as pipe:
        pipe.set("a", 1).eval(COUNT, 1, "a", 2).get("a").eval("error('x')", 1, "b").eval(COUNT, 1, "c", 1)
        count(keys=["a"], args=[1], client=pipe)
        found = pipe.execute(raise_on_error=False)
    assert found[:3] == [True, 3, b"3"]
    assert isinstance(found[3], ResponseError)
    assert found[4:] == [1, 4]
    with cache.pipeline(transaction=True) as pipe:
        pipe.set("{t}a", 1).eval(COUNT, 1, "{t}a", 2).get("{t}a")
        assert pipe.execute() == [True, 3, b"3"]


def test_asyncio(three_workers: RunningInstance):
    async def run() -> None:
        async with shmcache.aio.connect(three_workers.url) as cache:
            await cache.flushall()
            await cache.script_flush()
            count = cache.register_script(COUNT)
            assert await count(keys=["n"], args=[5]) == 5
            assert await asyncio.gather(*(count(keys=["n"], args=[1]) for _ in range(20))) == list(range(6, 26))
            assert await cache.eval("return ARGV[1]", 0, "x") == b"x"

    asyncio.run(run())


def test_replicas_get_the_effects():
    with running_instance(workers=2, relay_listen="tcp://127.0.0.1:0") as primary, shmcache.connect(primary.url) as cache:
        with running_instance(workers=1, replica_of=primary.tcp) as replica, shmcache.connect(replica.url) as copy:
            cache.eval("for n = 1, 100 do redis.call('RPUSH', KEYS[1], n) end redis.call('SET', KEYS[1] .. 'n', redis.call('TIME')[1])", 1, "{l}")
            wait_until(lambda: copy.get("{l}n"), 20)
            assert copy.lrange("{l}", 0, -1) == [b"%d" % n for n in range(1, 101)]
            assert copy.get("{l}n") == cache.get("{l}n")
            with pytest.raises(ResponseError, match=r"READONLY|replica"):
                copy.eval("return redis.call('SET', KEYS[1], 1)", 1, "x")
            assert copy.eval_ro("return redis.call('LLEN', KEYS[1])", 1, "{l}") == 100


def test_group_too_large():
    with running_instance(workers=1, log_size="1MB", memory="64MB") as instance, shmcache.connect(instance.url) as cache:
        with pytest.raises(ResponseError, match="write log"):
            cache.eval("for n = 1, 2000 do redis.call('SET', KEYS[1] .. n, ('x'):rep(1000)) end", 1, "k")
        assert cache.dbsize() == 0


def test_restart_of_a_worker_keeps_libraries(three_workers: RunningInstance):
    with shmcache.connect(three_workers.url) as cache:
        cache.function_load("#!lua name=kept\nredis.register_function('seven', function() return 7 end)", replace=True)
        os.kill(three_workers.snapshot().shards[0].owner_pid, signal.SIGKILL)

        def all_answer() -> bool:
            try:
                return [cache.fcall("seven", 1, f"k{n}") for n in range(9)] == [7] * 9
            except Unavailable:
                # It may write: an answer that got lost is told.
                return False

        assert wait_until(all_answer, 30)
        cache.function_flush()
