"""The append-only file: numbered segments of log frames, one file at a time, of all shards together so that one sync serves all.

A segment is whole when its last block says END. The last segment of a crash is not: what a power cut left of its last blocks is its torn end,
which is cut off and kept aside. What is damaged below a place that was synced is no torn end; it is refused, with the offset.
"""

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

    def to_json(self) -> dict[str, Any]:
        starts = {str(shard): position for shard, position in self.starts.items()}
        return {
            "number": self.number,
            "lineage": self.lineage,
            "continues": self.continues,
            "starts": starts,
            "created_ms": self.created_ms or time.time_ns() // 1_000_000,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], name: str) -> "SegmentMeta":
        """Raises DamagedFile."""
        try:
            starts = {int(shard): int(position) for shard, position in data["starts"].items()}
            return cls(int(data["number"]), int(data["lineage"]), bool(data["continues"]), starts, int(data["created_ms"]))
        except (KeyError, TypeError, ValueError, AttributeError):
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
        """A new segment, on the disk with its name before anything is written to it. Leaves no file behind when that fails."""
        path = segment_path(folder, meta.number)
        file = files.create(path)
        try:
            header = blocks.header(FileKind.LOG, meta.to_json())
            file.write(header)
            file.sync()
            files.sync_folder(path.parent)
        except OSError:
            file.close()
            files.unlink(path)
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

    def end(self) -> None:
        """Close it as whole."""
        self.sync()
        self._write(Head(BlockKind.END, 0, 0, 0, 0, 0, time_ms=time.time_ns() // 1_000_000, synced_to=self.synced), b"")
        self.sync()
        self.file.close()


@contextmanager
def open_segment(path: Path, cipher: Cipher | None = None) -> Iterator[tuple[SegmentMeta, BlockReader]]:
    """A segment and its blocks. Raises DamagedFile, OSError."""
    with path.open("rb", buffering=1 << 18) as file:
        reader = BlockReader(file, str(path), FileKind.LOG, cipher)
        yield SegmentMeta.from_json(reader.meta, reader.name), reader


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

    Nothing is done to a whole one. Raises DamagedFile, OSError.
    """
    found = scan(path, cipher)
    if found.is_whole:
        return found, None
    aside = None
    if found.torn is not None:
        aside = _keep_aside(files, path, found.end)
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


def _keep_aside(files: Files, path: Path, offset: int) -> Path:
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
