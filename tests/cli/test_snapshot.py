"""`shmcache snapshot` on real instances and on the folders that they leave."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmcache as package
from cli.snapshot.checking import following, is_needed
from shmcache.persistence.locking import holder_of
from tests.support.instance import RunningInstance, remove_objects, running_instance
from tests.support.small_disk import small_disk
from tests.support.words import refused, shmcache


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[RunningInstance]:
    with running_instance(workers=2, data_dir=str(tmp_path / "data"), aof="always", ephemeral=False) as running:
        yield running


def write(instance: RunningInstance, value: str, count: int = 200) -> None:
    with package.connect(instance.url) as client:
        for n in range(count):
            client.set(f"key{n}", value)


def saved(instance: RunningInstance) -> int:
    done = shmcache("snapshot", "save", instance.name, "--json")
    assert done.returncode == 0, done.stderr
    number = json.loads(done.stdout)["number"]
    assert isinstance(number, int)
    return number


def begin_cold(instance: RunningInstance) -> None:
    remove_objects(instance.name)
    instance.start()


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def test_save_list_info(instance: RunningInstance, tmp_path: Path):
    """Numbers, keys and the log behind each, by the instance's name and by the folder."""
    write(instance, "a")
    done = shmcache("snapshot", "save", instance.name)
    assert b"snapshot 1: 200 keys" in done.stdout
    write(instance, "b", 300)
    assert saved(instance) == 2
    for words in ([instance.name], ["--data-dir", tmp_path / "data"]):
        rows = json.loads(shmcache("snapshot", "list", *words, "--json").stdout)
        assert [(row["number"], row["keys"], row["shards"]) for row in rows] == [(1, 200, 2), (2, 300, 2)]
        assert len(rows[0]["segments"]) == len(rows[1]["segments"]) + 1
    assert shmcache("snapshot", "list", instance.name).stdout.count(b"\n") == 2
    found = json.loads(shmcache("snapshot", "info", "2", "--name", instance.name, "--json").stdout)
    assert sum(shard["keys"] for shard in found["manifest"]["shards"]) == 300
    assert b"key      not encrypted" in shmcache("snapshot", "info", "2", "--name", instance.name).stdout


def test_verify(instance: RunningInstance, tmp_path: Path):
    """Sound while it is written and afterwards; damage in a snapshot, in the log, a missing file: each is named with its offset."""
    folder = tmp_path / "data"
    write(instance, "a")
    saved(instance)
    write(instance, "b")
    running = shmcache("snapshot", "verify", "--name", instance.name)
    assert running.returncode == 0, running.stdout
    assert b"is being written" in running.stdout
    instance.stop()
    found = json.loads(shmcache("snapshot", "verify", "1", "--data-dir", folder, "--json").stdout)
    assert (found["snapshots"], found["segments"], found["damage"], found["notes"]) == ([1], [2], [], [])
    shard = folder / "snapshots/0000000001/shard-0001.snap"
    segment = folder / "log/0000000002.aof"
    damage(shard, shard.stat().st_size - 100)
    damage(segment, 2_000)
    done = shmcache("snapshot", "verify", "--data-dir", folder, "--json")
    assert done.returncode == 1
    found = {each["file"]: each["offset"] for each in json.loads(done.stdout)["damage"]}
    assert set(found) == {str(shard), str(segment)}
    assert 0 < found[str(segment)] <= 2_000
    segment.unlink()
    shard.unlink()
    done = shmcache("snapshot", "verify", "1", "--data-dir", folder)
    assert done.returncode == 1
    assert done.stdout.count(b"missing") == 2


def test_delete(instance: RunningInstance, tmp_path: Path):
    """Not the one that the log leads on from; an older one, and by force any."""
    write(instance, "a")
    saved(instance)
    write(instance, "b")
    saved(instance)
    with package.connect(instance.url) as client:
        client.set("last", 1)
    assert shmcache("snapshot", "delete", "1", "--name", instance.name).returncode == 0
    refused(shmcache("snapshot", "delete", "1", "--name", instance.name), "no snapshot 1")
    assert is_needed(tmp_path / "data", 2)
    refused(shmcache("snapshot", "delete", "2", "--name", instance.name), "--force")
    assert saved(instance) == 3
    assert not is_needed(tmp_path / "data", 2)
    assert not is_needed(tmp_path / "data", 3)
    assert following(tmp_path / "data", 3) == [3, 4]
    assert shmcache("snapshot", "delete", "2", "--name", instance.name).returncode == 0
    assert is_needed(tmp_path / "data", 3)
    assert shmcache("snapshot", "delete", "3", "--force", "--data-dir", tmp_path / "data").returncode == 0
    assert json.loads(shmcache("snapshot", "list", instance.name, "--json").stdout) == []


