"""The archive, against a real S3 server and a folder: what goes there, what comes back, what happens when something is wrong."""

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import shmcache
from shmcache.persistence.archive import Archive
from shmcache.persistence.archiving import Archiver, Wanted
from shmcache.persistence.segments import segment_numbers
from tests.persistence.calls import begin_cold, keeper_call, refusal
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.object_store import S3, environment, free_port, s3_server
from tests.support.valve import Valve


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as store:
        yield store


@pytest.fixture
def s3(server: S3, request: pytest.FixtureRequest) -> S3:
    """The server, with nothing in its bucket."""
    for name in server.names():
        server.delete(name)
    return server


def archive_status(instance: RunningInstance) -> dict[str, Any]:
    found = keeper_call(instance, "status")["archive"]
    assert isinstance(found, dict)
    return found


def wait_archived(instance: RunningInstance, seconds: float = 60, *, snapshot: int = 0, segment: int = 0) -> dict[str, Any]:
    def archived() -> dict[str, Any] | None:
        found = archive_status(instance)
        return found if found["snapshot"] >= snapshot and found["segment"] >= segment and found["state"] == "idle" else None

    found = wait_until(archived, seconds, f"snapshot {snapshot} and segment {segment} are in the archive")
    assert isinstance(found, dict)
    return found


def fill(instance: RunningInstance, prefix: str = "key", count: int = 300) -> None:
    with shmcache.connect(instance.url, timeout=20) as client:
        client.mset({f"{prefix}{n}": f"value{n}" for n in range(count)})


def has(instance: RunningInstance, prefix: str = "key", count: int = 300) -> bool:
    with shmcache.connect(instance.url, timeout=20) as client:
        found = client.mget(*(f"{prefix}{n}" for n in range(count)))
    assert found in ([f"value{n}".encode() for n in range(count)], [None] * count)
    return found[0] is not None


def archiving(tmp_path: Path, url: str, **options: Any) -> Any:
    given = {"workers": 2, "data_dir": str(tmp_path / "data"), "aof": "everysec", "ephemeral": False, "archive": url}
    return running_instance(**given | options)


def restored(tmp_path: Path, url: str, **options: Any) -> Any:
    """Another instance that begins with the archive."""
    return running_instance(**{"workers": 3, "data_dir": str(tmp_path / "elsewhere"), "aof": "everysec", "restore": url} | options)


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_there_and_back(tmp_path: Path, s3: S3, kind: str) -> None:
    """Snapshot and segments go to the archive; elsewhere, with another number of workers, the same data come out of it. With encryption."""
    url = s3.url if kind == "s3" else f"file://{tmp_path}/store"
    key = tmp_path / "data.key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    common = {"environment": s3.environment, "data_key_file": str(key)}
    # Not shorter: with a slow store it would never be seen idle.
    with archiving(tmp_path, url, archive_every="2s", archive_verify=True, **common) as instance:
        fill(instance)
        keeper_call(instance, "save")
        wait_archived(instance, snapshot=1)
        fill(instance, "late")
        wait_until(lambda: has(instance, "late"), 5)
        # No snapshot, no stop: the time alone ends the segment.
        wait_archived(instance, segment=keeper_call(instance, "status")["aof"]["segment"])
        with restored(tmp_path, url, **common) as other:
            assert "keys read from snapshot 1" in other.ready_line
            assert has(other)
            assert has(other, "late")
            assert not (tmp_path / "elsewhere" / "fetching").exists()


def test_last_words(tmp_path: Path, s3: S3) -> None:
    """An ordered stop leaves nothing behind."""
    with archiving(tmp_path, s3.url, environment=s3.environment, archive_every="1h") as instance:
        fill(instance)
        instance.stop()
        assert [name for name in s3.names() if name.startswith("log/")] == ["log/0000000001.aof"]
        with restored(tmp_path, s3.url, environment=s3.environment) as other:
            assert "read from the append-only file" in other.ready_line
            assert has(other)
            assert (tmp_path / "elsewhere/log/0000000001.aof").stat().st_mode & 0o777 == 0o600
            # The old host is gone for good: the new one goes on in its place, at the same prefix.
            other.stop()
            other.start(archive=s3.url)
            fill(other, "second")
            keeper_call(other, "save")
            wait_archived(other, snapshot=1)
            assert "log/0000000002.aof" in s3.names()
        with restored(tmp_path / "third", s3.url, environment=s3.environment) as third:
            assert has(third)
            assert has(third, "second")


