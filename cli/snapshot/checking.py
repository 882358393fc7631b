"""What a data folder holds: which log follows which snapshot, what a start needs, and whether all of it is as it was written."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shmcache.errors import DamagedFile
from shmcache.persistence.blocks import Cipher
from shmcache.persistence.segments import Scan, SegmentMeta, open_segment, scan, segment_numbers, segment_path
from shmcache.persistence.snapshots import (
    Manifest,
    read_manifest,
    snapshot_folder,
    snapshot_numbers,
    verify_shard,
)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it is gone: retention removes files while an instance runs."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def segment_meta(folder: Path, number: int) -> SegmentMeta:
    """The header of a segment. Raises DamagedFile, OSError."""
    with open_segment(segment_path(folder, number)) as (meta, _):
        return meta


def following(folder: Path, first: int) -> list[int]:
    """Segments that a start reads from `first` on; 0: none. Ends before one that is missing. Raises DamagedFile, OSError."""
    found: list[int] = []
    numbers = set(segment_numbers(folder))
    while first and (number := first + len(found)) in numbers:
        if found and not segment_meta(folder, number).continues:
            break
        found.append(number)
    return found


def is_needed(folder: Path, number: int) -> bool:
    """Whether a cold start would begin with older data if this snapshot were not there. Raises ConfigError, DamagedFile, OSError."""
    manifest = read_manifest(folder, number)
    others = [n for n in snapshot_numbers(folder) if n != number]
    if others and others[-1] > number:
        return False
    log = following(folder, manifest.first_segment)
    instead = following(folder, read_manifest(folder, others[-1]).first_segment if others else 1)
    return not log or instead[-1:] != log[-1:]


def summary(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """One snapshot, for `list` and `info`."""
    log = following(folder, manifest.first_segment)
    return {
        "number": manifest.number,
        "instance": manifest.instance,
        "began_ms": manifest.began_ms,
        "ended_ms": manifest.ended_ms,
        "keys": manifest.keys,
        "bytes": manifest.bytes,
        "raw_bytes": sum(shard.raw_bytes for shard in manifest.shards),
        "shards": len(manifest.shards),
        "release": manifest.release,
        "key": manifest.key,
        "segments": log,
        "log_bytes": sum(size_of(segment_path(folder, number)) for number in log),
    }


@dataclass(slots=True)
class Checked:
    """What `check` found."""

    snapshots: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    bytes: int = 0
    damage: list[DamagedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is no damage, but worth knowing."""


Progress = Callable[[float], None]


def bytes_to_check(folder: Path, number: int | None) -> int:
    """How much `check` reads; what cannot be told counts nothing."""
    total = 0
    for each in [number] if number else snapshot_numbers(folder):
        total += sum(size_of(path) for path in snapshot_folder(folder, each).glob("*.snap"))
    return total + sum(size_of(segment_path(folder, each)) for each in segment_numbers(folder))


def check(folder: Path, number: int | None, progress: Progress, *, in_use: bool, cipher: Cipher | None = None) -> Checked:
    """Read all of a snapshot and of the log that follows it; of all snapshots, and all of the log, without a number.

    Goes on behind damage, so that all of it is named. `in_use`: an instance writes the log meanwhile. Raises ConfigError if there is no
    such snapshot.
    """
    found = Checked()
    firsts: dict[int, int] = {}
    """Snapshot -> the segment that follows it, if any does."""
    for each in [number] if number else snapshot_numbers(folder):
        try:
            manifest = read_manifest(folder, each)
            firsts[each] = manifest.first_segment
            _check_snapshot(folder, manifest, found, progress, cipher)
        except DamagedFile as damage:
            found.damage.append(damage)
        except FileNotFoundError as error:
            if not in_use:
                found.damage.append(DamagedFile(str(error.filename), 0, "it is missing"))
            else:
                found.notes.append(f"snapshot {each} was removed meanwhile")
    first = firsts.get(number, 0) if number else 0
    numbers = segment_numbers(folder)
    if number is None or first:
        check_log(folder, [n for n in numbers if n >= first], found, progress, number is not None, in_use, cipher)
    # A snapshot goes before its segments do: where it is still there, they have to be.
    there = set(snapshot_numbers(folder)) if in_use else set(firsts)
    for each, first in firsts.items():
        if first and first not in numbers and each in there:
            text = "this segment of the append-only file is missing: a snapshot leads on to it"
            found.damage.append(DamagedFile(str(segment_path(folder, first)), 0, text))
    return found


