"""A replica that passes writes on to its primary, whose number of shards is another one: for clients on the host and by tcp."""

import asyncio
import os
import signal
import threading
import time

import pytest

import shmcache
from shmcache import aio
from shmcache.errors import ReadOnly
from shmcache.protocol import frames
from tests.replication.pairs import primary, relay_pid, replica, wait_equal
from tests.support.instance import RunningInstance, wait_until
from tests.support.wire import wire


def wait_forwarding(instance: RunningInstance) -> None:
    """A router notes within a second that it forwards."""

    def forwards() -> bool:
        try:
            with shmcache.connect(instance.tcp) as client:
                return bool(client.set("probe", 1))
        except ReadOnly:
            return False

    wait_until(forwards, 5, "it forwards")


@pytest.mark.parametrize(("shards", "own"), [(2, 3), (2, 1), (1, 2), (3, 2)])
def test_batches_are_split_by_the_primarys_shards(shards: int, own: int) -> None:
    """Pipelines, commands of many keys and of no key: whole, with nothing MOVED and no shard left out."""
    with primary(workers=shards) as one, replica(one, workers=own, forward_writes=True) as two:
        with shmcache.connect(two.tcp) as early:
            wait_forwarding(two)
            for kind, url in (("local", two.url), ("remote", two.tcp), ("early", "")):
                with shmcache.connect(url) if url else early as client:
                    batch = client.pipeline()
                    for n in range(300):
                        batch.set(f"{kind}{n}", n)
                    assert batch.execute() == [True] * 300
                    assert client.mget([f"{kind}{n}" for n in range(300)]) == [b"%d" % n for n in range(300)]
                    assert client.mset({f"{kind}m{n}": n for n in range(100)})
                    mixed = client.pipeline().mset({"a": 1, "b": 2, "c": 3}).get("b").mget("a", "c").delete("a", "b", "c").execute()
                    assert mixed == [True, b"2", [b"1", b"3"], 3]
                    assert client.pipeline(transaction=True).set("{t}a", 1).incr("{t}a").get("{t}a").execute() == [True, 2, b"2"]
                    assert client.delete(*[f"{kind}m{n}" for n in range(100)]) == 100
            wait_equal(one, two)
            with shmcache.connect(two.url) as client:
                client.flushall()
                assert client.dbsize() == 0
            wait_equal(one, two)


def test_a_remote_client_reads_its_own_writes_while_the_replica_is_behind() -> None:
    """The write returns when it has come back; its reply says that it was forwarded."""
    with primary(workers=2) as one, replica(one, workers=3, forward_writes=True) as two, shmcache.connect(two.tcp, timeout=10) as remote:
        wait_forwarding(two)
        for n in range(100):
            remote.set(f"k{n}", n)
            assert remote.get(f"k{n}") == b"%d" % n
            assert remote.pipeline().incr("n").incr("m").execute() == [n + 1] * 2
            assert remote.mget("n", "m") == [b"%d" % (n + 1)] * 2
        stopped = relay_pid(two)
        os.kill(stopped, signal.SIGSTOP)
        timer = threading.Timer(1.0, os.kill, (stopped, signal.SIGCONT))
        timer.start()
        begun = time.monotonic()
        remote.set("late", 1)
        assert remote.get("late") == b"1"
        assert 0.8 < time.monotonic() - begun < 8
        timer.join()
        with wire(two.tcp) as plain:
            plain.send(["SET", "k", "v"])
            assert plain.receive()[0].flags & frames.FORWARDED
            plain.send(["GET", "k"], flags=frames.READ_ONLY)
            assert not plain.receive()[0].flags & frames.FORWARDED


def test_an_asyncio_client_reads_its_own_writes_too() -> None:
    async def run(url: str) -> None:
        async with aio.connect(url) as client:
            for n in range(50):
                await client.set("k", n)
                assert await client.get("k") == b"%d" % n

    with primary() as one, replica(one, workers=2, forward_writes=True) as two:
        wait_forwarding(two)
        asyncio.run(run(two.tcp))
        asyncio.run(run(two.url))


def test_a_write_that_changes_nothing_is_not_waited_for_after_a_copy() -> None:
    """What a copy brings has no stamps: the replica is told up to which one it has everything."""
    with primary(workers=2) as one, shmcache.connect(one.url) as client:
        client.mset({f"k{n}": n for n in range(100)})
        with replica(one, workers=3, forward_writes=True) as two, shmcache.connect(two.url) as local, shmcache.connect(two.tcp) as remote:
            wait_forwarding(two)
            for each in (local, remote):
                begun = time.monotonic()
                assert [each.delete(f"missing{n}") for n in range(20)] == [0] * 20
                assert each.setnx("k1", "no") is False
                assert time.monotonic() - begun < 2
