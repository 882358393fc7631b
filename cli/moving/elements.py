"""Collections, a page of elements at a time: out of anything that answers Redis' commands, and into an instance.

A page of a hash is `[[field, value], ...]`, of a sorted set `[[member, score], ...]` (scores as bytes), of a list or set `[element, ...]`. What is written to a collection
while its pages are read may or may not be in them, as with SCAN.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from shmcache.limits import MOVED_PAGE_ELEMENTS

Ask = Callable[..., Any]
"""(command, argument, ...) -> its result, flat as on the wire or as a client makes it."""

COLLECTIONS: Final = frozenset(("hash", "list", "set", "zset"))


def read_pages(ask: Ask, key: bytes, kind: str) -> Iterator[list[Any]]:
    """The elements of a key, in pages; none if it is gone or of another kind by now is the asker's error to raise."""
    match kind:
        case "hash":
            yield from _scanned(ask, "HSCAN", key, _pairs)
        case "set":
            yield from _scanned(ask, "SSCAN", key, list)
        case "list":
            yield from _ranges(ask, "LRANGE", key, list)
        case "zset":
            yield from _ranges(ask, "ZRANGE", key, _scores, "WITHSCORES")
        case _:
            raise ValueError(f"{kind} is no collection")


def _scanned(ask: Ask, command: str, key: bytes, shape: Callable[[Any], list[Any]]) -> Iterator[list[Any]]:
    cursor: Any = 0
    while True:
        cursor, found = ask(command, key, cursor, "COUNT", MOVED_PAGE_ELEMENTS)
        if found:
            yield shape(found)
        if int(cursor) == 0:
            return


def _ranges(ask: Ask, command: str, key: bytes, shape: Callable[[Any], list[Any]], *options: str) -> Iterator[list[Any]]:
    at = 0
    while found := ask(command, key, at, at + MOVED_PAGE_ELEMENTS - 1, *options):
        page = shape(found)
        yield page
        at += len(page)


def _pairs(found: Any) -> list[list[Any]]:
    if isinstance(found, dict):
        return [list(pair) for pair in found.items()]
    if found and isinstance(found[0], tuple | list):
        return [list(pair) for pair in found]
    return [list(pair) for pair in zip(found[::2], found[1::2], strict=True)]


def _scores(found: Any) -> list[list[Any]]:
    return [[member, score if isinstance(score, bytes) else repr(float(score)).encode()] for member, score in _pairs(found)]


def write_command(key: bytes, kind: str, page: list[Any]) -> tuple[Any, ...]:
    """The command that adds a page to a key. Raises ValueError for what is no page."""
    try:
        match kind:
            case "hash":
                return ("HSET", key, *(part for field, value in page for part in (field, value)))
            case "list":
                return ("RPUSH", key, *page)
            case "set":
                return ("SADD", key, *page)
            case "zset":
                return ("ZADD", key, *(part for member, score in page for part in (score, member)))
    except (TypeError, ValueError):
        raise ValueError(f"not the elements of a {kind}") from None
    raise ValueError(f"{kind} is no collection")


def page_bytes(page: list[Any]) -> int:
    """About what a page takes."""
    return sum(len(part) for item in page for part in (item if isinstance(item, list) else (item,)))
