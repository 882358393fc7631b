"""Transactions over several shards, by every client and way in."""

import threading
from pathlib import Path
from typing import Any

import pytest

import shmcache
from shmcache.client.transactions import divide
from shmcache.errors import CrossSlot, ReadOnly
from shmcache.protocol.commands import SlotMap, slot_of_key
from tests.persistence.calls import begin_cold
from tests.replication.pairs import primary, replica
from tests.replication.test_forwarding import wait_forwarding
from tests.support.instance import RunningInstance, running_instance

THREE = SlotMap.of([slot * 3 // 16384 for slot in range(16384)], 3)


def commands_of(divided: Any) -> dict[int, list[Any]]:
    return {batch.shard: batch.commands for batch in divided.batches}


def keys_of(shard: int, count: int) -> list[str]:
    return [key for key in (f"k{n}" for n in range(1000)) if THREE.shard_of[slot_of_key(key)] == shard][:count]


def test_divided() -> None:
    """By shards in ascending order; what can be split is, what has no key goes with the others, a check at the head stands at the head of each part."""
    (a, b), (c, d) = keys_of(0, 2), keys_of(2, 2)
    divided = divide([("SET", c, 1), ("PING",), ("MGET", a, c, b, d), ("GET", a)], THREE)
    assert commands_of(divided) == {0: [("PING",), ("MGET", a, b), ("GET", a)], 2: [("SET", c, 1), ("MGET", c, d)]}
    assert divided.merged([["PONG", [1, 2], 3], ["OK", [4, 5]]]) == ["OK", "PONG", [1, 4, 2, 5], 3]
    checked = divide([("CHECKSTAMP", d, 1, a, 2, c, 3), ("SET", c, 1)], THREE)
    assert commands_of(checked) == {0: [("CHECKSTAMP", a, 2)], 2: [("CHECKSTAMP", d, 1, c, 3), ("SET", c, 1)]}
    assert checked.merged([["OK"], ["OK", "OK"]]) == ["OK", "OK"]
    assert commands_of(divide([("PING",)], THREE)) == {0: [("PING",)]}
    assert commands_of(divide([("GET", c), ("ECHO", "x")], THREE)) == {2: [("GET", c), ("ECHO", "x")]}
    assert [batch.commands for batch in divide([], THREE).batches] == [[]]
    assert set(commands_of(divide([("DBSIZE",), ("GET", a)], THREE))) == {0, 1, 2}
    with pytest.raises(CrossSlot, match="RENAME"):
        divide([("GET", a), ("RENAME", a, c)], THREE)
    assert commands_of(divide([("RENAME", a, b)], THREE, by_shard=True)) == {0: [("RENAME", a, b)]}


def test_over_shards(cache: Any) -> None:
    """Results in the order of the commands, whichever shards answered; split ones merged."""
    pipeline = cache.pipeline(transaction=True)
    for number in range(20):
        pipeline.set(f"k{number}", number).incr(f"k{number}")
    pipeline.mget([f"k{number}" for number in range(20)]).delete("k1", "k2", "no").exists("k0", "k1", "k3").dbsize()
    results = pipeline.execute()
    assert results[:40] == [part for number in range(20) for part in (True, number + 1)]
    assert results[40:43] == [[b"%d" % (number + 1) for number in range(20)], 2, 2]
    assert cache.dbsize() == 18
    assert cache.pipeline(transaction=True).mset({f"k{number}": "x" for number in range(20)}).get("k7").execute() == [True, b"x"]


def test_errors_inside(cache: Any) -> None:
    """A command that fails leaves the others; what cannot be over several slots refuses all."""
    pipeline = cache.pipeline(transaction=True)
    pipeline.set("a", "x").set("b", 1).set("c", 2).incr("a").incr("b").lpush("c", 1)
    results = pipeline.execute(raise_on_error=False)
    assert results[:3] == [True, True, True]
    assert isinstance(results[3], Exception)
    assert results[4] == 2
    assert isinstance(results[5], Exception)
    assert cache.mget("a", "b", "c") == [b"x", b"2", b"2"]


def test_one_command_over_slots(cache: Any, is_redis: bool) -> None:
    """A command whose keys must meet refuses all of the transaction."""
    if is_redis:
        pytest.skip("a single Redis has no slots")
    with pytest.raises(CrossSlot, match="hash tag"):
        cache.pipeline(transaction=True).set("z", 1).rename("a", "b").execute()
    assert cache.exists("z") == 0


def test_check_stamps(cache: Any, is_redis: bool) -> None:
    """Keys of several shards that must be as they were, also ones that the transaction does not touch."""
    if is_redis:
        pytest.skip("Redis has no stamps")
    cache.mset({f"k{number}": number for number in range(10)})
    stamps = [cache.key_stamp(f"k{number}") for number in range(10)]
    pairs = [part for number, stamp in enumerate(stamps) for part in (f"k{number}", stamp)]
    assert cache.pipeline(transaction=True).execute_command("CHECKSTAMP", *pairs).set("k0", "x").set("new", 1).execute()[1:] == [True, True]
    pipeline = cache.pipeline(transaction=True).execute_command("CHECKSTAMP", *pairs).set("k1", "y").set("other", 1)
    results = pipeline.execute(raise_on_error=False)
    assert [result.code for result in results] == ["ABORTED"] * 3
    assert cache.mget("k1", "other") == [b"1", None]


def test_scripts(cache: Any, is_redis: bool) -> None:
    """A script is one of the commands."""
    script = "redis.call('INCRBY', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"
    pipeline = cache.pipeline(transaction=True).set("a", 1).set("b", 2).eval(script, 1, "a", 5).eval(script, 1, "c", 7)
    assert pipeline.execute() == [True, True, b"6", b"7"]


@pytest.fixture
def three(three_workers: RunningInstance) -> RunningInstance:
    with shmcache.connect(three_workers.url) as cache:
        cache.flushall()
    return three_workers


def test_two_that_cross(three: RunningInstance) -> None:
    """Opposite orders of keys do not wait for each other, and each transaction is seen whole."""
    keys = [keys_of(shard, 1)[0] for shard in range(3)]

    def work(order: list[str], found: list[Any]) -> None:
        with shmcache.connect(three.url, timeout=20) as cache:
            for _ in range(100):
                pipeline = cache.pipeline(transaction=True)
                for key in order:
                    pipeline.incr(key)
                found.append(pipeline.execute())

    results: list[list[Any]] = [[], [], []]
    orders = [keys, keys[::-1], [keys[1], keys[2], keys[0]]]
    threads = [threading.Thread(target=work, args=pair) for pair in zip(orders, results, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [result for found in results for result in found]
    assert all(len(set(result)) == 1 for result in seen)
    assert sorted(result[0] for result in seen) == list(range(1, 301))


def test_too_large(three: RunningInstance) -> None:
    """One shard cannot take its part: no shard does."""
    small, large = keys_of(0, 1)[0], keys_of(2, 1)[0]
    with shmcache.connect(three.url) as cache:
        pipeline = cache.pipeline(transaction=True).set(small, 1)
        for number in range(15):
            pipeline.set(f"{{{large}}}{number}", bytes(200_000))
        results = pipeline.execute(raise_on_error=False)
        assert {result.code for result in results} == {"LIMIT"}
        assert cache.dbsize() == 0


def test_a_dead_worker_is_waited_for() -> None:
    """The transaction is tried again until the shard is back."""
    with running_instance(workers=3, memory="96MB") as instance, shmcache.connect(instance.url, timeout=20) as cache:
        for shard in range(3):
            instance.kill_worker(shard)
            pipeline = cache.pipeline(transaction=True)
            for other in range(3):
                pipeline.incr(keys_of(other, 1)[0])
            assert pipeline.execute() == [shard + 1] * 3


def test_replicas_refuse() -> None:
    """Writes in no shard; reads are a transaction there, too."""
    with primary(workers=3) as one, replica(one, workers=3) as two:
        with shmcache.connect(one.url, ack=1, ack_timeout=20, timeout=30) as cache, shmcache.connect(two.url) as copy:
            assert cache.pipeline(transaction=True).mset({f"k{n}": n for n in range(9)}).execute() == [True]
            assert copy.pipeline(transaction=True).mget([f"k{n}" for n in range(9)]).execute() == [[b"%d" % n for n in range(9)]]
            with pytest.raises(ReadOnly):
                copy.pipeline(transaction=True).mset({f"k{n}": "x" for n in range(9)}).execute()


def test_written_to_disk(tmp_path: Path) -> None:
    """With `aof always` a transaction is on the disk, in all shards, when it returns."""
    with running_instance(workers=3, memory="96MB", data_dir=str(tmp_path), aof="always", ephemeral=False) as instance:
        with shmcache.connect(instance.url) as cache:
            for number in range(5):
                assert cache.pipeline(transaction=True).mset({f"k{n}": number for n in range(9)}).execute() == [True]
        instance.kill()
        begin_cold(instance)
        with shmcache.connect(instance.url) as cache:
            assert cache.mget([f"k{n}" for n in range(9)]) == [b"4"] * 9


def test_forwarded_ones_need_one_shard() -> None:
    """A replica that forwards writes passes on one message."""
    with primary(workers=3) as one, replica(one, workers=2, forward_writes=True) as two:
        wait_forwarding(two)
        for url in (two.url, two.tcp):
            with shmcache.connect(url, timeout=20) as copy:
                with pytest.raises(CrossSlot):
                    copy.pipeline(transaction=True).mset({f"k{n}": n for n in range(9)}).execute()
                assert copy.pipeline(transaction=True).set("{t}a", 1).get("{t}a").execute() == [True, b"1"]
                assert copy.pipeline(transaction=True).mget([f"k{n}" for n in range(9)]).execute() == [[None] * 9]
