"""Results of commands on sorted sets and places as redis-py gives them. No I/O."""

from collections.abc import Callable, Sequence
from typing import Any, Final

Args = Sequence[Any]


def _float(result: Any) -> Any:
    return None if result is None else float(result)


def _floats(result: Any) -> Any:
    return [_float(score) for score in result]


def _pairs(result: Any) -> Any:
    return list(zip(result[::2], map(float, result[1::2]), strict=True))


def _popped(result: Any) -> Any:
    return None if result is None else (result[0], result[1], float(result[2]))


def _scan(result: Any) -> Any:
    return int(result[0]), _pairs(result[1])


def _place(result: Any) -> Any:
    return None if result is None else (float(result[0]), float(result[1]))


def _places(result: Any) -> Any:
    return [_place(place) for place in result]


def _texts(result: Any) -> Any:
    return [None if text is None else text if isinstance(text, str) else text.decode() for text in result]


def _said(args: Args, word: str) -> bool:
    return any(isinstance(arg, str | bytes) and (arg.decode("latin-1") if isinstance(arg, bytes) else arg).upper() == word for arg in args)


def _range(result: Any, args: Args) -> Any:
    return _pairs(result) if _said(args[4:], "WITHSCORES") else result


def _combined(result: Any, args: Args) -> Any:
    """Of ZUNION and its like: the options come behind the keys."""
    return _pairs(result) if _said(args[2 + int(args[1]) :], "WITHSCORES") else result


def _ranked(result: Any, args: Args) -> Any:
    return [result[0], float(result[1])] if isinstance(result, list) else result


def _added(result: Any, args: Args) -> Any:
    """With INCR the score, else a number."""
    return result if result is None or isinstance(result, int) else float(result)


def _found(result: Any, args: Args) -> Any:
    """Members, or rows of a member and what else was asked for: distance, hash, place."""
    return [_row(row) for row in result] if isinstance(result, list) else result


def _row(row: Any) -> Any:
    return [row[0], *(_place(part) if isinstance(part, list) else part if isinstance(part, int) else float(part) for part in row[1:])] if isinstance(row, list) else row


CALLBACKS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("ZSCORE", "ZINCRBY", "GEODIST"), _float),
    **dict.fromkeys(("ZPOPMIN", "ZPOPMAX"), _pairs),
    **dict.fromkeys(("BZPOPMIN", "BZPOPMAX"), _popped),
    "ZMSCORE": _floats,
    "ZSCAN": _scan,
    "GEOPOS": _places,
    "GEOHASH": _texts,
}
BY_OPTIONS: Final[dict[str, Callable[[Any, Args], Any]]] = {
    **dict.fromkeys(("ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE"), _range),
    **dict.fromkeys(("ZUNION", "ZINTER"), _combined),
    **dict.fromkeys(("ZRANK", "ZREVRANK"), _ranked),
    **dict.fromkeys(("GEORADIUS", "GEORADIUS_RO", "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO", "GEOSEARCH"), _found),
    "ZADD": _added,
}
