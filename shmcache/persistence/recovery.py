"""What a start without data in /dev/shm has to read, and reading it into a shard.

The newest snapshot, then the append-only file from the segment on that the snapshot names; without a snapshot the append-only file from its
beginning, if it is all there. Every shard reads what concerns it, whatever the number of shards was when it was written. Records are
applied in the order they were written in; those that a shard has already change nothing.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from .. import _engine
from ..errors import ConfigError, DamagedFile, WrongKey
from ..limits import RESTORE_QUEUE_BLOCKS
from ..protocol.replication import Followed
from .blocks import BlockKind, BlockReader, Cipher
from .files import OS_FILES, Files
from .segments import FOLDER as LOG_FOLDER
from .segments import (
    Scan,
    SegmentMeta,
    check_order,
    close_torn,
    ends_whole,
    open_segment,
    segment_numbers,
    segment_path,
)
from .snapshots import FOLDER as SNAPSHOT_FOLDER
from .snapshots import (
    Manifest,
    ShardFile,
    check_identity,
    open_shard,
    read_manifest,
    snapshot_folder,
    snapshot_numbers,
)

_STAMP_AT: Final = 16
_FLAGS_AT: Final = 31
_MORE: Final = 1
"""Of a record: where its stamp and its flags stand; more of its group follow (shmcache/engine/src/log/record.rs)."""


FETCHING: Final = "fetching"
"""Folder in the data folder, of a restore from an archive that is not finished (fetching.py)."""
NOWHERE: Final = (1 << 64) - 1
"""In place of a log position: nothing on disk leads to these data."""


def prepare_folder(folder: Path, files: Files = OS_FILES) -> None:
    """Make a data folder, with what belongs in it. Raises OSError."""
    wanted = [*reversed(folder.parents), folder, folder / SNAPSHOT_FOLDER, folder / LOG_FOLDER]
    for path in [path for path in wanted if not path.exists()]:
        files.make_folder(path)
        # What is synced in a folder whose own name is not may still be gone after a power cut.
        files.sync_folder(path.parent)


def close_open_segments(files: Files, folder: Path, cipher: Cipher | None, log: Any) -> Scan | None:
    """Make whole what a crash left open of the append-only file; returns what is in its last segment. Raises DamagedFile, OSError.

    Open can be the last one, and one before one that does not continue: its disk had failed. Damage before what the newest snapshot
    leads on from is said in the log, and hinders nothing.
    """
    manifests = snapshot_numbers(folder)
    needed = read_manifest(folder, manifests[-1]).first_segment if manifests else 1
    last: Scan | None = None
    numbers = segment_numbers(folder)
    next_continues = False
    for number in reversed(numbers):
        path = segment_path(folder, number)
        try:
            with open_segment(path, cipher) as (meta, reader):
                file_id = reader.file_id
            if number == numbers[-1] or not (next_continues or ends_whole(path, file_id)):
                scan, aside = close_torn(files, path, cipher)
                if aside is not None:
                    log.warning(
                        "torn end of the append-only file cut off", file=str(path), offset=scan.end, kept=str(aside),
                        reason=scan.torn.what if scan.torn else "",
                    )  # fmt: skip
                if number == numbers[-1]:
                    last = scan
            next_continues = meta.continues
        except DamagedFile as damage:
            if number >= needed > 0:
                raise
            log.error("damage in a part of the append-only file that the newest snapshot does not need", reason=str(damage))
            next_continues = False
    return last


def check_keys(folder: Path, cipher: Cipher | None) -> None:
    """Whether everything in the folder that is encrypted can be read: said at the start, not when it is needed. Raises WrongKey, OSError."""
    keys = {}
    for number in snapshot_numbers(folder):
        with contextlib.suppress(DamagedFile):
            keys[str(snapshot_folder(folder, number))] = read_manifest(folder, number).key
    for number in segment_numbers(folder):
        with contextlib.suppress(DamagedFile), open_segment(segment_path(folder, number)) as (_, reader):
            keys[reader.name] = str(reader.meta.get("key", ""))
    for name, key in keys.items():
        if key and (cipher is None or not cipher.knows(key)):
            given = "its file was not given: give --data-key-file" if cipher is None else "--data-key-file has not that one"
            raise WrongKey(f"{name}: encrypted with key {key}, and {given}")


@dataclass(frozen=True, slots=True)
class Restore:
    """What to read. `until_ms`: leave out what was written later (unix ms), 0: nothing."""

    folder: Path
    snapshot: Manifest | None
    segments: tuple[int, ...]
    until_ms: int = 0

    @property
    def last_segment(self) -> int:
        """The segment after which the append-only file goes on; 0 if there is none, or if it must not go on (`until_ms`)."""
        return self.segments[-1] if self.segments and not self.until_ms else 0


def find_restore(folder: Path, until_ms: int = 0, cipher: Cipher | None = None) -> Restore | None:
    """The newest state (not later than `until_ms`) that the folder holds; None if it holds nothing.

    Raises ConfigError if there is nothing from before `until_ms`, DamagedFile if what there is does not fit together.
    """
    manifests = [read_manifest(folder, number) for number in snapshot_numbers(folder)]
    numbers = segment_numbers(folder)
    snapshot = next((m for m in reversed(manifests) if not until_ms or m.last_ms <= until_ms), None)
    if snapshot is None and manifests and numbers[:1] != [1]:
        raise ConfigError(f"no snapshot in {folder} is from before that time: the oldest has data up to {manifests[0].last_ms} (unix ms)")
    if snapshot is None:
        if numbers and numbers[0] != 1:
            with open_segment(segment_path(folder, numbers[0]), cipher) as (meta, _):
                if not meta.continues:
                    # The snapshot that was to make sense of it was never finished: nothing was said to be on the disk yet.
                    return None
        segments = _chain(folder, numbers, 1, cipher) if numbers else []
        return Restore(folder, None, tuple(segments), until_ms) if segments else None
    segments = _chain(folder, numbers, snapshot.first_segment, cipher) if snapshot.first_segment else []
    return Restore(folder, snapshot, tuple(segments), until_ms)


def _chain(folder: Path, numbers: list[int], first: int, cipher: Cipher | None) -> list[int]:
    """The segments from `first` on that go on from each other. Raises DamagedFile if one is missing."""
    found: list[int] = []
    expected, follows = first, ""
    for number in [number for number in numbers if number >= first] or [0]:
        if number != expected:
            raise DamagedFile(str(segment_path(folder, expected)), 0, "this segment of the append-only file is missing")
        with open_segment(segment_path(folder, number), cipher) as (meta, reader):
            if found and not meta.continues:
                # Other data began here, and no snapshot of them was finished: what was before is the last that is whole.
                break
            if found and meta.follows != follows:
                raise DamagedFile(reader.name, 0, "it does not go on from the segment before, but from another file")
            follows = reader.file_id.hex()
        found.append(number)
        expected += 1
    return found


def followed_from(restore: Restore, last: Scan | None) -> Followed | None:
    """Whose logs these data are a state of, and at which positions; None if that is not known. `last`: of the last segment."""
    snapshot = restore.snapshot
    if snapshot is None or restore.until_ms or "history" not in snapshot.replication:
        return None
    positions = {part.shard: part.end for part in snapshot.shards}
    if restore.segments:
        if last is None or last.meta.number != restore.segments[-1] or last.meta.lineage != snapshot.lineage:
            # A cold start in between: the log that follows belongs to a history that the snapshot does not know.
            return None
        positions = {shard: max(end, last.positions.get(shard, 0)) for shard, end in positions.items()}
    return Followed(int(snapshot.replication["history"]), positions)


@dataclass(slots=True)
class Loaded:
    """What a shard has read."""

    records_bytes: int = 0
    blocks: int = 0
    effective: int = 0
    snapshot: int = 0
    """Number; 0: none."""
    segments: int = 0


Apply = Callable[[bytes], int]
Progress = Callable[[Loaded], None]


def load(
    restore: Restore, shard: int, shards: int, slots: bytes, apply: Apply, cipher: Cipher | None = None, progress: Progress | None = None
) -> Loaded:
    """Read one shard's part of all of it into `apply`. `slots`: 16384 little-endian uint16, slot -> shard.

    Raises DamagedFile, OSError, and what `apply` raises.
    """
    loaded = Loaded(snapshot=restore.snapshot.number if restore.snapshot else 0, segments=len(restore.segments))
    for piece in _ahead(_records(restore, shard, shards, slots, cipher)):
        try:
            loaded.effective += apply(piece.records)
        except _engine.EngineError as error:
            if isinstance(error, _engine.NoSpace) or "OutOfMemory" in str(error):
                raise
            raise DamagedFile(piece.name, piece.offset, f"its records cannot be applied: {error}") from None
        loaded.records_bytes += len(piece.records)
        loaded.blocks += 1
        if progress is not None:
            progress(loaded)
    return loaded


class _Piece(NamedTuple):
    """Records, and the block that they stood in."""

    records: bytes
    name: str
    offset: int


def _ahead(source: Iterator[_Piece]) -> Iterator[_Piece]:
    """The same, made by a thread: reading and decompressing go on while records are applied."""
    ready: queue.Queue[_Piece | BaseException | None] = queue.Queue(RESTORE_QUEUE_BLOCKS)
    stop = threading.Event()

    def put(item: _Piece | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                pass

    def run() -> None:
        try:
            for item in source:
                put(item)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _records(restore: Restore, shard: int, shards: int, slots: bytes, cipher: Cipher | None) -> Iterator[_Piece]:
    snapshot = restore.snapshot
    if snapshot is not None:
        of_all = len(snapshot.shards) != shards
        folder = snapshot_folder(restore.folder, snapshot.number)
        for part in snapshot.shards:
            if of_all or part.shard == shard:
                yield from _own(_snapshot_records(folder / part.file, snapshot.number, part, cipher), shard, shards, slots, of_all)
    ends = {part.shard: part.end for part in snapshot.shards} if snapshot else {}
    previous: tuple[SegmentMeta, dict[int, int]] | None = None
    for number in restore.segments:
        with open_segment(segment_path(restore.folder, number), cipher) as (meta, reader):
            of_all = len(meta.starts) != shards
            if previous is None and snapshot is not None and snapshot.lineage != meta.lineage:
                raise DamagedFile(reader.name, 0, "it does not belong to the logs that the snapshot was made of")
            if previous is not None and previous[0].lineage == meta.lineage and previous[1] != meta.starts:
                raise DamagedFile(reader.name, 0, f"it begins at {meta.starts}, the one before ended at {previous[1]}")
            known = ends if snapshot is not None and snapshot.lineage == meta.lineage else {}
            positions = dict(meta.starts)
            wanted = _segment_records(reader, positions, known, None if of_all else shard, restore.until_ms)
            yield from _own(wanted, shard, shards, slots, of_all)
            previous = meta, positions


def _own(pieces: Iterator[_Piece], shard: int, shards: int, slots: bytes, of_all: bool) -> Iterator[_Piece]:
    """Those of one shard."""
    for piece in pieces:
        try:
            part = _engine.split_records(piece.records, slots, shards)[shard] if of_all else piece.records
        except _engine.EngineError as error:
            raise DamagedFile(piece.name, piece.offset, f"its records are damaged: {error}") from None
        if part:
            yield piece._replace(records=part)


def _snapshot_records(path: Path, number: int, part: ShardFile, cipher: Cipher | None) -> Iterator[_Piece]:
    with open_shard(path, cipher) as reader:
        check_identity(reader, number, part)
        block = None
        for block in reader:
            if block.head.kind != BlockKind.END:
                yield _Piece(reader.records(block), reader.name, block.offset)
        if block is None or block.head.kind != BlockKind.END or block.head.number + 1 != part.blocks:
            raise DamagedFile(reader.name, reader.at, "its last block is not its end")


def _segment_records(
    reader: BlockReader, positions: dict[int, int], known: dict[int, int], shard: int | None, until_ms: int
) -> Iterator[_Piece]:
    """What a snapshot does not have already, of one shard or of all. `known`: shard -> position up to which it has everything."""
    ended = False
    for block in reader:
        check_order(reader.name, block, positions)
        head = block.head
        if head.kind == BlockKind.END:
            ended = True
            continue
        if (shard is not None and head.shard != shard) or head.to_position <= known.get(head.shard, 0):
            continue
        records = reader.records(block)
        if until_ms and head.last_stamp >> 16 > until_ms:
            try:
                records = _before(records, until_ms)
            except (IndexError, ValueError):
                raise DamagedFile(reader.name, block.offset, "its records are damaged") from None
        if records:
            yield _Piece(records, reader.name, block.offset)
    if not ended:
        # Every start closes what a crash left open before anything is read.
        raise DamagedFile(reader.name, reader.at, "the segment does not say that it ends here")


def _before(records: bytes, until_ms: int) -> bytes:
    """The groups of records whose stamps are all not later."""
    kept = []
    at = start = 0
    late = False
    while at < len(records):
        late |= int.from_bytes(records[at + _STAMP_AT : at + _STAMP_AT + 8], "little") >> 16 > until_ms
        has_more = records[at + _FLAGS_AT] & _MORE
        size = int.from_bytes(records[at : at + 4], "little")
        if size <= _FLAGS_AT:
            raise ValueError("a record without an end")
        at += size
        if not has_more:
            if not late:
                kept.append(records[start:at])
            start, late = at, False
    return b"".join(kept)