def test_restore(instance: RunningInstance, tmp_path: Path):
    """Back to the first snapshot, and on from there; what was newer lies aside, and can be put back."""
    folder = tmp_path / "data"
    write(instance, "first")
    saved(instance)
    write(instance, "second")
    saved(instance)
    write(instance, "third")
    refused(shmcache("snapshot", "restore", "1", "--data-dir", folder), "in use", instance.name)
    instance.stop()
    done = shmcache("snapshot", "restore", "1", "--data-dir", folder)
    assert done.returncode == 0, done.stderr
    assert b"1 newer snapshot(s), 2 file(s) of the log" in done.stdout
    (aside,) = (folder / "aside").iterdir()
    assert sorted(path.name for path in aside.glob("*/*")) == ["0000000001", "0000000002", "0000000002.aof", "0000000003.aof"]
    begin_cold(instance)
    with package.connect(instance.url) as client:
        assert client.get("key7") == b"first"
        client.set("key7", "anew")
    instance.stop()
    begin_cold(instance)
    with package.connect(instance.url) as client:
        assert (client.get("key7"), client.get("key8")) == (b"anew", b"first")
    assert shmcache("snapshot", "verify", "--name", instance.name).returncode == 0
    # And back again.
    instance.stop()
    for path in aside.glob("*/*"):
        there = folder / path.relative_to(aside)
        if there.is_dir() and there.name != "0000000001":
            shutil.rmtree(there)
        if path.name == "0000000001":
            path = path / "manifest.json"
            there = there / path.name
        path.replace(there)
    for path in (folder / "log").glob("*.aof"):
        if not int(path.stem) <= 3:
            path.unlink()
    for path in (folder / "snapshots").iterdir():
        if not int(path.name) <= 2:
            shutil.rmtree(path)
    begin_cold(instance)
    with package.connect(instance.url) as client:
        assert client.get("key7") == b"third"


def test_restore_of_a_damaged_one_touches_nothing(instance: RunningInstance, tmp_path: Path):
    folder = tmp_path / "data"
    write(instance, "first")
    saved(instance)
    saved(instance)
    instance.stop()
    path = folder / "snapshots/0000000001/shard-0000.snap"
    damage(path, path.stat().st_size // 2)
    before = sorted(folder.rglob("*"))
    refused(shmcache("snapshot", "restore", "1", "--data-dir", folder), str(path), "offset")
    assert sorted(folder.rglob("*")) == before


def test_restore_until(instance: RunningInstance, tmp_path: Path):
    """A moment needs no preparation: what is to be done is said, and the folder is left as it is."""
    folder = tmp_path / "data"
    write(instance, "first")
    saved(instance)
    write(instance, "second")
    moment = f"{time.time():.3f}"
    instance.stop()
    done = shmcache("snapshot", "restore", "--data-dir", folder, "--until", moment)
    assert b"snapshot 1 and segments 2 to 2" in done.stdout, done
    assert f"--cold --until {moment}".encode() in done.stdout
    refused(shmcache("snapshot", "restore", "--data-dir", folder, "--until", "yesterday"), "until")
    for words in ([], ["1", "--until", moment]):
        refused(shmcache("snapshot", "restore", "--data-dir", folder, *words), "either")


def test_save_that_fails():
    """A full disk: the reason, exit code 1, and nothing left of it; with space again it succeeds."""
    with small_disk(2 << 20) as disk, running_instance(workers=1, data_dir=str(disk.folder / "data")) as instance:
        with package.connect(instance.url) as client:
            client.set("large", os.urandom(1_000_000))
        disk.fill(leave_bytes=200_000)
        refused(shmcache("snapshot", "save", instance.name), "snapshot 1 failed", "No space left")
        assert list((disk.folder / "data/snapshots").iterdir()) == []
        disk.free()
        assert b"snapshot 1: 1 keys" in shmcache("snapshot", "save", instance.name).stdout


def test_wrong_names_and_folders(instance: RunningInstance, tmp_path: Path):
    """No instance, one without persistence, a stopped one, no folder, a file, another folder, no such number."""
    folder = tmp_path / "data"
    (tmp_path / "file").write_text("x")
    refused(shmcache("snapshot", "list", "--data-dir", tmp_path / "none"), "not a folder")
    refused(shmcache("snapshot", "verify", "--data-dir", tmp_path / "file"), "not a folder")
    for command in (["info", "1"], ["delete", "1"], ["restore", "1"], ["export", "-"]):
        refused(shmcache("snapshot", *command, "--data-dir", tmp_path), "not a data folder")
    for command in (["info", "7"], ["delete", "7"], ["verify", "7"], ["export", "-", "--number", "7"]):
        refused(shmcache("snapshot", *command, "--data-dir", folder), "no snapshot 7")
    refused(shmcache("snapshot", "save", "no-such"), "not running", code=2)
    with running_instance() as bare:
        refused(shmcache("snapshot", "save", bare.name), "--data-dir", code=2)
        refused(shmcache("snapshot", "list", bare.name), "--data-dir", code=2)
    instance.stop()
    assert holder_of(folder) == ""
    refused(shmcache("snapshot", "save", instance.name), "not running", code=2)
    assert shmcache("snapshot", "restore", "1").returncode == 2
    refused(shmcache("snapshot", "restore", "7", "--data-dir", folder), "no snapshot 7")
    manifest = folder / "snapshots/0000000001"
    manifest.mkdir()
    (manifest / "manifest.json").write_text("{}")
    refused(shmcache("snapshot", "info", "1", "--data-dir", folder), "manifest.json")
    assert b"damaged" in shmcache("snapshot", "list", "--data-dir", folder).stdout


def test_one_instance_in_a_folder(instance: RunningInstance):
    """A second one is refused, and says whose the folder is."""
    with pytest.raises(AssertionError, match="did not become ready"), running_instance(data_dir=instance.options["data_dir"]):
        pass
    assert instance.name in holder_of(Path(instance.options["data_dir"]))
    instance.kill()
    instance.start()
