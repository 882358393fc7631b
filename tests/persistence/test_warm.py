"""Warm restarts of real instances, with a process that reads all the time; and regions that a restart cannot use."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmcache
from cli.connection import ControlChannel
from shmcache.server.exit_codes import BAD_CONFIG, START_FAILED
from shmcache.server.paths import ipc_endpoint, socket_folder
from tests.persistence.warm_reader import value_of
from tests.support.instance import RunningInstance, remove_objects, running_instance, wait_until

ROOT = Path(__file__).resolve().parents[2]
KEYS = 300
READER_TIMEOUT_S = 5.0


def fill(instance: RunningInstance) -> None:
    with shmcache.connect(instance.url) as client:
        client.mset({f"warm{n}": value_of(n) for n in range(KEYS)})


def check(instance: RunningInstance) -> None:
    with shmcache.connect(instance.url) as client:
        assert client.mget([f"warm{n}" for n in range(KEYS)]) == [value_of(n) for n in range(KEYS)]
        assert client.dbsize() == KEYS
        client.set("alive", 1)
        client.delete("alive")


def save(instance: RunningInstance) -> None:
    with ControlChannel(20) as channel:
        channel.call(ipc_endpoint(socket_folder(instance.snapshot()), instance.name, "keeper"), "save")


def kill_everything(instance: RunningInstance) -> None:
    """`kill -9` of the supervisor and all its children, at once."""
    for pid in [instance.pid, *instance.child_pids()]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    instance.kill()


def refused(instance: RunningInstance, **options: Any) -> tuple[int, str]:
    """A start that fails: its exit code and what it said. An option that is None is left out."""
    size = len(instance.log())
    words = {name: value for name, value in (instance.options | options).items() if value is not None}
    process = instance.launch(**words)
    process.communicate(timeout=30)
    return process.returncode, instance.log()[size:]


@contextlib.contextmanager
def reading(instance: RunningInstance) -> Iterator[Callable[[], dict[str, Any]]]:
    """A reader process; the callable ends it and gives what it counted."""
    command = [sys.executable, "-m", "tests.persistence.warm_reader", instance.url, str(KEYS), str(READER_TIMEOUT_S)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end() -> dict[str, Any]:
        process.terminate()
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        return dict(json.loads(output))

    try:
        time.sleep(1.0)
        assert process.poll() is None, process.communicate()
        yield end
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(params=[False, True], ids=["memory", "disk"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningInstance]:
    """Without and with a data folder."""
    disk = {"data_dir": str(tmp_path / "data"), "aof": "everysec"} if request.param else {}
    with running_instance(workers=2, ephemeral=False, **disk) as instance:
        fill(instance)
        yield instance


def test_readers_do_not_notice(kept: RunningInstance) -> None:
    """In-order stops and kills of everything, one after the other: it is warm each time, and a reader has no error and no wrong value."""
    with reading(kept) as end:
        for stop in (kept.stop, lambda: kill_everything(kept), kept.stop, lambda: kill_everything(kept)):
            stop()
            time.sleep(0.1)
            began = time.monotonic()
            kept.start()
            took = time.monotonic() - began
            assert f"warm with {KEYS} keys" in kept.ready_line
            check(kept)
            print(kept.ready_line, f"{took:.2f} s with the interpreter")
        counted = end()
    print(counted)
    assert counted["errors"] == {}
    assert counted["longest_s"] < READER_TIMEOUT_S
    assert counted["reads"] > 1000


def test_upgrade_with_the_same_layout(kept: RunningInstance, tmp_path: Path) -> None:
    """The second start is of a copy of the package in another folder: it takes what the first one left, and its reader reads on."""
    copy = tmp_path / "upgraded"
    # What is beside the package and belongs to it comes along.
    for part in ("shmcache", "replication", "cli"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("target", "__pycache__"), symlinks=True)
    with reading(kept) as end:
        kept.stop()
        kept.environment["PYTHONPATH"] = str(copy)
        kept.start()
        assert f"warm with {KEYS} keys" in kept.ready_line
        maps = Path(f"/proc/{kept.worker_pid()}/maps").read_text()
        assert str(copy) in maps
        assert str(ROOT) + "/shmcache" not in maps
        check(kept)
        counted = end()
    assert counted["errors"] == {}


def region(instance: RunningInstance, kind: str) -> Path:
    return Path(f"/dev/shm/shmcache.{instance.name}.{kind}")


def make_foreign(path: Path) -> None:
    """Another layout version, as an older or a newer release would have written it."""
    with path.open("r+b") as file:
        file.seek(8)
        file.write((77).to_bytes(4, "little"))


KINDS = ["0.data", "1.data", "0.hints", "1.log"]


class Stopped:
    """A stopped instance that can be brought back to what it was: a copy of its regions and of its data folder."""

    def __init__(self, instance: RunningInstance, copies: Path) -> None:
        self.instance, self._options = instance, dict(instance.options)
        self._copies = copies
        (copies / "regions").mkdir(parents=True)
        for path in Path("/dev/shm").glob(f"shmcache.{instance.name}.*"):
            shutil.copy(path, copies / "regions" / path.name)
        if "data_dir" in instance.options:
            shutil.copytree(instance.options["data_dir"], copies / "data")

    @contextlib.contextmanager
    def again(self) -> Iterator[RunningInstance]:
        """As it was, for one test."""
        self.instance.options = dict(self._options)
        (self.instance.folder / "log").write_bytes(b"")
        for path in (self._copies / "regions").iterdir():
            shutil.copy(path, Path("/dev/shm") / path.name)
        if "data_dir" in self._options:
            shutil.rmtree(self._options["data_dir"])
            shutil.copytree(self._copies / "data", self._options["data_dir"])
        try:
            yield self.instance
        finally:
            if self.instance.process is not None:
                print(self.instance.log())
                kill_everything(self.instance)
                wait_until(lambda: not _alive(self.instance), 20, "nothing of it is left")
            remove_objects(self.instance.name)


@pytest.fixture(scope="module")
def stopped_without_a_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    with running_instance(workers=2, ephemeral=False) as instance:
        fill(instance)
        instance.stop()
        yield Stopped(instance, tmp_path_factory.mktemp("kept") / "copies")


@pytest.mark.parametrize("kind", KINDS)
def test_another_layout_without_a_disk(stopped_without_a_disk: Stopped, kind: str) -> None:
    """Refused, with the way out; nothing is removed."""
    with stopped_without_a_disk.again() as instance:
        make_foreign(region(instance, kind))
        code, text = refused(instance)
        assert code == START_FAILED
        assert "--cold" in text
        assert region(instance, kind).name in text
        assert region(instance, kind).exists()


@pytest.fixture(scope="module")
def stopped_with_a_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    """Half of the data in a snapshot, half in the log; with a relay."""
    folder = tmp_path_factory.mktemp("saved")
    disk = {"data_dir": str(folder / "data"), "aof": "everysec"}
    with running_instance(workers=2, ephemeral=False, relay_listen="tcp://127.0.0.1:0", **disk) as instance:
        with shmcache.connect(instance.url) as client:
            client.mset({f"warm{n}": value_of(n) for n in range(KEYS // 2)})
        save(instance)
        fill(instance)
        instance.stop()
        # No port is kept: others on this machine may have taken it meanwhile.
        instance.options["listen"] = "tcp://127.0.0.1:0"
        yield Stopped(instance, folder / "copies")


@pytest.fixture
def saved(stopped_with_a_disk: Stopped) -> Iterator[RunningInstance]:
    with stopped_with_a_disk.again() as instance:
        yield instance


@pytest.mark.parametrize("kind", [*KINDS, "persistence", "replication"])
def test_another_layout_with_a_disk(saved: RunningInstance, kind: str) -> None:
    """It says so, and reads snapshot and log instead."""
    make_foreign(region(saved, kind))
    saved.start()
    assert f"{KEYS} keys read from snapshot 1" in saved.ready_line
    assert "cannot be used, the data are read from disk instead" in saved.log()
    assert "layout version 77" in saved.log()
    check(saved)


@pytest.mark.parametrize("kind", [*KINDS, "persistence"])
def test_a_region_is_missing(saved: RunningInstance, kind: str) -> None:
    """Of the data: all is read from disk. The persistence region alone is made anew, beside the data in memory."""
    region(saved, kind).unlink()
    saved.start()
    expected = "warm with" if kind == "persistence" else "read from snapshot 1"
    assert expected in saved.ready_line
    check(saved)


def test_directory_of_another_layout(kept: RunningInstance) -> None:
    """After `kill -9` of everything it is replaced, and who had it mapped is told."""
    with reading(kept) as end:
        kill_everything(kept)
        make_foreign(region(kept, "directory"))
        kept.start()
        assert f"warm with {KEYS} keys" in kept.ready_line
        check(kept)
        assert end()["errors"] == {}


@pytest.mark.parametrize("workers", [1, 3])
def test_another_number_of_workers(saved: RunningInstance, workers: int) -> None:
    saved.start(workers=workers)
    assert f"{KEYS} keys read from snapshot 1" in saved.ready_line
    assert "now there are" in saved.log()
    check(saved)


def test_nothing_on_disk_to_fall_back_to(tmp_path: Path) -> None:
    """Regions that cannot be used are not thrown away for an empty folder."""
    with running_instance(workers=2, ephemeral=False) as instance:
        fill(instance)
        instance.stop()
        make_foreign(region(instance, "0.data"))
        code, text = refused(instance, data_dir=str(tmp_path))
        assert code == START_FAILED
        assert "--cold" in text
        code, text = refused(instance, data_dir=str(tmp_path), workers=1)
        assert code == START_FAILED
        assert region(instance, "1.data").exists()


def test_restore_that_is_killed(saved: RunningInstance) -> None:
    """A start that is killed while it reads from disk is begun anew by the next one; one without the disk refuses the half of it."""
    for path in Path("/dev/shm").glob(f"shmcache.{saved.name}.*"):
        path.unlink()
    process = saved.launch(**saved.options)
    wait_until(lambda: region(saved, "1.data").exists(), 20, "it has begun")
    process.kill()
    process.communicate()
    # However far it came: as if a worker had been in the middle of it.
    persistence = region(saved, "persistence")
    wait_until(lambda: not _alive(saved), 10, "its children end, too")
    with persistence.open("r+b") as file:
        file.seek(576 + 64 + 16)
        file.write((1).to_bytes(8, "little"))
    if all(region(saved, f"{shard}.{kind}").exists() for shard in range(2) for kind in ("data", "hints", "log")):
        code, text = refused(saved, data_dir=None, aof=None)
        assert code == BAD_CONFIG
        assert "not all of them" in text
    saved.start()
    assert f"{KEYS} keys read from snapshot 1" in saved.ready_line
    check(saved)
    saved.stop()
    saved.start()
    assert f"warm with {KEYS} keys" in saved.ready_line


def _alive(instance: RunningInstance) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if instance.name.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(path.parent.name)
    return found
