"""`shmcache aof` on the folders that real instances leave."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmcache as package
from shmcache.persistence.segments import open_segment
from tests.support.instance import RunningInstance, instance_folder, remove_objects, running_instance
from tests.support.words import refused, shmcache


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[RunningInstance]:
    """Stopped, with three segments and no snapshot: `n` and a key of its own were written 240 times."""
    options = {"data_dir": str(tmp_path), "aof": "always", "aof_segment_size": "64KB", "ephemeral": False}
    with running_instance(workers=1, **options) as running:
        with package.connect(running.url) as client:
            for n in range(240):
                client.mset({"{n}": n, f"{{n}}{n}": b"x" * 500})
        running.stop()
        yield running


def begin_cold(instance: RunningInstance) -> int:
    """Returns the last number that it has, after a look that nothing before is missing."""
    remove_objects(instance.name)
    instance.start()
    with package.connect(instance.url) as client:
        last = int(client.get("{n}") or -1)
        assert client.exists(*(f"{{n}}{n}" for n in range(last + 1))) == last + 1
        assert not client.exists(f"{{n}}{last + 1}")
    return last


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "log").glob("*.aof"))


def middle_block(path: Path) -> int:
    """Offset of a block in the middle."""
    with open_segment(path) as (_, reader):
        offsets = [block.offset for block in reader]
    return offsets[len(offsets) // 2]


def test_info_and_verify(instance: RunningInstance, tmp_path: Path):
    rows = json.loads(shmcache("aof", "info", "--data-dir", tmp_path, "--json").stdout)
    assert [(row["number"], row["continues"], row["is_whole"]) for row in rows] == [(1, False, True), (2, True, True), (3, True, True)]
    assert b"goes on, whole" in shmcache("aof", "info", "--data-dir", tmp_path).stdout
    assert shmcache("aof", "verify", "--data-dir", tmp_path).returncode == 0
    path = segments(tmp_path)[1]
    offset = middle_block(path)
    data = bytearray(path.read_bytes())
    data[offset + 100] ^= 1
    path.write_bytes(data)
    done = shmcache("aof", "verify", "--data-dir", tmp_path, "--json")
    assert done.returncode == 1
    (found,) = json.loads(done.stdout)["damage"]
    assert (found["file"], found["offset"]) == (str(path), offset)
    assert f"offset {offset}".encode() in shmcache("aof", "info", "--data-dir", tmp_path).stdout


def test_repair_of_damage_in_the_middle(instance: RunningInstance, tmp_path: Path):
    """A start refuses it; after the repair it has everything up to the damage, and the rest lies aside as it was."""
    path = segments(tmp_path)[1]
    offset = middle_block(path)
    data = bytearray(path.read_bytes())
    data[offset + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssertionError, match="did not become ready"):
        begin_cold(instance)
    before = {each: each.read_bytes() for each in segments(tmp_path)}
    done = shmcache("aof", "repair", "--data-dir", tmp_path)
    assert done.returncode == 1
    assert f"offset {offset}".encode() in done.stdout
    assert b"segment 3: goes on from what is lost" in done.stdout
    assert b"--yes" in done.stdout
    assert {each: each.read_bytes() for each in segments(tmp_path)} == before
    done = shmcache("aof", "repair", "--data-dir", tmp_path, "--yes")
    assert done.returncode == 0, done
    second, third = list(before)[1:]
    assert second.with_suffix(".torn1").read_bytes() == before[second][offset:]
    assert third.with_suffix(".damaged1").read_bytes() == before[third]
    assert str(third.with_suffix(".damaged1")).encode() in done.stdout
    assert shmcache("aof", "repair", "--data-dir", tmp_path).stdout == b"everything is sound\n"
    assert 100 < begin_cold(instance) < 200
    refused(shmcache("aof", "repair", "--data-dir", tmp_path, "--yes"), "in use")
    instance.stop()
    assert shmcache("aof", "verify", "--data-dir", tmp_path).returncode == 0


@pytest.mark.parametrize("what", ["missing", "header"])
def test_repair_of_a_lost_segment(instance: RunningInstance, tmp_path: Path, what: str):
    """One that is not there, or has no header: what is before remains."""
    path = segments(tmp_path)[1]
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\0" * 4_096)
    with pytest.raises(AssertionError, match="did not become ready"):
        begin_cold(instance)
    assert shmcache("aof", "repair", "--data-dir", tmp_path, "--yes").returncode == 0
    assert [each.name for each in segments(tmp_path)] == ["0000000001.aof"]
    assert 50 < begin_cold(instance) < 200


def test_torn_end(instance: RunningInstance, tmp_path: Path):
    """It is no damage, and a start cuts it off by itself."""
    path = segments(tmp_path)[2]
    path.write_bytes(path.read_bytes()[:-150])
    done = shmcache("aof", "verify", "--data-dir", tmp_path)
    assert done.returncode == 0
    assert b"torn end" in done.stdout
    assert b"torn at" in shmcache("aof", "info", "--data-dir", tmp_path).stdout
    assert b"a start cuts it off" in shmcache("aof", "repair", "--data-dir", tmp_path, "--yes").stdout
    assert begin_cold(instance) in (238, 239)


def test_wrong_folders(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    refused(shmcache("aof", "info", "--data-dir", tmp_path / "none"), "not a folder")
    refused(shmcache("aof", "verify", "--data-dir", tmp_path / "file"), "not a folder")
    refused(shmcache("aof", "repair", "--data-dir", tmp_path), "not a data folder")
    assert shmcache("aof", "info").returncode == 2
    with instance_folder(data_dir=str(tmp_path / "data")) as instance:
        instance.start()
        assert b"no append-only file" in shmcache("aof", "info", "--data-dir", tmp_path / "data").stdout
        refused(shmcache("aof", "repair", "--data-dir", tmp_path / "data"), "in use", instance.name)
