"""The append-only file: numbered segments of log frames, one file at a time, of all shards together so that one sync serves all.

A segment is whole when its last block says END. The last segment of a crash is not: what a power cut left of its last blocks is its torn end,
which is cut off and kept aside. What is damaged below a place that was synced is no torn end; it is refused, with the offset.
"""

import contextlib
import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .._engine import LogFrame
from ..errors import DamagedFile
from .blocks import Block, BlockKind, BlockReader, BlockWriter, Cipher, FileKind, Head, blocks_behind
from .files import File, Files

FOLDER: Final = "log"
_SUFFIX: Final = ".aof"
_UNNAMED: Final = ".new"
_SUSPECT: Final = ".failed"
_END_BYTES_MAX: Final = 4096
"""An END block, sealed or not, is smaller."""


def segment_path(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number:010d}{_SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segments in a data folder, in order."""
    return sorted(int(path.stem) for path in (folder / FOLDER).glob(f"*{_SUFFIX}") if path.stem.isdigit())


@dataclass(frozen=True, slots=True)
class SegmentMeta:
    """What a segment's header says."""

    number: int
    lineage: int
    """Of the logs that it continues: positions of two lineages have nothing to do with each other."""
    continues: bool
    """Whether it goes on where the segment before ended. False: only a snapshot that begins at it makes sense of it."""
    starts: dict[int, int]
    """Shard -> log position of its first record here."""
    created_ms: int = 0
    follows: str = ""
    """Id of the file that it goes on from: a segment of another instance that was put in its place is found out."""

    def to_json(self) -> dict[str, Any]:
        starts = {str(shard): position for shard, position in self.starts.items()}
        return {
            "number": self.number,
            "lineage": self.lineage,
            "continues": self.continues,
            "starts": starts,
            "created_ms": self.created_ms or time.time_ns() // 1_000_000,
            "follows": self.follows,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], name: str) -> "SegmentMeta":
        """Raises DamagedFile."""
        try:
            starts = {int(shard): int(position) for shard, position in data["starts"].items()}
            number, lineage, created_ms = int(data["number"]), int(data["lineage"]), int(data["created_ms"])
            return cls(number, lineage, bool(data["continues"]), starts, created_ms, str(data.get("follows", "")))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise DamagedFile(name, 0, "the header does not describe a log segment") from None


