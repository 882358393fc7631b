"""Replies as RESP2 and RESP3 bytes. No I/O.

Values are what the engine gives (None, int, bytes, str for a status, lists, ResponseError), and besides: dict, set, float, bool, `Push`, `Verbatim`,
`NIL_ARRAY`. Where the two protocols differ in the shape of a command's answer stands in `shapes`.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from ...errors import (
    CacheTimeout,
    LimitExceeded,
    Moved,
    NotDurable,
    NotEnoughReplicas,
    NotReplicated,
    OutcomeUnknown,
    ResponseError,
    ShmcacheError,
    TooStale,
    Unavailable,
)
from ...protocol.codec import SetReply

Encoder = Callable[[Any], bytes]


class Push(list[Any]):
    """Out of band in RESP3, an ordinary array in RESP2."""


class Verbatim(str):
    """Text for people."""


class _NilArray:
    pass


NIL_ARRAY: Final = _NilArray()
"""No array: `*-1` in RESP2."""
OK: Final = b"+OK\r\n"
QUEUED: Final = b"+QUEUED\r\n"
_NIL: Final = b"$-1\r\n"
_NIL3: Final = b"_\r\n"
_SMALL: Final = {n: b":%d\r\n" % n for n in range(-10, 1000)}

_CODES: Final = (
    (OutcomeUnknown, "OUTCOMEUNKNOWN"),
    (NotEnoughReplicas, "NOREPLICAS"),
    (NotReplicated, "NOTREPLICATED"),
    (NotDurable, "MISCONF"),
    (TooStale, "MASTERDOWN"),
    (CacheTimeout, "TIMEOUT"),
    (Unavailable, "UNAVAILABLE"),
    (LimitExceeded, "ERR"),
)


def error_line(error: Exception) -> str:
    """`CODE text` of an error, one line."""
    if isinstance(error, ResponseError) and not isinstance(error, Moved):
        text = f"{error.code} {error.message}" if error.message else error.code
    else:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "ERR" if isinstance(error, ShmcacheError) else "ERR internal:")
        text = f"{code} {error}"
    return text.replace("\r", " ").replace("\n", " ")


ERRORS: Final[Counter[str]] = Counter()
"""Error replies of this process by their codes."""


def _error(error: Exception) -> bytes:
    text = error_line(error)
    ERRORS[text.partition(" ")[0]] += 1
    return b"-%b\r\n" % text.encode("utf-8", "replace")


def number_text(value: float) -> bytes:
    """A float as Redis prints scores: shortest digits that give it back, no `.0`."""
    if value != value:
        return b"nan"
    if value in (float("inf"), float("-inf")):
        return b"inf" if value > 0 else b"-inf"
    text = repr(value)
    return text.removesuffix(".0").encode() if "e" not in text else b"%.17g" % value


def encode2(value: Any) -> bytes:
    """RESP2."""
    kind = type(value)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if value is None:
        return _NIL
    if kind is int:
        return _SMALL.get(value) or b":%d\r\n" % value
    if kind is str:
        return OK if value == "OK" else b"+%b\r\n" % value.encode()
    if kind is list or kind is tuple or kind is Push:
        return b"*%d\r\n%b" % (len(value), b"".join(map(encode2, value)))
    return _rare(value, encode2, False)


def encode3(value: Any) -> bytes:
    """RESP3."""
    kind = type(value)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if value is None:
        return _NIL3
    if kind is int:
        return _SMALL.get(value) or b":%d\r\n" % value
    if kind is str:
        return OK if value == "OK" else b"+%b\r\n" % value.encode()
    if kind is list or kind is tuple:
        return b"*%d\r\n%b" % (len(value), b"".join(map(encode3, value)))
    return _rare(value, encode3, True)


def _rare(value: Any, encode: Encoder, is_resp3: bool) -> bytes:
    if isinstance(value, Exception):
        return _error(value)
    if value is NIL_ARRAY:
        return _NIL3 if is_resp3 else b"*-1\r\n"
    if isinstance(value, bool):
        return (b"#t\r\n" if value else b"#f\r\n") if is_resp3 else b":%d\r\n" % value
    if isinstance(value, float):
        return b",%b\r\n" % number_text(value) if is_resp3 else encode(number_text(value))
    if isinstance(value, dict):
        body = b"".join(encode(part) for pair in value.items() for part in pair)
        return b"%%%d\r\n%b" % (len(value), body) if is_resp3 else b"*%d\r\n%b" % (2 * len(value), body)
    if isinstance(value, set | frozenset | Members | SetReply):
        return b"%b%d\r\n%b" % (b"~" if is_resp3 else b"*", len(value), b"".join(map(encode, value)))
    if isinstance(value, Push):
        return b">%d\r\n%b" % (len(value), b"".join(map(encode, value)))
    if isinstance(value, Verbatim):
        text = value.encode("utf-8", "replace")
        return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if is_resp3 else encode(text)
    if isinstance(value, bytearray | memoryview):
        return encode(bytes(value))
    raise TypeError(f"not a reply: {value!r}")


class Members(tuple[Any, ...]):
    """A set in RESP3, whose order is kept."""


ENCODERS: Final[dict[int, Encoder]] = {2: encode2, 3: encode3}
