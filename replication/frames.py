"""What a relay publishes: one message `[topic][header][records]` per batch of one shard's log. No I/O.

Topic: `log/<shard>` and a zero byte, so that shard 1 is no prefix of shard 10. Header, little-endian:

    offset size  field
    0      1     version (1)
    1      1     flags: 1 = the records are compressed with zstd
    2      2     shard
    4      4     epoch of the primary
    8      8     history: lineage of this log
    16     8     from position
    24     8     to position: what follows begins here
    32     8     sequence number of the first record; 0 in a heartbeat
    40     8     sequence number of the last one that was written
    48     8     largest stamp in it
    56     8     when it was sent, unix ms of the sender
    64     4     bytes of the records before compression
    68     4     CRC-32 of the 68 bytes before

Records are those of the write log (docs/log.md), whole groups, each with its own CRC-32C. A heartbeat has no records, and both its positions are
the log's end; the stamp is then the largest before that.

Control calls between relays (greetings, gaps, slices, acknowledgements) are **sealed**: a CRC-32 follows as a part of its own. One that does not fit
is dropped like a message that never came, and asked for again. TCP's checksum lets one damaged segment in some ten thousand pass.
"""

import struct
import zlib
from typing import Final, NamedTuple

import zstandard

from shmcache.errors import ProtocolError

VERSION: Final = 1
COMPRESSED: Final = 1
_HEADER: Final = struct.Struct("<BBHIQQQQQQQI")
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size
RECORD_BYTES_MAX: Final = 1 << 30
"""A decompressed frame is refused above this."""
assert HEADER_BYTES == 72


def seal(message: list[bytes]) -> list[bytes]:
    """A message of header and payload (after a route or not), and its seal."""
    return [*message, _CHECKSUM.pack(zlib.crc32(message[-1], zlib.crc32(message[-2])))]


def unseal(message: list[bytes]) -> list[bytes] | None:
    """The message without its seal; None if that is broken."""
    inner = message[:-1]
    return inner if len(inner) >= 2 and seal(inner)[-1] == message[-1] else None


class Frame(NamedTuple):
    """One published batch, or a heartbeat (no records)."""

    shard: int
    epoch: int
    history: int
    from_position: int
    to_position: int
    first_seq: int
    last_seq: int
    last_stamp: int
    sent_ms: int
    records: bytes


def topic(shard: int) -> bytes:
    return b"log/%d\0" % shard


class Encoder:
    """Packs frames; compresses them if asked to. Not thread-safe."""

    def __init__(self, compress: bool) -> None:
        self._compressor = zstandard.ZstdCompressor(level=1) if compress else None

    def encode(self, frame: Frame) -> list[bytes]:
        """The message."""
        records, flags = frame.records, 0
        if self._compressor is not None and records:
            records, flags = self._compressor.compress(records), COMPRESSED
        head = _HEADER.pack(VERSION, flags, *frame[:9], len(frame.records))
        return [topic(frame.shard), head + _CHECKSUM.pack(zlib.crc32(head)), records]


def decode(message: list[bytes]) -> Frame:
    """The frame of a message. Raises ProtocolError; the records' own checksums are checked by whoever splits them."""
    if len(message) != 3 or len(message[1]) != HEADER_BYTES:
        raise ProtocolError("a log message is [topic][header][records]")
    head = message[1]
    if _CHECKSUM.unpack_from(head, _HEADER.size)[0] != zlib.crc32(head[: _HEADER.size]):
        raise ProtocolError("the header's checksum is wrong")
    version, flags, *fields, size = _HEADER.unpack_from(head)
    if version != VERSION:
        raise ProtocolError(f"log frames of version {version}; this side speaks {VERSION}")
    records = message[2]
    if flags & COMPRESSED:
        if size > RECORD_BYTES_MAX:
            raise ProtocolError(f"a frame of {size} bytes")
        try:
            records = zstandard.ZstdDecompressor().decompress(records, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ProtocolError(f"the records cannot be decompressed: {error}") from None
    if len(records) != size:
        raise ProtocolError(f"{len(records)} bytes of records, {size} announced")
    return Frame(*fields, records)
