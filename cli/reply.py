"""Replies as text, in the manner of redis-cli."""

from typing import Any

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(data: bytes) -> str:
    """Data between double quotes, all that is not printable ASCII escaped."""
    return '"' + "".join(_ESCAPES.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in data) + '"'


def formatted(reply: Any, indent: int = 0) -> str:
    """A reply as redis-cli shows it on a terminal. Data are `bytes`, a status is a `str`."""
    if reply is None:
        return "(nil)"
    if isinstance(reply, Exception):
        return f"(error) {reply}"
    if isinstance(reply, int):
        return f"(integer) {int(reply)}"
    if isinstance(reply, bytes):
        return quoted(reply)
    if isinstance(reply, list | tuple):
        return _array(reply, indent)
    return str(reply)


def _array(items: list[Any] | tuple[Any, ...], indent: int) -> str:
    if not items:
        return "(empty array)"
    width = len(str(len(items)))
    inner = indent + width + 2
    lines = [f"{n:>{width}}) {formatted(item, inner)}" for n, item in enumerate(items, 1)]
    return ("\n" + " " * indent).join(lines)


def raw(reply: Any) -> bytes:
    """A reply as redis-cli --raw writes it: data as they are, one item a line."""
    if reply is None:
        return b""
    if isinstance(reply, bytes):
        return reply
    if isinstance(reply, list | tuple):
        return b"\n".join(raw(item) for item in reply)
    return str(reply).encode()
