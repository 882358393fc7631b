"""The directory region: what is written is what is read, also across crashes and releases."""

import fcntl
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import posix_ipc
import pytest

from shmcache.errors import ConfigError, InstanceExists, InstanceNotFound, LayoutMismatch
from shmcache.protocol import directory
from shmcache.protocol.directory import Directory, DirectoryWriter, ShardRecord, new_snapshot
from shmcache.protocol.names import directory_name, instance_of, region_name


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    Path("/dev/shm" + directory_name(name)).unlink(missing_ok=True)


def test_published_snapshot_is_what_a_reader_sees(name: str) -> None:
    """Every field of a snapshot survives the way through the region, and each change changes the version."""
    first = new_snapshot(name, shards=3, epoch=7)
    writer = DirectoryWriter.create(first)
    reader = Directory.open(name)
    assert reader.snapshot() == first
    seen = {reader.version}
    for turn in range(1, 4):
        writer.update_shard(
            1, owner_pid=turn, generation=turn, endpoints=("ipc:///a", "tcp://b:1"), state="serving"
        )
        writer.update(state="serving", router_endpoints=tuple(f"tcp://h:{n}" for n in range(8)))
        assert reader.snapshot() == writer.current
        seen.add(reader.version)
    assert len(seen) == 4
    assert reader.snapshot().shards[1].endpoints == ("ipc:///a", "tcp://b:1")
    writer.close()


def test_slots_are_split_into_equal_ranges() -> None:
    """Every shard gets one contiguous range, and the ranges differ by at most one slot."""
    for shards in (1, 2, 3, 7, 64):
        table = memoryview(directory.even_slots(shards)).cast("H").tolist()
        assert table == sorted(table)
        counts = [table.count(shard) for shard in range(shards)]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == 16384


def test_second_server_of_a_name_is_refused_with_the_pid(name: str) -> None:
    """While a supervisor lives, another one of its name gets InstanceExists that names it."""
    writer = DirectoryWriter.create(new_snapshot(name, 1, 1))
    with pytest.raises(InstanceExists, match=f"pid {os.getpid()}"):
        DirectoryWriter.create(new_snapshot(name, 1, 1))
    writer.close()


def test_directory_of_a_dead_supervisor_is_retired_and_replaced(name: str) -> None:
    """A client with the old mapping is told to open by name again, and finds the new one there."""
    code = (
        "import sys; from shmcache.protocol.directory import *;"
        "DirectoryWriter.create(new_snapshot(sys.argv[1], 2, 5)); import os; os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, name], check=False, timeout=20).returncode == 9
    old = Directory.open(name)
    version = old.version
    assert old.snapshot().epoch == 5
    assert not old.retired
    writer = DirectoryWriter.create(new_snapshot(name, 4, 6))
    assert old.retired
    assert old.version != version
    assert old.snapshot().state == "retired"
    assert old.snapshot().epoch == 5
    assert Directory.open(name).snapshot().epoch == 6
    writer.close()


def test_retiring_frees_the_name(name: str) -> None:
    """After a stop the name is gone and the old mapping says retired."""
    writer = DirectoryWriter.create(new_snapshot(name, 1, 1))
    reader = Directory.open(name)
    writer.retire()
    writer.close()
    assert reader.snapshot().state == "retired"
    with pytest.raises(InstanceNotFound, match=name):
        Directory.open(name)


def test_half_written_change_leaves_the_body_in_force(name: str) -> None:
    """A supervisor that dies while writing a body has changed nothing for readers."""
    writer = DirectoryWriter.create(new_snapshot(name, 2, 1))
    reader = Directory.open(name)
    before = reader.snapshot()
    start = 64 + writer._body_bytes
    writer._map[start : start + 5000] = os.urandom(5000)
    assert reader.snapshot() == before
    writer.update(state="serving")
    assert reader.snapshot() == replace(before, state="serving")
    writer.close()


def test_other_layout_version_is_a_typed_error_and_can_be_replaced(name: str) -> None:
    """A reader of another release gets LayoutMismatch; a new supervisor takes the name over and retires the
    old one.
    """
    writer = DirectoryWriter.create(new_snapshot(name, 1, 1))
    writer._map[8:12] = (99).to_bytes(4, "little")
    with pytest.raises(LayoutMismatch, match="99"):
        Directory.open(name)
    left_behind = writer._map
    fcntl.flock(writer._fd, fcntl.LOCK_UN)
    os.close(writer._fd)
    successor = DirectoryWriter.create(new_snapshot(name, 1, 2))
    assert left_behind[12] == 1
    assert Directory.open(name).snapshot().epoch == 2
    successor.close()
    left_behind.close()


@pytest.mark.parametrize("size", [0, 10, 64, 5000])
def test_junk_under_the_name_is_a_typed_error_and_can_be_replaced(name: str, size: int) -> None:
    """An empty or foreign object under the directory's name harms neither readers nor the next server."""
    memory = posix_ipc.SharedMemory(directory_name(name), posix_ipc.O_CREX, size=0)
    os.write(memory.fd, b"x" * size)
    memory.close_fd()
    with pytest.raises((InstanceNotFound, LayoutMismatch)):
        Directory.open(name)
    DirectoryWriter.create(new_snapshot(name, 1, 3)).close()
    assert Directory.open(name).snapshot().epoch == 3


def test_readers_beside_a_busy_writer_never_see_a_mixture(name: str) -> None:
    """While a supervisor changes the directory without pause, each snapshot is one that was published."""
    writer = DirectoryWriter.create(new_snapshot(name, 2, 1))
    code = (
        "import sys; from shmcache.protocol.directory import *; d = Directory.open(sys.argv[1])\n"
        "for _ in range(2000):\n"
        "    s = d.snapshot(); assert s.shards[0].owner_pid == s.shards[1].owner_pid == s.epoch - 1, s"
    )
    with subprocess.Popen([sys.executable, "-c", code, name]) as child:
        turn = 0
        while child.poll() is None:
            turn += 1
            shards = tuple(replace(record, owner_pid=turn) for record in writer.current.shards)
            writer.update(epoch=turn + 1, shards=shards)
    writer.close()
    assert child.returncode == 0
    assert turn > 100


def test_names() -> None:
    """Instance names are checked, and objects of /dev/shm are told apart."""
    assert instance_of("shmcache.a-b_C.directory") == "a-b_C"
    assert instance_of(region_name("x", 12, "hints")) == "x"
    for foreign in (
        "other",
        "shmcache.x",
        "shmcache.x.1",
        "shmcache.x.a.data",
        "shmcache.x.1.data.y",
        "psm_1",
    ):
        assert instance_of(foreign) is None
    for bad in ("", "a b", "a/b", "a.b", "x" * 41, "ä"):
        with pytest.raises(ConfigError):
            directory_name(bad)
    longest = ShardRecord(1, *(region_name("x" * 40, 1023, kind) for kind in ("data", "hints", "log")))
    assert len(longest.hints_name) <= 64