@dataclass(slots=True)
class SegmentWriter:
    """The segment that is being written. Errors are OSError; after one of `append` call `rewind`, after one of `sync` never use it again."""

    file: File
    meta: SegmentMeta
    blocks: BlockWriter
    positions: dict[int, int]
    """Shard -> position up to which its log is written here."""
    size: int = 0
    synced: int = 0
    frames: int = 0
    _good: int = field(default=0)

    @classmethod
    def create(cls, files: Files, folder: Path, meta: SegmentMeta, blocks: BlockWriter) -> "SegmentWriter":
        """A new segment, on the disk with its name before anything is written to it. Leaves no file behind when that fails.

        It gets its name when its header is on the disk, so that a power cut leaves no segment without one.
        """
        path = segment_path(folder, meta.number)
        fresh = path.with_suffix(_UNNAMED)
        if path.exists():
            raise FileExistsError(errno.EEXIST, "there is such a segment", str(path))
        if fresh.exists():
            files.unlink(fresh)
        file = files.create(fresh)
        try:
            header = blocks.header(FileKind.LOG, meta.to_json())
            file.write(header)
            file.sync()
            files.rename(fresh, path)
            files.sync_folder(path.parent)
        except OSError:
            file.close()
            for left in (fresh, path):
                if left.exists():
                    files.unlink(left)
            raise
        return cls(file, meta, blocks, dict(meta.starts), len(header), len(header), 0, len(header))

    def append(self, shard: int, frame: LogFrame) -> None:
        """Write one frame, not synced yet."""
        head = Head(
            BlockKind.LOG, 0, 0, 0, frame.count, shard, frame.from_position, frame.to_position, frame.first_seq, frame.last_seq,
            frame.last_stamp, time.time_ns() // 1_000_000, self.synced,
        )  # fmt: skip
        self._write(head, frame.records)
        self.positions[shard] = frame.to_position
        self.frames += 1

    def _write(self, head: Head, records: bytes) -> None:
        self._good = self.size
        number = self.blocks.number
        data = self.blocks.block(head, records)
        try:
            self.file.write(data)
        except BaseException:
            self.blocks.number = number
            raise
        self.size += len(data)

    def rewind(self) -> None:
        """Take back what a failed `append` left."""
        self.file.truncate(self._good)

    def sync(self) -> None:
        """Everything appended before survives a power cut from now on."""
        size = self.size
        self.file.sync()
        self.synced = max(self.synced, size)

    def write_end(self) -> None:
        """Say that nothing follows; everything before must be synced. As `append`."""
        self._write(Head(BlockKind.END, 0, 0, 0, 0, 0, time_ms=time.time_ns() // 1_000_000, synced_to=self.synced), b"")

    def end(self) -> None:
        """Close it as whole."""
        self.sync()
        self.write_end()
        self.sync()
        self.file.close()


def mark_suspect(files: Files, folder: Path, number: int) -> None:
    """A sync of it failed: what can be read of it need not be on the disk, also after a start that did not read a thing from the disk.
    The mark lives as long as that. Best effort: a disk that takes no mark takes no segment that could go on from it.
    """
    with contextlib.suppress(OSError):
        files.create(segment_path(folder, number).with_suffix(_SUSPECT)).close()


def is_suspect(folder: Path, number: int) -> bool:
    return segment_path(folder, number).with_suffix(_SUSPECT).exists()


def remove_segment(files: Files, folder: Path, number: int) -> None:
    """With what was kept beside it. Raises OSError."""
    path = segment_path(folder, number)
    for beside in path.parent.glob(f"{path.stem}.*"):
        files.unlink(beside)


@contextmanager
def open_segment(path: Path, cipher: Cipher | None = None) -> Iterator[tuple[SegmentMeta, BlockReader]]:
    """A segment and its blocks. Raises DamagedFile, OSError."""
    with path.open("rb", buffering=1 << 18) as file:
        reader = BlockReader(file, str(path), FileKind.LOG, cipher)
        meta = SegmentMeta.from_json(reader.meta, reader.name)
        if path.stem.isdigit() and meta.number != int(path.stem):
            raise DamagedFile(reader.name, 0, f"this is segment {meta.number}")
        yield meta, reader


def ends_whole(path: Path, file_id: bytes) -> bool:
    """Whether its last block says END, without reading all of it."""
    offset = max(0, path.stat().st_size - _END_BYTES_MAX)
    size = path.stat().st_size
    return any(block.end == size and block.head.kind == BlockKind.END for block in blocks_behind(path, file_id, offset))


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found in a segment."""

    meta: SegmentMeta
    file_id: bytes
    end: int
    """Offset behind the last good block."""
    blocks: int
    is_whole: bool
    """It says itself where it ends."""
    positions: dict[int, int]
    last_stamp: int
    last_ms: int
    """When its last block was written."""
    torn: DamagedFile | None
    """What is wrong at `end`, if anything is; only what may be a torn end."""


def scan(path: Path, cipher: Cipher | None = None) -> Scan:
    """Check all of a segment. Raises DamagedFile for everything that is not a torn end."""
    with open_segment(path, cipher) as (meta, reader):
        positions = dict(meta.starts)
        blocks = last_stamp = last_ms = 0
        is_whole = False
        torn = None
        try:
            for block in reader:
                if is_whole:
                    raise DamagedFile(reader.name, block.offset, "there is something behind the end")
                check_order(reader.name, block, positions)
                blocks += 1
                is_whole = block.head.kind == BlockKind.END
                last_stamp, last_ms = max(last_stamp, block.head.last_stamp), block.head.time_ms
        except DamagedFile as damage:
            if is_whole or damage.offset < reader.at:
                raise
            for later in blocks_behind(path, reader.file_id, reader.at + 1):
                if later.head.synced_to > reader.at:
                    text = f"{damage.what}; below what was synced (the block at {later.offset} says so), so this is not the torn end of a crash"
                    raise DamagedFile(reader.name, damage.offset, text) from None
            torn = damage
    return Scan(meta, reader.file_id, reader.at, blocks, is_whole, positions, last_stamp, last_ms, torn)


def check_order(name: str, block: Block, positions: dict[int, int]) -> None:
    """Each shard's frames leave no gap; `positions` goes along. Raises DamagedFile."""
    head = block.head
    if head.kind == BlockKind.END:
        return
    if head.kind != BlockKind.LOG:
        raise DamagedFile(name, block.offset, f"a block of kind {head.kind} in a log segment")
    expected = positions.get(head.shard)
    if expected is None or head.from_position != expected or head.to_position <= expected:
        text = f"records of shard {head.shard} from {head.from_position} to {head.to_position}, expected from {expected}"
        raise DamagedFile(name, block.offset, text)
    positions[head.shard] = head.to_position


def close_torn(files: Files, path: Path, cipher: Cipher | None = None) -> tuple[Scan, Path | None]:
    """Make a crash's last segment whole: what is torn goes to a file beside it (returned, None if there was none), then END is written.

    Of a whole one it is made sure that it is on the disk so. Raises DamagedFile, OSError.
    """
    found = scan(path, cipher)
    if found.is_whole:
        # Its writer may have been killed between the end and the sync of it.
        whole = files.open(path)
        try:
            whole.sync()
        finally:
            whole.close()
        return found, None
    aside = None
    if found.torn is not None:
        aside = keep_aside(files, path, found.end)
    file = files.open(path)
    try:
        if found.torn is not None:
            file.truncate(found.end)
        head = Head(BlockKind.END, 0, 0, 0, 0, 0, time_ms=found.last_ms, synced_to=found.end)
        writer = BlockWriter(found.file_id, 0, cipher, found.blocks)
        # What is left of it is synced before a block says so.
        file.sync()
        file.write(writer.block(head, b""))
        file.sync()
    finally:
        file.close()
    return found, aside


def keep_aside(files: Files, path: Path, offset: int) -> Path:
    """Copy what lies behind an offset, so that nothing is ever thrown away unseen."""
    for number in range(1, 1000):
        aside = path.with_suffix(f".torn{number}")
        if not aside.exists():
            break
    copy = files.create(aside)
    try:
        with path.open("rb") as source:
            source.seek(offset)
            while data := source.read(1 << 20):
                copy.write(data)
        copy.sync()
    finally:
        copy.close()
    files.sync_folder(path.parent)
    return aside
