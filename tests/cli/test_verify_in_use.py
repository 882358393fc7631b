"""Files that a running instance removes while they are verified: no damage, and no traceback."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.snapshot import checking
from shmcache.persistence.segments import segment_numbers, segment_path
from shmcache.persistence.snapshots import snapshot_folder

_DATA = Path(__file__).resolve().parents[1] / "fixtures/persistence/v1/log/data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Snapshot 1, and the segments 2 to 5."""
    return Path(shutil.copytree(_DATA, tmp_path / "data"))


def retire(folder: Path) -> None:
    """What retention does once there is a newer snapshot: the snapshot goes first, then its segments."""
    shutil.rmtree(snapshot_folder(folder, 1), ignore_errors=True)
    for number in segment_numbers(folder)[:-1]:
        segment_path(folder, number).unlink()


@pytest.mark.parametrize("steps", range(8))
def test_removed_after_some_steps(folder: Path, steps: int) -> None:
    left = steps

    def progress(_: float) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            retire(folder)

    found = checking.check(folder, None, progress, in_use=True)
    assert not found.damage, found


@pytest.mark.parametrize("after", ["read_manifest", "segment_numbers", "scan"])
@pytest.mark.parametrize("in_use", [True, False])
def test_removed_after_a_look(folder: Path, monkeypatch: pytest.MonkeyPatch, after: str, in_use: bool) -> None:
    """Found by rounds of `kill -9`: what a segment's size is was asked when it was gone."""
    look = getattr(checking, after)

    def and_retire(*arguments: Any) -> Any:
        try:
            return look(*arguments)
        finally:
            retire(folder)

    monkeypatch.setattr(checking, after, and_retire)
    found = checking.check(folder, None, lambda _: None, in_use=in_use)
    assert not found.damage or not in_use, found


def test_missing_although_nobody_removes_it(folder: Path) -> None:
    """The first segment of a snapshot that is there."""
    segment_path(folder, 2).unlink()
    for in_use in (True, False):
        assert "a snapshot leads on to it" in str(checking.check(folder, None, lambda _: None, in_use=in_use).damage)
