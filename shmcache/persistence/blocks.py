"""The format that snapshots and log segments share: a header, then blocks of log records, each with a checksum.

    header   magic "SHMCDATA" (8), format version (2), kind (2), length of the text (4), its crc32 (4), JSON text: what is in the file
    block    head (88 bytes, see `Head`), then the stored bytes

All numbers are little-endian. A block's crc32 covers its head and its bytes, and begins with the crc of the file's id, so that an old block which a
recycled disk sector still holds is not taken for one of this file. Blocks are numbered without a gap. `synced_to` says what the writer knew
to be on the disk when it wrote the block: damage below it is damage, damage above it may be the torn end of a power cut.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

import zstandard

from ..errors import DamagedFile, WrongKey
from ..limits import BLOCK_BYTES_MAX, FILE_META_BYTES_MAX

FORMAT_VERSION: Final = 1
MAGIC: Final = b"SHMCDATA"
BLOCK_MAGIC: Final = b"SHMB"
_HEADER: Final = struct.Struct("<8sHHII")
_HEAD: Final = struct.Struct("<4sIIHHIIIIQQQQQQQ")
_SEARCH_BYTES: Final = 1 << 20
FILE_ID_BYTES: Final = 16
_READ_BYTES: Final = 8 << 20


class FileKind(IntEnum):
    SNAPSHOT = 1
    LOG = 2
    LIBRARIES = 3


class BlockKind(IntEnum):
    SLICE = 1
    """Entries of a snapshot, as records."""
    LOG = 2
    """Records of a write log."""
    END = 3
    """Nothing follows: the file is whole."""
    LIBRARIES = 4
    """Libraries of functions (libraries.py)."""


class Codec(IntEnum):
    """Bits: how a block's bytes are stored."""

    PLAIN = 0
    ZSTD = 1
    SEALED = 2


class Head(NamedTuple):
    """Of one block; the positions, sequence numbers and stamps are those of the log frame in it, 0 where there is none."""

    kind: int
    codec: int
    number: int
    """Of the block in its file, from 0."""
    raw_bytes: int
    count: int
    """Records; 0: not counted."""
    shard: int
    from_position: int = 0
    to_position: int = 0
    first_seq: int = 0
    last_seq: int = 0
    last_stamp: int = 0
    time_ms: int = 0
    """When it was written, unix time."""
    synced_to: int = 0


class Block(NamedTuple):
    """One block as it stands in the file; `end` is the offset behind it."""

    offset: int
    end: int
    head: Head
    stored: bytes


class Cipher(Protocol):
    """Authenticated encryption (shmcache/persistence/encryption.py)."""

    key_id: str

    def knows(self, key_id: str) -> bool:
        """Whether it can unseal what was sealed with that key."""

    def seal(self, data: bytes, context: bytes) -> bytes:
        """`context` begins with the id of the file."""

    def unseal(self, data: bytes, context: bytes) -> bytes:
        """Raises WrongKey if it was sealed with a key that is not there, ValueError if not for this context."""


@dataclass(slots=True)
class BlockWriter:
    """Makes the bytes of one file. No I/O here."""

    file_id: bytes
    level: int = 0
    """Of zstd; 0: not compressed."""
    cipher: Cipher | None = None
    number: int = 0

    def header(self, kind: FileKind, meta: dict[str, Any]) -> bytes:
        """Begins the file. `meta` gets the file's id, and the key's, if it is encrypted."""
        sealed = {"key": self.cipher.key_id} if self.cipher else {}
        text = json.dumps(meta | {"id": self.file_id.hex()} | sealed).encode()
        return _HEADER.pack(MAGIC, FORMAT_VERSION, kind, len(text), zlib.crc32(text)) + text

    def block(self, head: Head, raw: bytes) -> bytes:
        """The next block; `head`'s codec, number and size are filled in here."""
        codec, stored = Codec.PLAIN.value, raw
        if self.level and len(raw) >= 512:
            packed = zstandard.ZstdCompressor(level=self.level).compress(raw)
            if len(packed) < len(raw):
                codec, stored = Codec.ZSTD.value, packed
        if self.cipher is not None:
            codec |= Codec.SEALED.value
        head = head._replace(codec=codec, number=self.number, raw_bytes=len(raw))
        if self.cipher is not None:
            stored = self.cipher.seal(stored, _context(self.file_id, head))
        self.number += 1
        # Packed once with a crc of zero, to take the crc of the rest.
        bare = _pack(head, len(stored), 0)
        checksum = _checksum(self.file_id, bare[8:], stored)
        return _pack(head, len(stored), checksum) + stored


def _pack(head: Head, stored: int, checksum: int) -> bytes:
    kind, codec, number, raw_bytes, count, shard, *rest = head
    return _HEAD.pack(BLOCK_MAGIC, checksum, stored, kind, codec, number, raw_bytes, count, shard, *rest)


def _checksum(file_id: bytes, head: bytes, stored: bytes) -> int:
    return zlib.crc32(stored, zlib.crc32(head, zlib.crc32(file_id)))


def _context(file_id: bytes, head: Head) -> bytes:
    """What a sealed block is bound to: its file, and all that its head says."""
    return file_id + _pack(head, 0, 0)


