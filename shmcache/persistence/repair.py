"""What can be done about damage in the append-only file or a snapshot: look, without changing anything, and cut, keeping all that is cut off.

A start refuses what is damaged below a place that was synced, as a silent cut there would lose writes that were said to be on the disk. Whether to lose
them is the operator's to say: `inspect` tells what would go, `repair` does it. Nothing is deleted: cut-off bytes go to a file beside
(`.tornN`), files that cannot be used any more are renamed (`.damagedN`). Only ever while no instance runs on the folder.
"""

import secrets
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from ..errors import DamagedFile
from .blocks import BlockKind, BlockWriter, Cipher, Head, blocks_behind
from .files import OS_FILES, Files
from .segments import (
    SegmentMeta,
    SegmentWriter,
    check_order,
    keep_aside,
    open_segment,
    segment_numbers,
    segment_path,
)
from .snapshots import read_manifest, snapshot_folder, snapshot_numbers, verify_shard

_ASIDE_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One segment of the append-only file. `end`: offset up to which it is good; `damage`: what is wrong there, None if it is whole or merely
    torn; `torn`: what is wrong there if that may be the torn end of a crash, which every start cuts off by itself."""

    number: int
    path: Path
    bytes: int
    end: int
    damage: DamagedFile | None
    torn: DamagedFile | None
    is_whole: bool
    continues: bool
    positions: dict[int, int] = field(default_factory=dict)
    """Shard -> position up to which its log is good here."""
    blocks_lost: int = 0
    """Sound blocks behind the damage that a repair cuts off."""
    records_lost: int = 0
    """Log records in them. What the damaged bytes held nobody knows."""
    last_good_ms: int = 0
    """When the last block before the damage was written, unix ms."""
    last_lost_ms: int = 0
    """Newest time of a block that a repair cuts off."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a data folder holds, and what `repair` would do."""

    folder: Path
    segments: tuple[SegmentReport, ...]
    bad_snapshots: dict[int, DamagedFile]
    """Number -> what is wrong with it."""
    snapshots: tuple[int, ...]
    unusable: tuple[int, ...]
    """Segments behind the damage that go on from what is cut off: a repair renames them."""

    @property
    def is_sound(self) -> bool:
        return not self.bad_snapshots and not self.unusable and all(segment.damage is None for segment in self.segments)

    @property
    def text(self) -> str:
        """For an operator."""
        instead = "set aside, and the one before is taken; an empty start if there is none and the append-only file is not all there"
        lines = [f"snapshot {number}: {damage}. It is {instead}" for number, damage in self.bad_snapshots.items()]
        for segment in self.segments:
            if segment.damage is not None:
                lines.append(
                    f"segment {segment.number}: {segment.damage}. Cut there, {segment.bytes - segment.end} bytes go aside; in them "
                    f"{segment.blocks_lost} sound blocks with {segment.records_lost} records"
                )
            elif segment.torn is not None:
                lines.append(f"segment {segment.number}: torn end, {segment.torn}: a start cuts it off by itself")
        lines += [f"segment {number}: goes on from what is lost, and is set aside as a whole" for number in self.unusable]
        return "\n".join(lines) or "everything is sound"


def inspect(folder: Path, cipher: Cipher | None = None) -> Report:
    """Read everything, change nothing. Raises OSError."""
    bad: dict[int, DamagedFile] = {}
    snapshots = snapshot_numbers(folder)
    for number in snapshots:
        try:
            for shard in read_manifest(folder, number).shards:
                verify_shard(snapshot_folder(folder, number) / shard.file, shard, cipher)
        except DamagedFile as damage:
            bad[number] = damage
        except FileNotFoundError as error:
            bad[number] = DamagedFile(str(error.filename), 0, "this file is missing")
    segments = [_look(segment_path(folder, number), number, cipher) for number in segment_numbers(folder)]
    for at, (segment, after) in enumerate(pairwise(segments)):
        if after.continues and not segment.is_whole and segment.damage is None:
            # Another one goes on from it, so it was whole once.
            damage = segment.torn or DamagedFile(str(segment.path), segment.end, "the segment does not say that it ends here")
            segments[at] = replace(segment, damage=damage, torn=None)
    return Report(folder, tuple(segments), bad, tuple(snapshots), _unusable(segments))


