"""The 24-byte header of every ZeroMQ message (docs/protocol.md). No I/O.

0        1       2         4           8                    16                   24
| version | flags |  slot   |   epoch   |     request id     |    deadline, us    |   in a reply: the shard's last stamp

A deadline is a moment of the receiving host's monotonic clock (flag HOST_CLOCK): processes of one host share it, others learn it
(clocks.py), so that time spent in queues and on the wire counts. Who does not know it yet says what time is left; that becomes a moment in the first
process of the server that reads it.
"""

import struct
import time
from typing import Final, NamedTuple

from ..errors import ProtocolError
from ..limits import HEADER_BYTES
from .clocks import RemoteClock

VERSION: Final = 2
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
HOST_CLOCK: Final = 32
"""Request: the deadline is a moment of the receiver's monotonic clock, not the time that is left."""
FORWARDED: Final = 64
"""Reply: a replica passed the request on to its primary; what it wrote comes to the replica later."""
SCRIPTS: Final = 128
"""Request: commands of the batch are scripts (EVAL, FCALL, SCRIPT ...): the worker carries them out, not the engine."""
FLAGS_ALL: Final = TRANSACTION | READ_ONLY | CONTROL | ERROR | OPTIONS | HOST_CLOCK | FORWARDED | SCRIPTS

_HEADER = struct.Struct("<BBHIQQ")
_pack = _HEADER.pack
_unpack = _HEADER.unpack
assert _HEADER.size == HEADER_BYTES


class Header(NamedTuple):
    """One decoded header. `deadline_us`: see above, 0 = none; `epoch` 0 = does not say."""

    flags: int
    slot: int
    epoch: int
    request_id: int
    deadline_us: int


def pack_header(
    flags: int = 0, slot: int = 0, epoch: int = 0, request_id: int = 0, deadline_us: int = 0
) -> bytes:
    """24 bytes. Numbers outside their field are our bug: `struct.error`."""
    return _pack(VERSION, flags, slot, epoch, request_id, deadline_us)


def unpack_header(data: bytes) -> Header:
    """Raises `ProtocolError` for another size, another version, unknown flags or a slot over 16383."""
    if len(data) != HEADER_BYTES:
        raise ProtocolError(f"a header has {HEADER_BYTES} bytes, not {len(data)}")
    version, flags, slot, epoch, request_id, deadline_us = _unpack(data)
    if version != VERSION:
        raise ProtocolError(f"protocol version {version}; this side speaks {VERSION}")
    if flags > FLAGS_ALL:
        raise ProtocolError(f"unknown flags {flags:#04x}")
    if slot > SLOT_MAX:
        raise ProtocolError(f"slot {slot} is not in 0..{SLOT_MAX}")
    return Header(flags, slot, epoch, request_id, deadline_us)


def request_id_of(data: bytes) -> int:
    """The request id of a header, also of one that `unpack_header` refuses; 0 if it has none."""
    return int.from_bytes(data[8:16], "little") if len(data) >= 16 else 0


def as_forwarded(data: bytes) -> bytes:
    """A reply's header with the flag FORWARDED."""
    return data[:1] + bytes((data[1] | FORWARDED,)) + data[2:] if len(data) == HEADER_BYTES else data


def stamp_of(data: bytes) -> int:
    """The shard's last stamp, of a reply's header."""
    return int.from_bytes(data[16:24], "little")


def deadline_at(at: float, endpoint: str, clock: RemoteClock | None = None) -> tuple[int, int]:
    """Flag and field for a request to an endpoint that may be executed until `at`, of the own monotonic clock; `clock`: the one there."""
    if endpoint.startswith("ipc:"):
        return HOST_CLOCK, int(at * 1e6) + 1
    if clock is not None and clock.ahead_us is not None:
        return HOST_CLOCK, max(1, int(at * 1e6) + clock.ahead_us)
    return 0, max(1, int((at - time.monotonic()) * 1e6))


def to_host_clock(header: Header) -> Header:
    """The header of a request that was just received, its deadline as processes of this host pass it on."""
    if header.flags & HOST_CLOCK or not header.deadline_us:
        return header
    # Bounded, so that the sum fits its field.
    at = min(header.deadline_us, 1 << 62) + time.monotonic_ns() // 1000
    return header._replace(flags=header.flags | HOST_CLOCK, deadline_us=at)




def is_late(header: Header) -> bool:
    """Whether a request must not be executed any more. One that says what time is left has just come, and is not."""
    deadline_us = header.deadline_us
    return bool(deadline_us and header.flags & HOST_CLOCK) and time.monotonic_ns() // 1000 > deadline_us
