"""Pub/sub over a plain unix socket, for those on the hub's host: records in both directions. No I/O.

A ZeroMQ socket hands each message to a thread of its own, at both ends: a message from a publisher to a subscriber
wakes six threads. Over a plain socket it wakes two, the hub's and the subscriber's.

    | length of what follows, 4 bytes, little-endian | type | body |

    type  from         body
    +     subscriber   topic or probe that it wants (docs/pubsub.md)
    -     subscriber   topic that it wants no longer
    r     both         header and payload of a request, or of its reply (docs/protocol.md)
    m     hub          frame
"""

import struct
from typing import Final

from ..errors import ProtocolError
from ..limits import HEADER_BYTES

SUBSCRIBE: Final = ord("+")
UNSUBSCRIBE: Final = ord("-")
REQUEST: Final = ord("r")
REPLY: Final = REQUEST
FRAME: Final = ord("m")
PREFIX_BYTES: Final = 5
_PREFIX: Final = struct.Struct("<IB")
_MESSAGES: Final = ".channels.sock"
_STREAM: Final = ".stream.sock"


def stream_path(endpoint: str) -> str:
    """The plain socket beside the hub's ipc endpoint of the messages. It is the shorter of the two names."""
    return endpoint.removeprefix("ipc://").removesuffix(_MESSAGES) + _STREAM


def prefix(kind: int, body_bytes: int) -> bytes:
    """What stands before the body of a record."""
    return _PREFIX.pack(body_bytes + 1, kind)


def record(kind: int, body: bytes) -> bytes:
    """A whole record."""
    return _PREFIX.pack(len(body) + 1, kind) + body


def split_request(body: bytes) -> list[bytes]:
    """Header and payload of a request or a reply."""
    return [body[:HEADER_BYTES], body[HEADER_BYTES:]]


class Records:
    """Takes what is read, as it is cut, and gives whole records."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rest = b""
        self._parts: list[bytes] = []
        """What came behind `_rest` of a record that is not whole yet."""
        self._lacking = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The records that are whole now: type and body. Raises ProtocolError: one is too large, or empty."""
        if self._lacking > len(data):
            self._lacking -= len(data)
            self._parts.append(data)
            return []
        if self._rest or self._parts:
            data = b"".join((self._rest, *self._parts, data))
            self._rest, self._parts, self._lacking = b"", [], 0
        found = []
        at, size = 0, len(data)
        while size - at >= PREFIX_BYTES:
            length, kind = _PREFIX.unpack_from(data, at)
            if not 0 < length <= self._bytes_max:
                raise ProtocolError(f"a record of {length} bytes; 1 to {self._bytes_max}")
            end = at + PREFIX_BYTES - 1 + length
            if end > size:
                self._lacking = end - size
                break
            found.append((kind, data[at + PREFIX_BYTES : end]))
            at = end
        self._rest = data[at:]
        return found