def _unusable(segments: list[SegmentReport]) -> tuple[int, ...]:
    """Those that go on from a damaged or missing one, up to the next that begins anew."""
    found, is_broken, expected = [], False, None
    for segment in segments:
        is_broken = segment.continues and (is_broken or (expected is not None and segment.number != expected))
        if is_broken:
            found.append(segment.number)
        is_broken |= segment.damage is not None and not segment.is_whole
        expected = segment.number + 1
    return tuple(found)


def _look(path: Path, number: int, cipher: Cipher | None) -> SegmentReport:
    size = path.stat().st_size
    try:
        with open_segment(path, cipher) as (meta, reader):
            positions = dict(meta.starts)
            good, end, last_ms, is_whole = dict(positions), reader.at, 0, False
            damage = None
            try:
                for block in reader:
                    if is_whole:
                        raise DamagedFile(reader.name, block.offset, "there is something behind the end")
                    check_order(reader.name, block, positions)
                    if block.head.kind != BlockKind.END:
                        reader.records(block)
                    good, end, last_ms = dict(positions), block.end, block.head.time_ms
                    is_whole = block.head.kind == BlockKind.END
            except DamagedFile as found:
                damage = found
            file_id = reader.file_id
    except DamagedFile as headless:
        return SegmentReport(number, path, size, 0, headless, None, False, True)
    if damage is None:
        return SegmentReport(number, path, size, end, None, None, is_whole, meta.continues, good, last_good_ms=last_ms)
    later = list(blocks_behind(path, file_id, end)) if not is_whole else []
    is_torn = not is_whole and damage.offset == end and not any(block.head.synced_to > end for block in later)
    lost = [block.head for block in later if block.head.kind == BlockKind.LOG]
    return SegmentReport(
        number, path, size, end, None if is_torn else damage, damage if is_torn else None, is_whole, meta.continues, good, len(lost),
        sum(head.count for head in lost), last_ms, max((head.time_ms for head in lost), default=0),
    )  # fmt: skip


def repair(folder: Path, cipher: Cipher | None = None, files: Files = OS_FILES) -> tuple[Report, list[Path]]:
    """Cut each damaged segment where its damage begins, and set aside what goes on from what was lost, and damaged snapshots.

    Returns what `inspect` said before, and the files and folders that what was taken away is kept in. May be cut off itself and done again.
    Raises OSError.
    """
    report = inspect(folder, cipher)
    kept: list[Path] = []
    # The last first: what is left in the middle of this is never taken to go on from what was cut.
    for segment in reversed(report.segments):
        if segment.number in report.unusable or (segment.damage is not None and not segment.end):
            kept.append(_set_aside(files, segment.path))
        elif segment.damage is not None:
            kept.append(keep_aside(files, segment.path, segment.end))
            _cut(files, segment, cipher)
    for number in report.bad_snapshots:
        path = snapshot_folder(folder, number)
        kept.append(_set_aside(files, path))
    _replace_base(folder, cipher, files)
    return report, kept


def _replace_base(folder: Path, cipher: Cipher | None, files: Files) -> None:
    """If all that follows the newest snapshot had to be set aside: an empty segment that says so, as a missing one is refused."""
    numbers = snapshot_numbers(folder)
    if not numbers:
        return
    manifest = read_manifest(folder, numbers[-1])
    first = manifest.first_segment
    if not first or segment_numbers(folder)[-1:] >= [first]:
        return
    meta = SegmentMeta(first, manifest.lineage, False, {part.shard: part.end for part in manifest.shards})
    SegmentWriter.create(files, folder, meta, BlockWriter(secrets.token_bytes(16), 0, cipher)).end()


def _cut(files: Files, segment: SegmentReport, cipher: Cipher | None) -> None:
    with open_segment(segment.path, cipher) as (_, reader):
        blocks, following = 0, iter(reader)
        while reader.at < segment.end:
            next(following)
            blocks += 1
    file = files.open(segment.path)
    try:
        file.truncate(segment.end)
        file.sync()
        if not segment.is_whole:
            head = Head(BlockKind.END, 0, 0, 0, 0, 0, time_ms=segment.last_good_ms, synced_to=segment.end)
            file.write(BlockWriter(reader.file_id, 0, cipher, blocks).block(head, b""))
            file.sync()
    finally:
        file.close()


def _set_aside(files: Files, path: Path) -> Path:
    """Rename it so that nothing takes it for what it was."""
    for number in range(1, _ASIDE_MAX):
        aside = path.with_name(f"{path.stem}.damaged{number}")
        if not aside.exists():
            break
    files.rename(path, aside)
    files.sync_folder(path.parent)
    return aside


