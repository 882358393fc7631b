"""A new replica begins with the archive of its primary, and follows the log from there."""

import shutil
from pathlib import Path
from typing import Any

from shmcache.protocol.attach import open_tailer
from tests.persistence.calls import keeper_call
from tests.persistence.test_archive import fill, has, wait_archived
from tests.replication.pairs import primary, replica, status, wait_equal
from tests.support.instance import RunningInstance, wait_until


def archived_primary(tmp_path: Path, **options: Any) -> Any:
    given = {"workers": 2, "data_dir": str(tmp_path / "data"), "aof": "everysec", "archive": f"file://{tmp_path}/store", "archive_every": "1h"}
    return primary(**given | options)


def snapshot(instance: RunningInstance) -> None:
    # A snapshot says whose log it belongs to as soon as there is a relay that knows.
    wait_until(lambda: status(instance)["role"] == "primary", 20)
    wait_archived(instance, snapshot=keeper_call(instance, "save")["number"])


def copies(instance: RunningInstance) -> int:
    return sum(link["copies"] for link in status(instance)["links"])


def test_no_copy(tmp_path: Path) -> None:
    """Snapshot, log in the archive, log in the ring only: with another number of workers the same comes out, and no shard is copied."""
    with archived_primary(tmp_path) as one:
        fill(one)
        snapshot(one)
        fill(one, "archived")
        # Its first segment ends with the snapshot; this one ends it and the next.
        snapshot(one)
        (tmp_path / "store/snapshots/0000000002/manifest.json").unlink()
        fill(one, "ring")
        with replica(one, workers=3, data_dir=str(tmp_path / "two"), restore=f"file://{tmp_path}/store") as two:
            assert "read from snapshot 1" in two.ready_line
            wait_equal(one, two)
            assert copies(two) == 0
            assert has(two, "ring")
            fill(one, "live")
            wait_equal(one, two)
            assert copies(two) == 0


def test_ring_has_gone_on(tmp_path: Path) -> None:
    """What is missing is not in the primary's rings any more: a full copy, as ever."""
    with archived_primary(tmp_path, log_size="64KB") as one:
        fill(one)
        snapshot(one)
        # The primary may make, and archive, another snapshot when its own log overtakes its keeper.
        shutil.copytree(tmp_path / "store", tmp_path / "old")
        before = [record.log_name for record in one.snapshot().shards]
        for n in range(100):
            fill(one, f"more{n}.", 100)
        assert all(open_tailer(name, "test", 0).position > 0 for name in before)
        with replica(one, workers=1, data_dir=str(tmp_path / "two"), restore=f"file://{tmp_path}/old") as two:
            wait_equal(one, two)
            assert copies(two) == 2


def test_another_history(tmp_path: Path) -> None:
    """The primary has begun anew since (its log is another one): positions of the old one mean nothing, so a full copy."""
    with archived_primary(tmp_path) as one:
        fill(one)
        snapshot(one)
        one.stop()
        one.start(cold=True)
        fill(one, "second")
        with replica(one, workers=2, data_dir=str(tmp_path / "two"), restore=f"file://{tmp_path}/store") as two:
            wait_equal(one, two)
            assert copies(two) == 2