class BlockReader:
    """Reads one file from the beginning. Everything that is not as it should be is DamagedFile with the offset, never a wrong record;
    WrongKey if that alone is what is wrong.
    """

    def __init__(self, source: BinaryIO, name: str, kind: FileKind, cipher: Cipher | None = None) -> None:
        """Reads the header. `source` may be any binary stream; `at` is where the next block begins."""
        self._source, self.name, self._cipher = source, name, cipher
        fixed = self._read(_HEADER.size)
        if len(fixed) < _HEADER.size:
            raise DamagedFile(name, 0, "no header")
        magic, version, found, length, checksum = _HEADER.unpack(fixed)
        if magic != MAGIC:
            raise DamagedFile(name, 0, "not a file of shmcache")
        if version != FORMAT_VERSION:
            raise DamagedFile(name, 8, f"format version {version}, this release reads {FORMAT_VERSION}")
        if found != kind:
            raise DamagedFile(name, 10, f"kind {found}, expected {kind.value} ({kind.name.lower()})")
        text = self._read(length) if length <= FILE_META_BYTES_MAX else b""
        if len(text) < length or zlib.crc32(text) != checksum:
            raise DamagedFile(name, 12, "the header's text is damaged")
        try:
            self.meta: dict[str, Any] = json.loads(text)
            self.file_id = bytes.fromhex(self.meta["id"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DamagedFile(name, _HEADER.size, "the header's text is not as expected") from None
        self.at = _HEADER.size + length
        self._number = 0

    def _read(self, size: int) -> bytes:
        """So many bytes, or what is left."""
        parts, left = [], size
        while left:
            # In parts, as a damaged head may ask for gigabytes of a small file.
            part = self._source.read(min(left, _READ_BYTES))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __iter__(self) -> Iterator[Block]:
        """The blocks up to the end of the file. `at` always is the end of the last good one."""
        while (block := self._next()) is not None:
            self.at = block.end
            yield block

    def _next(self) -> Block | None:
        fixed = self._read(_HEAD.size)
        if not fixed:
            return None
        parsed = _parse(fixed)
        if isinstance(parsed, str):
            raise DamagedFile(self.name, self.at, parsed)
        head, size, checksum = parsed
        stored = self._read(size)
        if len(stored) < size:
            raise DamagedFile(self.name, self.at, "the file ends within a block")
        if _checksum(self.file_id, fixed[8:], stored) != checksum:
            raise DamagedFile(self.name, self.at, "wrong checksum")
        if head.number != self._number:
            raise DamagedFile(self.name, self.at, f"block {head.number} where {self._number} should be")
        self._number += 1
        return Block(self.at, self.at + _HEAD.size + size, head, stored)

    def records(self, block: Block) -> bytes:
        """A block's records. Raises DamagedFile."""
        data, codec = block.stored, block.head.codec
        if codec & Codec.SEALED:
            if "key" not in self.meta:
                raise DamagedFile(self.name, block.offset, "an encrypted block in a file that is not encrypted")
            if self._cipher is None:
                raise WrongKey(f"{self.name}: encrypted with key {self.meta['key']}, and no key was given: give --data-key-file")
            try:
                data = self._cipher.unseal(data, _context(self.file_id, block.head))
            except WrongKey as error:
                raise WrongKey(f"{self.name}: {error}") from None
            except ValueError:
                raise DamagedFile(self.name, block.offset, "altered since it was encrypted") from None
        elif "key" in self.meta and block.head.kind != BlockKind.END:
            raise DamagedFile(self.name, block.offset, "a block that is not encrypted in an encrypted file")
        if codec & Codec.ZSTD:
            try:
                if zstandard.frame_content_size(data) != block.head.raw_bytes:
                    raise DamagedFile(self.name, block.offset, "its compressed size is not the one it claims")
                data = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
            except zstandard.ZstdError as error:
                raise DamagedFile(self.name, block.offset, f"cannot be decompressed: {error}") from None
        if len(data) != block.head.raw_bytes:
            raise DamagedFile(self.name, block.offset, f"{len(data)} bytes of records, not {block.head.raw_bytes}")
        return data


def _parse(fixed: bytes) -> tuple[Head, int, int] | str:
    """Head, stored size and checksum; or what is wrong."""
    if len(fixed) < _HEAD.size:
        return "the file ends within a block's head"
    magic, checksum, stored, kind, codec, number, raw_bytes, count, shard, *rest = _HEAD.unpack(fixed)
    if magic != BLOCK_MAGIC:
        return "no block begins here"
    if stored > BLOCK_BYTES_MAX or raw_bytes > BLOCK_BYTES_MAX:
        return f"a block of {max(stored, raw_bytes)} bytes"
    return Head(kind, codec, number, raw_bytes, count, shard, *rest), stored, checksum


def blocks_behind(path: Path, file_id: bytes, offset: int) -> Iterator[Block]:
    """Sound blocks anywhere behind an offset where none is: what tells a torn end from damage in the middle."""
    with path.open("rb") as file:
        base, data = offset, b""
        while True:
            file.seek(base)
            data = file.read(_SEARCH_BYTES)
            if len(data) < _HEAD.size:
                return
            at = data.find(BLOCK_MAGIC)
            while at >= 0:
                file.seek(base + at)
                parsed = _parse(fixed := file.read(_HEAD.size))
                if not isinstance(parsed, str):
                    head, size, checksum = parsed
                    stored = file.read(size)
                    if len(stored) == size and _checksum(file_id, fixed[8:], stored) == checksum:
                        yield Block(base + at, base + at + _HEAD.size + size, head, stored)
                at = data.find(BLOCK_MAGIC, at + 1)
            # A magic may lie across the border of two looks.
            base += len(data) - len(BLOCK_MAGIC) + 1
