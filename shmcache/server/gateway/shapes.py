"""Where an answer has another shape in RESP3 than the engine gives it, or another nil in RESP2. One table, by command.

The engine answers as RESP2 does. What is not named here is the same in both.
"""

from collections.abc import Callable
from typing import Any, Final

from .replies import ENCODERS, NIL_ARRAY, Encoder, Members, encode2, encode3

Shape = Callable[[Any], Any]


def _map(result: Any) -> Any:
    return dict(zip(result[::2], result[1::2], strict=True)) if type(result) is list else result


def _members(result: Any) -> Any:
    return Members(result) if type(result) is list else result


def _double(result: Any) -> Any:
    return float(result) if type(result) is bytes else result


def _doubles(result: Any) -> Any:
    return list(map(_double, result)) if type(result) is list else result


def _scored(result: Any) -> Any:
    """[member, score, ...] -> [[member, score], ...]"""
    if type(result) is not list:
        return result
    return [[member, float(score)] for member, score in zip(result[::2], result[1::2], strict=True)]


def _popped(result: Any) -> Any:
    """[member, score] -> the same with a number."""
    return [result[0], float(result[1])] if type(result) is list and len(result) == 2 else result


def _popped_from(result: Any) -> Any:
    """[key, member, score] -> the same with a number."""
    return [*result[:2], float(result[2])] if type(result) is list else result


def _popped_many(result: Any) -> Any:
    """[key, [[member, score], ...]] -> the same with numbers."""
    return [result[0], [[member, float(score)] for member, score in result[1]]] if type(result) is list else result


def _places(result: Any) -> Any:
    """[[longitude, latitude] or nil, ...] -> the same with numbers."""
    return [place and [float(part) for part in place] for place in result] if type(result) is list else result


def _pairs(result: Any) -> Any:
    return [list(pair) for pair in zip(result[::2], result[1::2], strict=True)] if type(result) is list else result


def _nil_array(result: Any) -> Any:
    return NIL_ARRAY if result is None else result


RESP3: Final[dict[str, Shape]] = {
    "HGETALL": _map,
    "SMEMBERS": _members,
    "SINTER": _members,
    "SUNION": _members,
    "SDIFF": _members,
    "ZSCORE": _double,
    "ZINCRBY": _double,
    "ZMSCORE": _doubles,
    "BZPOPMIN": _popped_from,
    "BZPOPMAX": _popped_from,
    "ZMPOP": _popped_many,
    "BZMPOP": _popped_many,
    "GEOPOS": _places,
}
"""Result of the engine -> what RESP3 shows."""

RESP3_IF: Final[dict[str, tuple[bytes, Shape]]] = {
    **dict.fromkeys(
        ("ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZDIFF", "ZINTER", "ZUNION", "ZRANDMEMBER"), (b"WITHSCORES", _scored)
    ),
    **dict.fromkeys(("ZRANK", "ZREVRANK"), (b"WITHSCORE", _popped)),
    "HRANDFIELD": (b"WITHVALUES", _pairs),
    "ZADD": (b"INCR", _double),
}
"""The same if the command has that option."""

RESP3_COUNTED: Final[dict[str, Shape]] = {"SPOP": _members, "ZPOPMIN": _scored, "ZPOPMAX": _scored}
"""The same if the command has a count."""

RESP3_UNCOUNTED: Final[dict[str, Shape]] = {"ZPOPMIN": _popped, "ZPOPMAX": _popped}

NIL_ARRAYS: Final = frozenset({"BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX", "LMPOP", "BLMPOP", "ZMPOP", "BZMPOP"})
"""Their nil is that of an array in RESP2."""
NIL_ARRAYS_COUNTED: Final = frozenset({"LPOP", "RPOP"})
"""The same if the command has a count."""

SHAPED2: Final = NIL_ARRAYS | NIL_ARRAYS_COUNTED
SHAPED3: Final = frozenset({*RESP3, *RESP3_IF, *RESP3_COUNTED, *RESP3_UNCOUNTED})


def _shape3(name: str, args: list[Any]) -> Shape | None:
    if name in RESP3:
        return RESP3[name]
    if name in RESP3_IF:
        word, shape = RESP3_IF[name]
        return shape if any(type(part) is bytes and part.upper() == word for part in args[2:]) else None
    return (RESP3_COUNTED if len(args) > 2 else RESP3_UNCOUNTED).get(name)


def encoder_for(resp: int, name: str, args: list[Any]) -> Encoder:
    """How the answer to this command is encoded in that protocol."""
    if resp == 2:
        if name in NIL_ARRAYS or (name in NIL_ARRAYS_COUNTED and len(args) > 2):
            return lambda result: encode2(_nil_array(result))
        return encode2
    shape = _shape3(name, args) if name in SHAPED3 else None
    return ENCODERS[resp] if shape is None else lambda result: encode3(shape(result))


def shaped(resp: int, name: str, args: list[Any], result: Any) -> Any:
    """The same for an answer that stands inside another one (EXEC)."""
    if isinstance(result, Exception):
        return result
    if resp == 2:
        return _nil_array(result) if name in NIL_ARRAYS or (name in NIL_ARRAYS_COUNTED and len(args) > 2) else result
    shape = _shape3(name, args) if name in SHAPED3 else None
    return result if shape is None else shape(result)