def _check_snapshot(folder: Path, manifest: Manifest, found: Checked, progress: Progress, cipher: Cipher | None) -> None:
    for shard in manifest.shards:

        def read(size: int) -> None:
            found.bytes += size
            progress(found.bytes)

        verify_shard(snapshot_folder(folder, manifest.number) / shard.file, shard, cipher, read)
    found.snapshots.append(manifest.number)


def check_log(
    folder: Path, numbers: list[int], found: Checked, progress: Progress, only_following: bool, in_use: bool, cipher: Cipher | None
) -> None:
    """These segments, and that they go on from each other; with `only_following` not beyond a new beginning."""
    before: Scan | None = None
    for number in numbers:
        path = segment_path(folder, number)
        try:
            part = scan(path, cipher)
        except DamagedFile as damage:
            found.damage.append(damage)
            before = None
            continue
        except FileNotFoundError:
            found.notes.append(f"segment {number} was removed meanwhile")
            before = None
            continue
        if before is not None:
            if only_following and not part.meta.continues:
                found.notes.append(f"the log behind segment {before.meta.number} belongs to a later snapshot")
                return
            _check_link(path, before, part, found)
        if not part.is_whole and number == numbers[-1]:
            _note_end(path, part, found, in_use)
        found.segments.append(number)
        found.bytes += size_of(path)
        progress(found.bytes)
        before = part


def _check_link(path: Path, before: Scan, part: Scan, found: Checked) -> None:
    if not part.meta.continues:
        return
    missing = part.meta.number - before.meta.number - 1
    if missing:
        found.damage.append(DamagedFile(str(path), 0, f"it goes on from segment {part.meta.number - 1}, which is missing"))
    elif not before.is_whole:
        name = str(path.with_name(segment_path(path.parent, before.meta.number).name))
        found.damage.append(DamagedFile(name, before.end, "it does not say that it ends here, and another goes on from it"))
    elif before.meta.lineage == part.meta.lineage and before.positions != part.meta.starts:
        text = f"it begins at {part.meta.starts}, the one before ended at {before.positions}"
        found.damage.append(DamagedFile(str(path), 0, text))


def _note_end(path: Path, part: Scan, found: Checked, in_use: bool) -> None:
    if in_use:
        found.notes.append(f"segment {part.meta.number} is being written: sound up to offset {part.end}")
    elif part.torn is not None:
        text = f"a crash left a torn end ({part.torn.what}), which the next start cuts off and keeps aside"
        found.notes.append(f"{path}, offset {part.end}: {text}")
    else:
        found.notes.append(f"{path}, offset {part.end}: the writer was killed here; the next start ends the segment")


def print_checked(found: Checked, as_json: bool) -> None:
    """For people, or as JSON."""
    from shmcache.config import format_size

    if as_json:
        damage = [{"file": each.name, "offset": each.offset, "what": each.what} for each in found.damage]
        rows = {"snapshots": found.snapshots, "segments": found.segments, "bytes": found.bytes, "damage": damage, "notes": found.notes}
        print(json.dumps(rows, indent=1))
        return
    for note in found.notes:
        print(note)
    for each in found.damage:
        print(f"damaged: {each}")
    print(
        f"sound: {len(found.snapshots)} snapshot(s), {len(found.segments)} file(s) of the log, {format_size(found.bytes)}; "
        f"{len(found.damage) or 'no'} damaged place(s)"
    )