def test_killed_in_an_upload(tmp_path: Path, s3: S3) -> None:
    """kill -9 of the keeper while a snapshot is sent: the next one goes on and does not send again what is there."""
    valve = Valve(s3.port)
    try:
        with archiving(tmp_path, s3.url, environment=environment(valve.port), memory="256MB", snapshot_compression=0) as instance:
            with shmcache.connect(instance.url, timeout=20) as client:
                for n in range(48):
                    client.set(f"large{n}", os.urandom(1 << 20))
            wait_until(lambda: archive_status(instance)["state"] == "idle", 60)
            valve.set(90 << 20)
            keeper_call(instance, "save")
            wait_until(lambda: valve.is_shut, 60, "the upload stands still")
            assert "snapshots/0000000001/manifest.json" not in s3.names()
            # A segment that the archive has may be gone from the disk.
            there = [name for name in s3.names() if (tmp_path / "data" / name).exists()]
            assert there
            pid = instance.child_pid("keeper")
            os.kill(pid, signal.SIGKILL)
            with shmcache.connect(instance.url, timeout=20) as client:
                assert client.set("meanwhile", 1)
            valve.set(None)
            wait_until(lambda: instance.child_pid("keeper") not in (0, pid), 20)
            wait_until(lambda: "snapshots/0000000001/manifest.json" in s3.names(), 60, "the snapshot is whole")
            assert archive_status(instance)["skipped"] >= len(there)
            with (
                restored(tmp_path, s3.url, environment=s3.environment, memory="256MB") as other,
                shmcache.connect(instance.url, timeout=20) as one,
                shmcache.connect(other.url, timeout=20) as two,
            ):
                assert all(one.get(f"large{n}") == two.get(f"large{n}") for n in range(48))
                assert two.exists("large0")
    finally:
        valve.close()


def test_store_away(tmp_path: Path) -> None:
    """Nobody at the other end, then no bucket: it is served, the status says what is wrong, and all comes to the archive in the end."""
    port = free_port()
    with archiving(tmp_path, "s3://bucket/some/prefix", environment=environment(port), archive_every="200ms", snapshot_keep=1) as instance:
        fill(instance)
        found = wait_until(lambda: (s := archive_status(instance))["failures"] and s, 60)
        assert found["state"] == "waiting"
        assert f"127.0.0.1:{port}" in found["last_error"] or "s3://bucket" in found["last_error"]
        for _ in range(3):
            keeper_call(instance, "save")
        fill(instance, "late")
        with s3_server(port, bucket=False) as store:
            wait_until(lambda: "there is no such bucket" in archive_status(instance)["last_error"], 90, "no bucket")
            assert has(instance, "late")
            store.make_bucket()
            wait_archived(instance, 120, snapshot=3)
            # Snapshots have gone from the disk meanwhile; the log of all the time has waited.
            assert [name for name in store.names() if name.startswith("log/")][:2] == ["log/0000000001.aof", "log/0000000002.aof"]
            with restored(tmp_path, store.url, environment=store.environment) as other:
                assert has(other)
                assert has(other, "late")


def test_retention(tmp_path: Path, s3: S3) -> None:
    with archiving(tmp_path, s3.url, environment=s3.environment, archive_keep=2) as instance:
        for number in range(1, 5):
            fill(instance, f"p{number}.")
            keeper_call(instance, "save")
            wait_archived(instance, snapshot=number)
        wait_until(lambda: sum(name.endswith("manifest.json") for name in s3.names()) == 2, 20)
        names = s3.names()
        assert {name.split("/")[1] for name in names if name.startswith("snapshots/")} == {"0000000003", "0000000004"}
        assert "log/0000000001.aof" not in names
        with restored(tmp_path, s3.url, environment=s3.environment) as other:
            assert has(other, "p1.")
            assert has(other, "p4.")


def test_until(tmp_path: Path, s3: S3) -> None:
    """A time between two snapshots, restored from the archive, and archived on from there to another place."""
    with archiving(tmp_path, s3.url, environment=s3.environment, aof="always") as instance:
        keeper_call(instance, "save")
        fill(instance)
        time.sleep(0.05)
        moment = time.time()
        time.sleep(0.05)
        fill(instance, "late")
        keeper_call(instance, "save")
        wait_archived(instance, snapshot=2)
        with restored(tmp_path, s3.url, environment=s3.environment, until=f"{moment:.3f}") as other:
            assert has(other)
            assert not has(other, "late")



