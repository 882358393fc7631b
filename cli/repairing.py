"""Making an append-only file readable again: what a start would read is kept up to the first damage, everything behind it is moved aside.

Only what the newest snapshot leads on to is looked at, or all of the log if there is no snapshot: a start reads nothing else.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from shmcache.errors import DamagedFile
from shmcache.persistence.blocks import Cipher
from shmcache.persistence.files import OS_FILES
from shmcache.persistence.segments import FOLDER as LOG
from shmcache.persistence.segments import (
    Scan,
    close_torn,
    open_segment,
    scan,
    segment_numbers,
    segment_path,
)
from shmcache.persistence.snapshots import read_manifest, snapshot_numbers

from .snapshot.restoring import move_segment, new_aside


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    folder: Path
    close: tuple[int, ...] = ()
    """Segments that a crash left open: their torn end is cut off, as a start does it."""
    cut: int = 0
    """The segment that is damaged; 0: none."""
    offset: int = 0
    """Where it is cut; 0: all of it goes aside."""
    aside: tuple[int, ...] = ()
    """Segments behind it, which nothing leads on to then."""
    damage: DamagedFile | None = None
    kept_ms: int = 0
    """Until when there are writes left (unix ms), as far as the log says."""

    @property
    def is_empty(self) -> bool:
        return not self.close and self.damage is None


def inspect(folder: Path, cipher: Cipher | None = None) -> Plan:
    """Look for the first damage. Raises DamagedFile if the newest snapshot's manifest is damaged, OSError."""
    snapshots = snapshot_numbers(folder)
    first = read_manifest(folder, snapshots[-1]).first_segment if snapshots else 1
    if not first:
        return Plan(folder)
    numbers = [number for number in segment_numbers(folder) if number >= first]
    close: list[int] = []
    before: Scan | None = None
    kept_ms = 0
    for at, number in enumerate(numbers):
        path, later = segment_path(folder, number), tuple(numbers[at + 1 :])
        try:
            if number != first + at:
                raise DamagedFile(str(segment_path(folder, first + at)), 0, "this segment of the append-only file is missing")
            with open_segment(path, cipher) as (meta, _):
                if before is not None and not meta.continues:
                    break
            if before is not None and not before.is_whole:
                raise DamagedFile(str(path), 0, f"it goes on from segment {before.meta.number}, which does not say where it ends")
            if before is not None and before.meta.lineage == meta.lineage and before.positions != meta.starts:
                raise DamagedFile(str(path), 0, f"it begins at {meta.starts}, the one before ended at {before.positions}")
        except DamagedFile as damage:
            # All of it is of no use.
            return Plan(folder, tuple(close), number, 0, later, damage, kept_ms)
        try:
            before = scan(path, cipher)
        except DamagedFile as damage:
            return Plan(folder, tuple(close), number, damage.offset, later, damage, kept_ms)
        kept_ms = before.last_ms or kept_ms
        if not before.is_whole:
            close.append(number)
    return Plan(folder, tuple(close), kept_ms=kept_ms)


def repair(plan: Plan, cipher: Cipher | None = None) -> Path | None:
    """Carry it out; returns where everything is that was taken out, None if that is nothing. The caller holds the folder. Raises DamagedFile, OSError.

    The last go first, so that what an interruption leaves goes on without a gap.
    """
    aside = new_aside(plan.folder) if plan.damage is not None else None
    if aside is not None:
        for number in reversed(plan.aside):
            move_segment(plan.folder, number, aside)
        if not plan.offset:
            move_segment(plan.folder, plan.cut, aside)
        else:
            _cut(plan, aside, cipher)
    for number in plan.close:
        close_torn(OS_FILES, segment_path(plan.folder, number), cipher)
    return aside


def _cut(plan: Plan, aside: Path, cipher: Cipher | None) -> None:
    path = segment_path(plan.folder, plan.cut)
    copy = aside / LOG / path.name
    shutil.copyfile(path, copy)
    file = OS_FILES.open(copy)
    file.sync()
    file.close()
    OS_FILES.sync_folder(copy.parent)
    file = OS_FILES.open(path)
    try:
        file.truncate(plan.offset)
        file.sync()
    finally:
        file.close()
    close_torn(OS_FILES, path, cipher)
