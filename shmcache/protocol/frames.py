"""The 24-byte header of every ZeroMQ message (docs/protocol.md). No I/O.

0        1       2         4           8                    16                   24
| version | flags |  slot   |   epoch   |     request id     |  deadline, unix ms |   in a reply: the shard's last stamp
"""

import struct
from typing import Final, NamedTuple

from ..errors import ProtocolError
from ..limits import HEADER_BYTES

VERSION: Final = 1
SLOT_MAX: Final = 16383

TRANSACTION: Final = 1
"""Request: the batch is one atomic group."""
READ_ONLY: Final = 2
"""Request: the batch has no writing command; others are refused."""
CONTROL: Final = 4
"""Request: the payload is one control call."""
ERROR: Final = 8
"""Reply: the whole message was refused; the payload is one error."""
OPTIONS: Final = 16
"""Request: a msgpack map of options stands before the batch."""
FLAGS_ALL: Final = TRANSACTION | READ_ONLY | CONTROL | ERROR | OPTIONS

_HEADER = struct.Struct("<BBHIQQ")
_pack = _HEADER.pack
_unpack = _HEADER.unpack
assert _HEADER.size == HEADER_BYTES


class Header(NamedTuple):
    """One decoded header. `deadline_ms` is unix milliseconds, 0 = none; `epoch` 0 = does not say."""

    flags: int
    slot: int
    epoch: int
    request_id: int
    deadline_ms: int


def pack_header(
    flags: int = 0, slot: int = 0, epoch: int = 0, request_id: int = 0, deadline_ms: int = 0
) -> bytes:
    """24 bytes. Numbers outside their field are our bug: `struct.error`."""
    return _pack(VERSION, flags, slot, epoch, request_id, deadline_ms)


def unpack_header(data: bytes) -> Header:
    """Raises `ProtocolError` for another size, another version, unknown flags or a slot over 16383."""
    if len(data) != HEADER_BYTES:
        raise ProtocolError(f"a header has {HEADER_BYTES} bytes, not {len(data)}")
    version, flags, slot, epoch, request_id, deadline_ms = _unpack(data)
    if version != VERSION:
        raise ProtocolError(f"protocol version {version}; this side speaks {VERSION}")
    if flags > FLAGS_ALL:
        raise ProtocolError(f"unknown flags {flags:#04x}")
    if slot > SLOT_MAX:
        raise ProtocolError(f"slot {slot} is not in 0..{SLOT_MAX}")
    return Header(flags, slot, epoch, request_id, deadline_ms)


def request_id_of(data: bytes) -> int:
    """The request id of a header, also of one that `unpack_header` refuses; 0 if it has none."""
    return int.from_bytes(data[8:16], "little") if len(data) >= 16 else 0


def deadline_of(data: bytes) -> int:
    """The last field of a header: in a reply the shard's last stamp."""
    return int.from_bytes(data[16:24], "little")
