"""Pub/sub on the wire: topics, the header of a message, names (docs/pubsub.md). No I/O.

One frame carries one or more messages of one topic:

| topic: kind, name or pattern, zero byte | message | message | ...
| message: header, 64 bytes | channel name | payload |

    offset size  header, little-endian
    0      1     version, 1
    1      1     kind: `c` channel, `p` pattern, `s` shard channel, `?` answer to a probe
    2      1     hops: hubs that the message has passed before this one
    3      1     flags: 1 = the subscription is over a limit (only in answers to probes)
    4      2     length of the channel name that follows
    6      2     zero
    8      4     length of the payload
    12     4     zero
    16     8     sequence number of the channel
    24     8     sequence number of the topic: the same, but for a pattern that pattern's own
    32     8     generation of the hub that sent it: random, another one after each start
    40     8     origin: generation of the hub where it was published
    48     8     number that the origin gave it
    56     8     when it was published, unix ms
"""

import re
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import BadChannel, LimitExceeded, ProtocolError
from ..limits import CHANNEL_NAME_BYTES_MAX

CHANNEL: Final = b"c"
PATTERN: Final = b"p"
SHARD: Final = b"s"
PROBE: Final = b"?"
END: Final = b"\0"
"""Ends every topic. No name contains it, so that no topic is the beginning of another."""
VERSION: Final = 1
REFUSED: Final = 1
NONCE_BYTES: Final = 8

EVENTS_CHANNEL: Final = b"__shmcache__:events"
RESERVED_PREFIX: Final = b"__shmcache__:"
"""Only the hub publishes in these channels."""
INVALIDATE_CHANNEL: Final = b"__invalidate__"
LOCAL_PREFIXES: Final = (RESERVED_PREFIX, b"__keyspace@", b"__keyevent@", INVALIDATE_CHANNEL)
"""Channels about one instance: never carried to another."""

HEADER: Final = struct.Struct("<BBBBHHIIQQQQQQ")
HEADER_BYTES: Final = 64
pack_header: Final = HEADER.pack
assert HEADER.size == HEADER_BYTES


class Message(NamedTuple):
    """One decoded message."""

    topic: bytes
    kind: bytes
    hops: int
    flags: int
    seq: int
    topic_seq: int
    generation: int
    origin: int
    number: int
    unix_ms: int
    channel: bytes
    payload: bytes


def check_name(name: bytes) -> bytes:
    """The name itself. Raises BadChannel, LimitExceeded."""
    if not name:
        raise BadChannel("a channel's name is empty")
    if len(name) > CHANNEL_NAME_BYTES_MAX:
        raise LimitExceeded(
            f"a channel's name of {len(name)} bytes; at most {CHANNEL_NAME_BYTES_MAX} "
            "(CHANNEL_NAME_BYTES_MAX)"
        )
    if END in name:
        raise BadChannel(f"channel {name[:40]!r} contains a zero byte")
    return name


def topic_of(kind: bytes, name: bytes) -> bytes:
    """What a subscriber of a channel or pattern subscribes to. Raises BadChannel, LimitExceeded."""
    return kind + check_name(name) + END


def name_of(topic: bytes) -> bytes:
    """The channel or pattern of a topic."""
    return topic[1:-1]


def probe_topic(nonce: bytes, topic: bytes) -> bytes:
    """Subscribing to this asks the hub to answer under it, in order with all else that it sends."""
    assert len(nonce) == NONCE_BYTES
    return PROBE + nonce + topic


def probed_topic(probe: bytes) -> bytes:
    """What a probe asks about."""
    return probe[1 + NONCE_BYTES :]


def pack_message(topic: bytes, message: Message) -> bytes:
    """The frame of one message; a hub in a hurry packs the header itself."""
    return b"".join(
        (
            topic,
            pack_header(
                VERSION,
                message.kind[0],
                message.hops,
                message.flags,
                len(message.channel),
                0,
                len(message.payload),
                0,
                message.seq,
                message.topic_seq,
                message.generation,
                message.origin,
                message.number,
                message.unix_ms,
            ),
            message.channel,
            message.payload,
        )
    )


def unpack_messages(frame: bytes) -> list[Message]:
    """The messages of a frame, in order. Raises ProtocolError if it is none."""
    # The nonce of a probe may contain the byte that ends a topic.
    end = frame.find(END, 1 + NONCE_BYTES if frame[:1] == PROBE else 0)
    at, size = end + 1, len(frame)
    topic = frame[:at]
    messages = []
    while end >= 0 and at + HEADER_BYTES <= size:
        version, kind, hops, flags, length, _, payload_length, _, *numbers = HEADER.unpack_from(frame, at)
        if version != VERSION:
            raise ProtocolError(f"channel message of version {version}; this side speaks {VERSION}")
        at += HEADER_BYTES
        middle = at + length
        after = middle + payload_length
        messages.append(
            Message(topic, bytes((kind,)), hops, flags, *numbers, frame[at:middle], frame[middle:after])
        )
        at = after
    if not messages or at != size:
        raise ProtocolError(
            "a channel frame is [topic, zero byte] and messages of [header][channel][payload]"
        )
    return messages


def is_local(channel: bytes) -> bool:
    """Whether a channel is about one instance only."""
    return channel.startswith(LOCAL_PREFIXES)


def seen_from(endpoint: str, router: str) -> str:
    """A hub's tcp endpoint as somebody reaches it who reached the router at `router`.

    A server that listens on all addresses names none of them.
    """
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if endpoint.startswith("tcp://") and host in ("0.0.0.0", "*", "[::]", "::"):
        return f"{router.rpartition(':')[0]}:{port}"
    return endpoint


@lru_cache(maxsize=256)
def compile_glob(pattern: bytes) -> re.Pattern[bytes]:
    """A Redis glob (`*`, `?`, `[a-z]`, `[^a]`, `\\x`) as a regular expression for `fullmatch`.

    Each `*` takes the first place where the next piece fits and keeps it (an atomic group): that is always
    right, and it makes a match take at most pattern times name steps, whatever a stranger sends.
    """
    pieces: list[list[str]] = [[]]
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append([])
        elif byte == b"?":
            pieces[-1].append(".")
        elif byte == b"[":
            text, at = _class(pattern, at)
            pieces[-1].append(text)
        else:
            if byte == b"\\" and at < len(pattern):
                byte = pattern[at : at + 1]
                at += 1
            pieces[-1].append(_literal(byte[0]))
    first, *rest = ("".join(piece) for piece in pieces)
    if not rest:
        expression = first
    else:
        middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
        # The last piece has one place only: as many bytes as it has units, at the end of the name.
        last = f"(?>.*(?=.{{{len(pieces[-1])}}}\\Z)){rest[-1]}" if rest[-1] else ".*"
        expression = f"{first}{middle}{last}"
    return re.compile(expression.encode("latin-1"), re.DOTALL)


def _literal(byte: int) -> str:
    return f"\\x{byte:02x}"


def _class(pattern: bytes, at: int) -> tuple[str, int]:
    """The character class that begins behind a `[`, and where it ends. An unclosed one ends with the
    pattern.
    """
    negated = pattern[at : at + 1] == b"^"
    at += negated
    parts: list[str] = []
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
            parts.append(_literal(pattern[at]))
            at += 1
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            parts.append(f"{_literal(low)}-{_literal(high)}")
            at += 3
        else:
            parts.append(_literal(pattern[at]))
            at += 1
    if parts:
        return f"[{'^' if negated else ''}{''.join(parts)}]", at + 1
    return "." if negated else "(?!)", at + 1