def test_prefix_of_another_instance(tmp_path: Path, s3: S3) -> None:
    """Two that archive to one place: the second one overwrites nothing and says why it archives nothing."""
    with archiving(tmp_path, s3.url, environment=s3.environment) as instance:
        fill(instance)
        instance.stop()
    before = s3.get("log/0000000001.aof")
    with archiving(tmp_path / "b", s3.url, environment=s3.environment, archive_every="100ms") as second:
        fill(second)
        wait_until(lambda: "is of other data" in archive_status(second)["last_error"], 30)
        assert has(second)
    assert s3.get("log/0000000001.aof") == before


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive in a folder: a snapshot, and log that follows."""
    path = tmp_path_factory.mktemp("sample")
    with archiving(path, f"file://{path}/store", aof="always") as instance:
        fill(instance)
        keeper_call(instance, "save")
        fill(instance, "late")
        wait_archived(instance, snapshot=1)
        for _ in range(2):
            instance.stop()
            instance.start()
            fill(instance, "later")
        instance.stop()
    return path / "store"


@pytest.fixture
def copied(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample, tmp_path / "store"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 90)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (flip, "snapshots/0000000001/shard-0001.snap", "shard-0001.snap, offset 0: its checksum"),
        (truncate, "snapshots/0000000001/shard-0000.snap", "shard-0000.snap, offset .* bytes, the manifest says"),
        (remove, "snapshots/0000000001/shard-0000.snap", "shard-0000.snap: this file of the snapshot is missing"),
        (flip, "snapshots/0000000001/manifest.json", "manifest.json, offset 0"),
        (flip, "log/0000000003.aof", "0000000003.aof, offset .*"),
        (truncate, "log/0000000003.aof", "0000000003.aof, offset .*"),
        (remove, "log/0000000003.aof", "0000000003.aof: this segment of the log is missing"),
        (remove, "log/0000000002.aof", "0000000002.aof: this segment of the log is missing"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value).split("/")[-1]),
)
def test_damaged(copied: Path, tmp_path: Path, change: Any, name: str, message: str) -> None:
    """Each is refused with the name of the object, no data are served, and the same start succeeds when the object is whole again."""
    whole = (copied / name).read_bytes()
    change(copied / name)
    with running_instance(workers=1) as instance:
        instance.stop()
        options = {"data_dir": str(tmp_path / "data"), "restore": f"file://{copied}"}
        said = refusal(instance, **options)
        assert re.search(f"shmcache: .*{message}", said), said
        (copied / name).write_bytes(whole)
        begin_cold(instance, **options)
        assert has(instance)
        assert has(instance, "later")


def test_verified_after_upload(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that the store has changed is found by reading it back, removed and sent again."""
    put_file, sent = Archive.put_file, []

    def put_damaged(self: Archive, name: str, path: Path) -> None:
        put_file(self, name, path)
        sent.append(name)
        if sent.count(name) == 1 and name.endswith("0003.aof"):
            flip(tmp_path / "there" / name)

    monkeypatch.setattr(Archive, "put_file", put_damaged)
    archiver = Archiver(copied, f"file://{tmp_path}/there", keep=3, verify=True, log=structlog.get_logger())
    archiver.offer(Wanted(tuple(segment_numbers(copied)), (1,)))
    wait_until(lambda: archiver.status()["failures"] == 1, 20)
    assert "0000000003.aof is not what was sent" in archiver.status()["last_error"]
    wait_until(lambda: archiver.status()["state"] == "idle", 20)
    archiver.stop(10)
    assert sent.count("log/0000000003.aof") == 2
    for name in sent:
        assert (tmp_path / "there" / name).read_bytes() == (copied / name).read_bytes()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///nowhere/at/all", "there is no such folder"),
        ("file://{tmp}", "there is no snapshot"),
        ("s3://missing/x", "s3://missing/x: there is no such bucket"),
        ("s3://bucket/empty", "s3://bucket/empty: there is no snapshot"),
        ("ftp://x/y", "expected s3://BUCKET/PREFIX"),
    ],
)
def test_nothing_there(tmp_path: Path, s3: S3, url: str, message: str) -> None:
    with running_instance(workers=1, environment=s3.environment) as instance:
        instance.stop()
        said = refusal(instance, data_dir=str(tmp_path / "data"), restore=url.format(tmp=tmp_path))
        assert message in said


def test_interrupted_restore(copied: Path, tmp_path: Path) -> None:
    """What an earlier start has fetched is not fetched again; without --restore a half-filled folder is refused."""
    name = "snapshots/0000000001/shard-0001.snap"
    whole = (copied / name).read_bytes()
    flip(copied / name)
    with running_instance(workers=1) as instance:
        instance.stop()
        options = {"data_dir": str(tmp_path / "data"), "restore": f"file://{copied}"}
        refusal(instance, **options)
        fetched = tmp_path / "data" / "fetching"
        kept = [path for path in fetched.rglob("*") if path.suffix in (".aof", ".snap")]
        assert "is not finished: give --restore" in refusal(instance, **options | {"restore": None})
        assert "finish it with the same options" in refusal(instance, **options | {"restore": f"file://{tmp_path}"})
        (copied / name).write_bytes(whole)
        # What has arrived is not asked for again: it is not even there any more.
        for path in kept:
            (copied / path.relative_to(fetched)).unlink()
        # Of a part, an earlier start may have left anything.
        (fetched / name).with_name("shard-0001.snap.part").write_bytes(whole[:100] + b"?" * 50)
        begin_cold(instance, **options)
        assert has(instance)
        # From now on the option means nothing: there are data.
        instance.stop()
        shutil.rmtree(copied)
        instance.start()
