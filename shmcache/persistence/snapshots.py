"""Snapshots: a folder with one file of blocks for each shard, and a manifest that is written last.

    snapshots/0000000007/manifest.json
    snapshots/0000000007/shard-0000.snap

A shard's file is what a full copy is: slices of the index, each followed by the log that had been written when it was read; applied in this
order they are the shard as it was at one point of its log (`end`), while writes went on. It is written in a folder beside and
renamed when everything in it is on the disk.
"""

import json
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from .._engine import LogFrame
from ..errors import ConfigError, DamagedFile
from ..limits import MANIFEST_BYTES_MAX
from .blocks import FORMAT_VERSION, BlockKind, BlockReader, BlockWriter, Cipher, FileKind, Head
from .files import OS_FILES, File, Files

FOLDER: Final = "snapshots"
MANIFEST: Final = "manifest.json"
_UNFINISHED: Final = ".unfinished"


def _check(read: "ShardFile | Manifest") -> None:
    """Raises TypeError if a number or text of it is none: JSON knows no types."""
    for described in fields(read):
        value = getattr(read, described.name)
        if described.type in (int, str) and (type(value) is not described.type or (described.type is int and value < 0)):
            raise TypeError(f"{described.name} is {value!r}")


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One shard of a snapshot."""

    shard: int
    file: str
    bytes: int
    crc32: int
    """Of the whole file: what an upload is checked by."""
    blocks: int
    keys: int
    """Of the shard at the end of the walk."""
    raw_bytes: int
    end: int
    """Log position that it is the state of."""
    last_stamp: int
    id: str = ""
    """Of the file: another one in its place is found out."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is."""

    number: int
    instance: str
    lineage: int
    began_ms: int
    ended_ms: int
    shards: tuple[ShardFile, ...]
    first_segment: int
    """The append-only file from this segment on leads from here to later; 0: there was none."""
    release: str = ""
    replication: dict[str, Any] = field(default_factory=dict)
    """Of an instance with a relay: `history` and `epoch` of the logs that the positions belong to, and whom it followed how far."""
    key: str = ""
    """Which key it is encrypted with."""
    libraries: str = ""
    """Libraries of functions (libraries.py); empty: there were none."""

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    @property
    def keys(self) -> int:
        return sum(shard.keys for shard in self.shards)

    @property
    def last_ms(self) -> int:
        """Stamps in it are not newer than this."""
        return max((shard.last_stamp >> 16 for shard in self.shards), default=0)

    def dump(self) -> bytes:
        told = asdict(self)
        if not self.libraries:
            # An older release refuses what it does not know: not for nothing.
            del told["libraries"]
        body = json.dumps(told, indent=1)
        return json.dumps({"format": FORMAT_VERSION, "crc32": zlib.crc32(body.encode()), "manifest": body}).encode()

    @classmethod
    def parse(cls, data: bytes, name: str) -> "Manifest":
        """Raises DamagedFile."""
        try:
            outer = json.loads(data)
            body = outer["manifest"]
            if outer["format"] != FORMAT_VERSION:
                raise DamagedFile(name, 0, f"format version {outer['format']}, this release reads {FORMAT_VERSION}")
            if zlib.crc32(body.encode()) != outer["crc32"]:
                raise DamagedFile(name, 0, "wrong checksum")
            found = json.loads(body)
            shards = tuple(ShardFile(**shard) for shard in found.pop("shards"))
            manifest = cls(shards=shards, **found)
            for read in (manifest, *shards):
                _check(read)
            if any(shard.file != Path(shard.file).name for shard in shards):
                raise ValueError("a file that is not in its folder")
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedFile(name, 0, f"not a manifest: {error!r}") from None


def snapshot_folder(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number:010d}"


def snapshot_numbers(folder: Path) -> list[int]:
    """Numbers of the finished snapshots, oldest first."""
    return sorted(int(path.parent.name) for path in (folder / FOLDER).glob(f"*/{MANIFEST}") if path.parent.name.isdigit())


def read_manifest(folder: Path, number: int) -> Manifest:
    """Raises ConfigError if there is no such snapshot, DamagedFile."""
    path = snapshot_folder(folder, number) / MANIFEST
    try:
        with path.open("rb") as file:
            return Manifest.parse(file.read(MANIFEST_BYTES_MAX), str(path))
    except FileNotFoundError:
        raise ConfigError(f"there is no snapshot {number} in {folder}") from None


