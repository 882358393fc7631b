"""A real full disk under a real instance: what is refused, what goes on, and that it goes on by itself when there is space."""

import os
from collections.abc import Iterator

import pytest

import shmcache
from shmcache.errors import NotDurable, ShmcacheError
from tests.persistence.test_restart import begin_cold, keeper_call
from tests.support.instance import running_instance, wait_until
from tests.support.small_disk import SmallDisk, small_disk

_VALUE = b"v" * 20_000


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk(4 << 20) as made:
        yield made


def write_until_refused(client: shmcache.Client, written: dict[str, bytes]) -> NotDurable:
    """Notes what was acknowledged."""
    for n in range(1000):
        try:
            client.set(f"key{n}", _VALUE)
        except NotDurable as error:
            return error
        written[f"key{n}"] = _VALUE
    raise AssertionError("the disk took everything")


def test_full_and_free_again(disk: SmallDisk) -> None:
    data = disk.folder / "data"
    with running_instance(workers=2, data_dir=str(data), aof="always", ephemeral=False) as instance:
        written: dict[str, bytes] = {}
        with shmcache.connect(instance.url, timeout=15) as client:
            client.set("first", 1)
            disk.fill(leave_bytes=200_000)
            first = write_until_refused(client, written)
            assert "executed" in str(first)
            with pytest.raises(NotDurable, match="full; not executed"):
                client.set("refused", 1)
            assert client.get("refused") is None
            assert client.get("first") == b"1"
            status = keeper_call(instance, "status")
            assert status["aof"]["state"] == "full"
            assert "No space" in status["aof"]["last_error"]
            with pytest.raises(ShmcacheError):
                keeper_call(instance, "save")
            assert keeper_call(instance, "status")["snapshots"] == []
            disk.free()
            wait_until(lambda: keeper_call(instance, "status")["aof"]["state"] == "good", 10, "it goes on by itself")
            client.set("after", 1)
        instance.kill()
        begin_cold(instance)
        with shmcache.connect(instance.url) as client:
            assert {key: client.get(key) for key in written} == written
            assert (client.get("first"), client.get("after"), client.get("refused")) == (b"1", b"1", None)


def test_goes_on_without(disk: SmallDisk) -> None:
    """`aof_on_error continue`."""
    with running_instance(data_dir=str(disk.folder / "data"), aof="everysec", aof_on_error="continue") as instance:
        with shmcache.connect(instance.url, timeout=15) as client:
            disk.fill()
            for n in range(50):
                client.set(f"key{n}", _VALUE)
            wait_until(lambda: keeper_call(instance, "status")["aof"]["state"] == "full", 5, "it says that the disk is full")
            assert client.get("key49") == _VALUE
            disk.free()
            wait_until(lambda: keeper_call(instance, "status")["aof"]["state"] == "good", 10, "it goes on by itself")


def test_full_during_a_snapshot(disk: SmallDisk) -> None:
    """Said, the old one stays, and nothing half-made."""
    data = disk.folder / "data"
    with running_instance(data_dir=str(data)) as instance, shmcache.connect(instance.url) as client:
        client.set("small", 1)
        keeper_call(instance, "save")
        for n in range(40):
            client.set(f"key{n}", os.urandom(20_000))
        disk.fill(leave_bytes=300_000)
        with pytest.raises(ShmcacheError, match="No space"):
            keeper_call(instance, "save")
        assert [path.name for path in (data / "snapshots").iterdir()] == ["0000000001"]
        disk.free()
        assert keeper_call(instance, "save")["number"] == 2
