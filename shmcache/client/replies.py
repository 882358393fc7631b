"""Results as redis-py gives them, by command. No I/O.

On the wire data is bytes and a status (`OK`, `PONG`, a type's name) is str.
"""

from collections.abc import Callable, Sequence, Set
from typing import Any, Final

from ..protocol.info import parse_info


def _ok(result: Any) -> Any:
    return True if result == "OK" else result


def _pong(result: Any) -> Any:
    return True if result == "PONG" else result


def _scan(result: Any) -> Any:
    return int(result[0]), result[1]


def _time(result: Any) -> Any:
    return int(result[0]), int(result[1])


def _stamped(result: Any) -> Any:
    return None if result is None else (result[0], int(result[1]))


def _pair(result: Any) -> Any:
    return None if result is None else tuple(result)


def _dict(result: Any) -> Any:
    return dict(zip(result[::2], result[1::2], strict=True))


def _hscan(result: Any, args: Sequence[Any]) -> Any:
    without_values = any(isinstance(part, str | bytes) and part.upper() in ("NOVALUES", b"NOVALUES") for part in args[3:])
    return int(result[0]), result[1] if without_values else _dict(result[1])


_TO_BOOL: Final = [
    "HEXISTS",
    "HMSET",
    "SMOVE",
    "SETNX",
    "MSETNX",
    "EXPIRE",
    "PEXPIRE",
    "EXPIREAT",
    "PEXPIREAT",
    "PERSIST",
    "RENAMENX",
    "COPY",
]
_TO_OK: Final = ["SET", "SETEX", "PSETEX", "MSET", "RENAME", "PFMERGE", "FLUSHALL", "FLUSHDB", "LSET", "LTRIM", "CHECKSTAMP"]

CALLBACKS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(_TO_BOOL, bool),
    **dict.fromkeys(_TO_OK, _ok),
    "PING": _pong,
    "SCAN": _scan,
    "TIME": _time,
    **dict.fromkeys(("SDIFF", "SINTER", "SMEMBERS", "SUNION"), set),
    "HGETALL": _dict,
    "SSCAN": _scan,
    "HINCRBYFLOAT": float,
    "INCRBYFLOAT": float,
    "INFO": parse_info,
    "GETSTAMP": _stamped,
    "BLPOP": _pair,
    "BRPOP": _pair,
}

BY_OPTIONS: Final[dict[str, Callable[[Any, Sequence[Any]], Any]]] = {"HSCAN": _hscan}
"""The same where the command's options decide."""

_STATUS_OR_NUMBER: Final = frozenset({*_TO_OK, "INCRBY", "DECRBY", "DEL", "GETDEL", "APPEND"})
"""Commands whose only status is OK, which becomes True, and whose other results stay as they are."""


def _decoded(result: Any) -> Any:
    kind = type(result)
    if kind is bytes:
        return result.decode()
    if kind is list or kind is tuple:
        return kind(map(_decoded, result))
    if kind is set:
        return set(map(_decoded, result))
    if kind is dict:
        return {_decoded(name): _decoded(value) for name, value in result.items()}
    return result


def finish(args: Sequence[Any], result: Any, decode: bool) -> Any:
    """The caller's result of a command's raw one. Errors pass through unchanged."""
    name = args[0]
    callback = CALLBACKS.get(name)
    if callback is not None and not isinstance(result, Exception):
        result = callback(result)
    elif name in BY_OPTIONS and not isinstance(result, Exception):
        result = BY_OPTIONS[name](result, args)
    elif type(result) is str and not decode:
        # A status without a callback (TYPE): redis-py gives bytes there too.
        return result.encode()
    return _decoded(result) if decode else result


_SHAPED: Final = frozenset({*CALLBACKS, *BY_OPTIONS, "TYPE"})


def finish_all(commands: Sequence[Sequence[Any]], distinct: Set[str], results: list[Any], decode: bool) -> list[Any]:
    """`finish` for the results of many commands; `distinct` are their names, once each."""
    if not decode and distinct <= _STATUS_OR_NUMBER:
        return [True if result == "OK" else result for result in results]
    if not decode and _SHAPED.isdisjoint(distinct):
        return results
    return [finish(command, result, decode) for command, result in zip(commands, results, strict=True)]
