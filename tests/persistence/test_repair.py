"""Damage in the middle: a start refuses it, `inspect` says what would be lost, `repair` cuts there and keeps everything aside."""

import random
import shutil
from pathlib import Path

import pytest

from shmcache.errors import DamagedFile
from shmcache.persistence.repair import inspect, repair
from shmcache.persistence.segments import segment_numbers, segment_path
from shmcache.persistence.snapshots import remove_unfinished, snapshot_folder, snapshot_numbers
from tests.persistence.test_damage import block_ends, look, open_log
from tests.support.disk_lives import Life
from tests.support.torn_disk import TornDisk, materialise

_DATA = Path(__file__).resolve().parents[1] / "fixtures/persistence/v1/log/data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(_DATA, tmp_path / "data")
    return tmp_path / "data"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_nothing_to_do(folder: Path) -> None:
    assert inspect(folder).is_sound
    assert inspect(folder).text == "everything is sound"
    assert repair(folder)[1] == []
    assert sorted(path.name for path in folder.rglob("*")) == sorted(path.name for path in _DATA.rglob("*"))


def test_middle_of_the_last(tmp_path: Path) -> None:
    path, ends = open_log(tmp_path)
    folder = tmp_path / "data"
    flip(path, ends[0] + 100)
    bytes_before = path.read_bytes()
    with pytest.raises(DamagedFile, match="below what was synced"):
        look(folder)
    report = inspect(folder)
    damaged = report.segments[-1]
    assert not report.is_sound
    assert damaged.damage is not None
    assert (damaged.end, damaged.damage.offset, damaged.blocks_lost) == (ends[0], ends[0], len(ends) - 2)
    assert damaged.records_lost > 0
    assert f"offset {ends[0]}" in report.text
    assert path.read_bytes() == bytes_before
    _, kept = repair(folder)
    assert [file.read_bytes() for file in kept] == [bytes_before[ends[0] :]]
    found = look(folder)
    assert found["key5"][0] == "after the snapshot"
    assert inspect(folder).is_sound
    # What only stood in the part that was cut.
    assert "{group}d" not in found or found["{group}d"][0] != "4"


def test_middle_of_an_earlier_one(folder: Path) -> None:
    """What goes on from it is of no use any more, and is set aside as a whole."""
    numbers = segment_numbers(folder)
    path = segment_path(folder, numbers[1])
    flip(path, block_ends(path)[0] + 60)
    with pytest.raises(DamagedFile):
        look(folder)
    report, kept = repair(folder)
    assert report.unusable == tuple(numbers[2:])
    assert all(file.exists() for file in kept)
    assert segment_numbers(folder) == numbers[:2]
    assert look(folder)["key0"][0] == "value 0"
    assert inspect(folder).is_sound


@pytest.mark.parametrize("which", [0, 1])
def test_header(folder: Path, which: int) -> None:
    """A segment that cannot even be told to be one; also the one that the snapshot leads on from."""
    flip(segment_path(folder, segment_numbers(folder)[which]), 30)
    with pytest.raises(DamagedFile):
        look(folder)
    _, kept = repair(folder)
    assert len(kept) == len(segment_numbers(_DATA)) - which
    assert look(folder)["old1"][0] == "flushed 1" if which == 0 else look(folder)["key0"][0] == "value 0"
    assert inspect(folder).is_sound


def test_snapshot(folder: Path) -> None:
    """It is set aside, and not cleared away as unfinished at the next start."""
    number = snapshot_numbers(folder)[-1]
    flip(snapshot_folder(folder, number) / "shard-0001.snap", 200)
    with pytest.raises(DamagedFile, match="shard-0001"):
        look(folder)
    assert list(inspect(folder).bad_snapshots) == [number]
    _, kept = repair(folder)
    assert remove_unfinished(folder) == []
    assert all(file.exists() for file in kept)
    assert snapshot_numbers(folder) == []


def test_cut_while_repairing(tmp_path: Path) -> None:
    """A power cut in the middle of a repair: it is done again, and what is kept aside is whole."""
    path, ends = open_log(tmp_path)
    flip(path, ends[0] + 100)
    lost = path.read_bytes()[ends[0] :]
    disk = TornDisk(tmp_path / "data")
    repair(tmp_path / "data", files=disk)
    expected = look(tmp_path / "data")
    for operations, after in disk.cuts():
        for nth in range(20):
            cut = tmp_path / "cut"
            materialise(after.after_cut(random.Random(f"{operations}/{nth}")), cut)
            repair(cut)
            assert look(cut) == expected
            assert any(file.read_bytes() == lost for file in (cut / "log").glob("*.torn*"))


def test_old_damage_hinders_nothing(tmp_path: Path) -> None:
    """In a segment before the one that the newest snapshot leads on from, which is said in the log."""
    root = tmp_path / "data"
    root.mkdir()
    life = Life(root, 1, "always", 1)
    for n in range(3):
        life.command("SET", "key1", n)
        life.keeper.snapshot()
        for _ in range(10):
            life.now += 1
            life.keeper.turn(life.now)
    life.keeper.aof.end()
    numbers = segment_numbers(root)
    life.close()
    flip(segment_path(root, numbers[0]), 200)
    assert not inspect(root).is_sound
    assert look(root)["key1"][0] == "2"
