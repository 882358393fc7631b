"""What a caller may pass, as what goes over the wire. No I/O."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from ..errors import DataError

PLAIN: Final = frozenset({bytes, str, int})
_all_plain = PLAIN.issuperset

Key = bytes | str | int | memoryview | bytearray
Value = bytes | str | int | float | memoryview | bytearray
Seconds = int | timedelta
Moment = int | datetime


def plain(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The command with every argument as bytes, str or int. Raises `DataError`. Usually just a look."""
    return args if _all_plain(map(type, args)) else tuple(map(_encode, args))


def all_plain(commands: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Many commands by `plain`: one look at all of them."""
    return commands if _all_plain(map(type, chain.from_iterable(commands))) else list(map(plain, commands))


def _encode(value: Any) -> bytes | str | int:
    kind = type(value)
    if kind in PLAIN:
        return value  # type: ignore[no-any-return]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    # Not str(value) or repr(value): an enum or numpy scalar says something else there.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, int) and kind is not bool:
        return int(value)
    raise DataError(f"cannot store {kind.__name__!r}: convert it to bytes, str, int or float first")


def key_list(keys: Any, more: Iterable[Any]) -> list[Any]:
    """redis-py's `(keys, *args)`: one key or an iterable of keys, then more keys."""
    first = [keys] if isinstance(keys, str | bytes | int | memoryview | bytearray) else list(keys)
    return [*first, *more]


def seconds(time: Seconds) -> int:
    return int(time.total_seconds()) if isinstance(time, timedelta) else time


def milliseconds(time: Seconds) -> int:
    return int(time.total_seconds() * 1000) if isinstance(time, timedelta) else time


def unix_seconds(when: Moment) -> int:
    return int(when.timestamp()) if isinstance(when, datetime) else when


def unix_milliseconds(when: Moment) -> int:
    return int(when.timestamp() * 1000) if isinstance(when, datetime) else when


def expiry_options(
    ex: Seconds | None, px: Seconds | None, exat: Moment | None, pxat: Moment | None
) -> list[Any]:
    """`EX 5` and so on, as SET and GETEX take them."""
    options: list[Any] = []
    if ex is not None:
        options += ("EX", seconds(ex))
    if px is not None:
        options += ("PX", milliseconds(px))
    if exat is not None:
        options += ("EXAT", unix_seconds(exat))
    if pxat is not None:
        options += ("PXAT", unix_milliseconds(pxat))
    return options


def flags(**given: bool) -> list[str]:
    """Names of those that are true."""
    return [name.upper() for name, chosen in given.items() if chosen]
