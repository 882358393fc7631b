"""Data on disk, end to end: real instances that stop, are killed, lose their shared memory, and begin again from disk."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmcache
from shmcache.errors import ShmcacheError, WrongType
from tests.persistence.calls import begin_cold, keeper_call
from tests.support.instance import RunningInstance, remove_objects, running_instance, wait_until

POLICIES = ["always", "everysec", "no"]


@pytest.fixture(params=POLICIES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningInstance]:
    with running_instance(workers=2, data_dir=str(tmp_path), aof=request.param, ephemeral=False) as instance:
        yield instance


def fill(client: shmcache.Client, count: int = 500) -> None:
    for n in range(count):
        client.set(f"key{n}", f"value{n}")
    client.delete("key5")
    client.set("mortal", "x", ex=1000)
    client.set("large", b"L" * 5_000_000)
    client.incr("counter", 7)


def check(client: shmcache.Client, count: int = 500) -> None:
    assert [client.get(f"key{n}") for n in range(count) if n != 5] == [f"value{n}".encode() for n in range(count) if n != 5]
    assert client.get("key5") is None
    assert 0 < client.ttl("mortal") <= 1000
    assert client.get("large") == b"L" * 5_000_000
    assert client.get("counter") == b"7"


# What writes the files (the policy) and what reads them (the number of workers) have nothing in common: each with one of the other.
@pytest.mark.parametrize(("kept", "workers"), list(zip(POLICIES, [2, 3, 1], strict=True)), indirect=["kept"])
def test_log_alone(kept: RunningInstance, workers: int) -> None:
    """An ordered stop, the memory gone, another number of workers: everything is read from the append-only file."""
    with shmcache.connect(kept.url) as client:
        fill(client)
    kept.stop()
    begin_cold(kept, workers=workers)
    with shmcache.connect(kept.url) as client:
        check(client)
        client.set("key5", "again")
    kept.stop()
    begin_cold(kept)
    with shmcache.connect(kept.url) as client:
        assert client.get("key5") == b"again"


@pytest.mark.parametrize(("kept", "workers"), list(zip(POLICIES, [3, 2, 3], strict=True)), indirect=["kept"])
def test_snapshot_and_what_follows(kept: RunningInstance, workers: int) -> None:
    with shmcache.connect(kept.url) as client:
        fill(client)
        assert keeper_call(kept, "save")["number"] == 1
        client.set("key5", "after")
        client.delete("key6")
    kept.stop()
    begin_cold(kept, workers=workers)
    with shmcache.connect(kept.url) as client:
        assert client.get("key5") == b"after"
        assert client.get("key6") is None
        assert client.get("key7") == b"value7"


def test_snapshot_without_a_log(tmp_path: Path) -> None:
    """What came after it is lost, and nothing else."""
    with running_instance(workers=2, data_dir=str(tmp_path), ephemeral=False) as instance:
        with shmcache.connect(instance.url) as client:
            fill(client)
            keeper_call(instance, "save")
            client.set("key5", "lost")
        instance.stop()
        begin_cold(instance, workers=1)
        with shmcache.connect(instance.url) as client:
            check(client)


def test_killed_under_always(tmp_path: Path) -> None:
    """What was acknowledged is on the disk, though everything died and the memory is gone."""
    with running_instance(workers=2, data_dir=str(tmp_path), aof="always", ephemeral=False) as instance:
        written = 0
        with shmcache.connect(instance.url, timeout=1) as client:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                client.set("count", written + 1)
                written += 1
            instance.kill()
            with pytest.raises(ShmcacheError):
                client.set("count", written + 1)
        begin_cold(instance)
        with shmcache.connect(instance.url) as client:
            found = client.get("count")
            assert found is not None
            assert written <= int(found) <= written + 1


def test_a_write_that_changes_nothing_waits_as_well(tmp_path: Path) -> None:
    """Found by rounds of `kill -9`: a DEL that was sent again found its key gone and was answered, before the disk had the first one."""
    with running_instance(workers=1, data_dir=str(tmp_path), aof="always", ephemeral=False) as instance:
        with shmcache.connect(instance.url, timeout=20) as client:
            client.set("k", "v")
            client.set("kept", "v")
            keeper = instance.child_pid("keeper")
            os.kill(keeper, signal.SIGSTOP)
            try:
                # Longer than a client waits before it sends again.
                with pytest.raises(ShmcacheError):
                    client.delete("k", timeout=1.5)
                assert client.get("k") is None, "the owner has executed it"
                for changes_nothing in (lambda: client.delete("k", timeout=1.5), lambda: client.setnx("kept", 1, timeout=1.5)):
                    with pytest.raises(ShmcacheError):
                        changes_nothing()
                # Neither reads nor refusals promise anything.
                assert client.exists("k", "kept") == 1
                with pytest.raises(WrongType):
                    client.rpush("kept", "x")
            finally:
                os.kill(keeper, signal.SIGCONT)
            assert client.delete("k") == 0
        instance.kill()
        begin_cold(instance)
        with shmcache.connect(instance.url) as client:
            assert (client.get("k"), client.get("kept")) == (None, b"v")


def test_warm_is_preferred_and_goes_on(kept: RunningInstance) -> None:
    """A warm restart, also after kill -9 of everything, keeps the log going without a new snapshot."""
    with shmcache.connect(kept.url) as client:
        fill(client)
    kept.kill()
    kept.start()
    assert keeper_call(kept, "status")["snapshots"] == []
    with shmcache.connect(kept.url) as client:
        check(client)
        client.set("key5", "warm")
    kept.stop()
    begin_cold(kept)
    with shmcache.connect(kept.url) as client:
        assert client.get("key5") == b"warm"


def test_killed_keeper(kept: RunningInstance) -> None:
    """It comes back and has everything that was written meanwhile."""
    with shmcache.connect(kept.url, timeout=10) as client:
        for n in range(5):
            client.set(f"before{n}", n)
            pid = kept.child_pid("keeper")
            os.kill(pid, signal.SIGKILL)
            client.set(f"after{n}", n)
            wait_until(lambda pid=pid: kept.child_pid("keeper") not in (0, pid), 10, "a new keeper")
    kept.stop()
    begin_cold(kept)
    with shmcache.connect(kept.url) as client:
        assert [client.get(f"{when}{n}") for when in ("before", "after") for n in range(5)] == [str(n).encode() for n in range(5)] * 2


def test_persistence_on_warm_data(tmp_path: Path) -> None:
    """Turned on later: a snapshot is made of what is there already."""
    with running_instance(workers=2, ephemeral=False) as instance:
        with shmcache.connect(instance.url) as client:
            fill(client)
        instance.stop()
        instance.options.update(data_dir=str(tmp_path), aof="always")
        instance.start()
        with shmcache.connect(instance.url) as client:
            client.set("key5", "durable")
        assert keeper_call(instance, "status")["snapshots"] == [1]
        instance.kill()
        begin_cold(instance)
        with shmcache.connect(instance.url) as client:
            assert client.get("key5") == b"durable"
            assert client.get("key7") == b"value7"


def test_until(tmp_path: Path) -> None:
    """Back to a moment between two writes; from there it goes on, and a later restart does not bring back what was left out."""
    with running_instance(workers=2, data_dir=str(tmp_path), aof="always", ephemeral=False) as instance:
        with shmcache.connect(instance.url) as client:
            client.set("kept", 1)
            client.mset({f"{{t}}{n}": 1 for n in range(3)})
            time.sleep(0.05)
            moment = time.time()
            time.sleep(0.05)
            client.set("late", 1)
            client.set("kept", 2)
        instance.stop()
        begin_cold(instance, until=f"{moment:.3f}")
        with shmcache.connect(instance.url) as client:
            assert (client.get("kept"), client.get("late"), client.get("{t}2")) == (b"1", None, b"1")
            wait_until(lambda: keeper_call(instance, "status")["aof"]["state"] == "good", 5, "a new beginning is on disk")
            client.set("new", 1)
        instance.stop()
        begin_cold(instance, until="0")
        with shmcache.connect(instance.url) as client:
            assert (client.get("kept"), client.get("late"), client.get("new")) == (b"1", None, b"1")


def test_retention(tmp_path: Path) -> None:
    with running_instance(workers=1, data_dir=str(tmp_path), aof="no", snapshot_keep=2, ephemeral=False) as instance:
        with shmcache.connect(instance.url) as client:
            for n in range(4):
                client.set("n", n)
                keeper_call(instance, "save")
        status = keeper_call(instance, "status")
        assert status["snapshots"] == [3, 4]
        assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["0000000004.aof", "0000000005.aof"]


def test_a_folder_belongs_to_one_instance(tmp_path: Path) -> None:
    with running_instance(data_dir=str(tmp_path)), pytest.raises(AssertionError, match="in use by instance"):
        with running_instance(data_dir=str(tmp_path)):
            pass


def test_less_memory_than_there_is_on_disk(tmp_path: Path) -> None:
    """What does not fit is evicted, or the start says so where nothing may be."""
    with running_instance(workers=1, data_dir=str(tmp_path), aof="no", memory="64MB", ephemeral=False) as instance:
        with shmcache.connect(instance.url) as client:
            for n in range(3000):
                client.set(f"key{n}", b"x" * 10_000)
        instance.stop()
        begin_cold(instance, memory="16MB", policy="allkeys-lru")
        with shmcache.connect(instance.url) as client:
            assert 500 < client.dbsize() < 2500
        instance.stop()
        remove_objects(instance.name)
        instance.options["policy"] = "noeviction"
        with pytest.raises(AssertionError, match="memory"):
            instance.start()


def test_schedules(tmp_path: Path) -> None:
    with running_instance(workers=1, data_dir=str(tmp_path), snapshot_every="200ms", snapshot_keep=50) as instance:
        wait_until(lambda: len(keeper_call(instance, "status")["snapshots"]) >= 3, 5, "snapshots by time")
    with running_instance(workers=1, data_dir=str(tmp_path), snapshot_after_writes=100, cold=True) as instance:
        number = keeper_call(instance, "status")["snapshots"][-1]
        with shmcache.connect(instance.url) as client:
            for n in range(120):
                client.set(f"k{n}", n)
        wait_until(lambda: keeper_call(instance, "status")["snapshots"][-1] > number, 5, "a snapshot by number")
