"""A value of Lua, put together from the pieces in which it comes out (`emit_reply` of prelude.lua). No I/O."""

from typing import Any, Final

from ...errors import from_reply
from ...limits import SCRIPT_RESULT_BYTES_MAX, SCRIPT_RESULT_ITEMS_MAX
from ...protocol.codec import SetReply

_INT_MIN: Final = -(2**63)


def error_of(text: str) -> Exception:
    """The error that a script returns: `CODE message`."""
    code, _, message = text.partition(" ")
    return from_reply(code, message)


def truncated(number: float) -> int:
    """A number as an integer of 64 bits: what is behind the point is cut off; what is too large, or no number, is the smallest one."""
    if number != number or not -9.3e18 < number < 9.3e18:
        return _INT_MIN
    whole = int(number)
    return whole if _INT_MIN <= whole < 2**63 else _INT_MIN


class Builder:
    """Collects pieces. `is_resp3`: booleans, maps, sets and doubles are kept."""

    def __init__(self) -> None:
        self.is_resp3 = False
        self.clear()

    def clear(self) -> None:
        self._stack: list[tuple[str, list[Any]]] = [("list", [])]
        self._items = self._bytes = 0

    @property
    def is_over(self) -> bool:
        return self._items > SCRIPT_RESULT_ITEMS_MAX or self._bytes > SCRIPT_RESULT_BYTES_MAX

    def take(self) -> Any:
        """The value; None if there is none."""
        found = self._stack[0][1]
        self.clear()
        return found[0] if found else None

    def take_all(self) -> list[Any]:
        """All values."""
        found = self._stack[0][1]
        self.clear()
        return found

    def _add(self, value: Any) -> None:
        self._items += 1
        self._stack[-1][1].append(value)

    def open(self, kind: bytes, *_: Any) -> None:
        self._stack.append((kind.decode(), []))

    def close(self, *_: Any) -> None:
        kind, items = self._stack.pop()
        value: Any = items
        if kind == "map":
            value = _map(items)
        elif kind == "set":
            value = SetReply(items)
        self._add(value)

    def text(self, value: bytes, *_: Any) -> None:
        self._bytes += len(value)
        self._add(value)

    def integer(self, number: float, *_: Any) -> None:
        self._add(truncated(number))

    def several(self, *values: Any) -> bool:
        """Strings and numbers; whether it is too much by now."""
        self._items += len(values)
        target = self._stack[-1][1]
        for value in values:
            if type(value) is bytes:
                self._bytes += len(value)
                target.append(value)
            else:
                target.append(truncated(value))
        return self.is_over

    def number(self, number: float, *_: Any) -> None:
        """As it is."""
        whole = isinstance(number, float) and number.is_integer() and abs(number) < 2**63
        self._add(int(number) if whole else number)

    def boolean(self, value: bool, *_: Any) -> None:
        self._add(value if self.is_resp3 else 1 if value else None)

    def truth(self, value: bool, *_: Any) -> None:
        """A boolean, whatever the protocol."""
        self._add(bool(value))

    def double(self, number: float, *_: Any) -> None:
        self._add(float(number))

    def error(self, text: bytes, *_: Any) -> None:
        self._add(error_of(text.decode("utf-8", "replace")))

    def status(self, text: bytes, *_: Any) -> None:
        self._add(text.decode("utf-8", "replace"))

    def none(self, *_: Any) -> None:
        self._add(None)


def _map(items: list[Any]) -> Any:
    pairs = list(zip(items[::2], items[1::2], strict=True))
    try:
        return dict(pairs)
    except TypeError:
        # A key that is no key: shown flat.
        return items