class ShardWriter:
    """The file of one shard. Errors are OSError. Not thread-safe: one thread at a time."""

    def __init__(self, files: Files, path: Path, shard: int, meta: dict[str, Any], blocks: BlockWriter) -> None:
        self._file: File = files.create(path)
        self._path, self._shard, self._blocks = path, shard, blocks
        self._crc = self._bytes = self._raw = 0
        self._last_stamp = 0
        self._put(blocks.header(FileKind.SNAPSHOT, meta | {"shard": shard}))

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._bytes += len(data)
        self._crc = zlib.crc32(data, self._crc)

    def slices(self, records: bytes) -> None:
        """Slices of the index, one after the other, with no log to be applied in between."""
        self._raw += len(records)
        self._put(self._blocks.block(Head(BlockKind.SLICE, 0, 0, 0, 0, self._shard), records))

    def log(self, frame: LogFrame) -> None:
        """Log that follows the slices so far."""
        self._raw += len(frame.records)
        self._last_stamp = max(self._last_stamp, frame.last_stamp)
        head = Head(
            BlockKind.LOG, 0, 0, 0, frame.count, self._shard, frame.from_position, frame.to_position, frame.first_seq,
            frame.last_seq, frame.last_stamp,
        )  # fmt: skip
        self._put(self._blocks.block(head, frame.records))

    def finish(self, end: int, last_stamp: int, keys: int) -> ShardFile:
        """On the disk, whole. `end`: the log position that it is the state of; `last_stamp`, `keys`: the shard's then."""
        stamp = max(self._last_stamp, last_stamp)
        self._put(self._blocks.block(Head(BlockKind.END, 0, 0, 0, 0, self._shard, to_position=end, last_stamp=stamp), b""))
        self._file.sync()
        self._file.close()
        return ShardFile(
            self._shard, self._path.name, self._bytes, self._crc, self._blocks.number, keys, self._raw, end, stamp,
            self._blocks.file_id.hex(),
        )

    def abandon(self) -> None:
        self._file.close()


class SnapshotWriter:
    """A snapshot that is being written, in a folder beside."""

    def __init__(self, files: Files, folder: Path, number: int, *, level: int, cipher: Cipher | None) -> None:
        """Raises OSError."""
        self._files, self._folder, self.number = files, folder, number
        self._level, self._cipher = level, cipher
        self.began_ms = time.time_ns() // 1_000_000
        self._path = snapshot_folder(folder, number).with_suffix(_UNFINISHED)
        if self._path.exists():
            files.remove_tree(self._path)
        files.make_folder(self._path)

    def shard(self, shard: int) -> ShardWriter:
        """Begin the file of a shard."""
        blocks = BlockWriter(secrets.token_bytes(16), self._level, self._cipher)
        return ShardWriter(self._files, self._path / f"shard-{shard:04d}.snap", shard, {"snapshot": self.number}, blocks)

    def finish(self, manifest: Manifest) -> None:
        """Give it its name."""
        file = self._files.create(self._path / MANIFEST)
        try:
            file.write(manifest.dump())
            file.sync()
        finally:
            file.close()
        self._files.sync_folder(self._path)
        self._files.rename(self._path, snapshot_folder(self._folder, self.number))
        self._files.sync_folder(self._folder / FOLDER)

    def abandon(self) -> None:
        self._files.remove_tree(self._path)


def remove_snapshot(files: Files, folder: Path, number: int) -> None:
    """Delete a snapshot: its manifest first, so that no half of one is ever taken for one."""
    path = snapshot_folder(folder, number)
    files.unlink(path / MANIFEST)
    files.sync_folder(path)
    files.remove_tree(path)


def remove_unfinished(folder: Path, files: Files = OS_FILES) -> list[str]:
    """Clear away what a crash left of snapshots that were being written or deleted; returns their names."""
    left = [path for path in (folder / FOLDER).iterdir() if path.is_dir() and path.name.isdigit() and not (path / MANIFEST).exists()]
    left += list((folder / FOLDER).glob(f"*{_UNFINISHED}"))
    for path in left:
        files.remove_tree(path)
    return sorted({path.name for path in left})


@contextmanager
def open_shard(path: Path, cipher: Cipher | None = None) -> Iterator[BlockReader]:
    """The file of a shard. Raises DamagedFile, OSError."""
    with path.open("rb", buffering=1 << 18) as file:
        yield BlockReader(file, str(path), FileKind.SNAPSHOT, cipher)


def check_identity(reader: BlockReader, number: int | None, expected: ShardFile) -> None:
    """Raises DamagedFile if it is not the file that the manifest of snapshot `number` (None: of any) means."""
    found = reader.meta.get("snapshot") if number is not None else None, reader.meta.get("shard"), reader.file_id.hex()
    if found != (number, expected.shard, expected.id):
        raise DamagedFile(reader.name, 0, "this is not the file that the manifest means")


def verify_shard(path: Path, expected: ShardFile, cipher: Cipher | None = None, progress: Callable[[int], None] | None = None) -> None:
    """Check every block, and that they are all there. `progress` is told the bytes of each. Raises DamagedFile."""
    size = path.stat().st_size
    if size != expected.bytes:
        raise DamagedFile(str(path), min(size, expected.bytes), f"{size} bytes, the manifest says {expected.bytes}")
    with open_shard(path, cipher) as reader:
        check_identity(reader, None, expected)
        last = None
        for block in reader:
            reader.records(block)
            last = block
            if progress is not None:
                progress(block.end - block.offset)
    if last is None or last.head.kind != BlockKind.END or last.head.number + 1 != expected.blocks:
        raise DamagedFile(str(path), reader.at, "its last block is not its end")
