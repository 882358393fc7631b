"""Records of a Redis dump file, read by rdb-py (`pip install 'shmcache[rdb]'`), RDB versions up to 13."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from shmcache.errors import ConfigError, DamagedFile

from .stream import Record

_DATABASE: Final = 0
_KINDS: Final = {"sorted_set": "zset"}
"""The library's names of types that have another one here."""
_NO_DATA: Final = frozenset({"aux_field", "resize_db", "checksum", "function", "slot_info"})


def read_rdb(path: Path, database: int = _DATABASE) -> Iterator[tuple[int, Record]]:
    """Number (from 1) and record of each key of one database; strings and collections with their values. Streams and values of modules are left out by the library, unsaid.

    Raises ConfigError if the library is missing or the file cannot be read, DamagedFile.
    """
    try:
        import rdb
    except ImportError:
        raise ConfigError("dump files of Redis are read by rdb-py: pip install 'shmcache[rdb]'; or copy the living one: shmcache import redis://...") from None
    try:
        decoder = rdb.RdbDecoder(str(path))
    except (ValueError, struct.error) as error:
        raise ConfigError(f"{path} is not a dump file that can be read: {error}") from None
    number, current = 0, _DATABASE
    items = iter(decoder)
    while True:
        try:
            item = next(items, None)
        except ValueError as error:
            raise DamagedFile(str(path), 0, f"behind key {number}: {error}") from None
        if item is None:
            return
        if item["type"] == "select_db":
            current = item["db"]
        elif item["type"] in _NO_DATA or "key" not in item or current != database:
            continue
        else:
            number += 1
            kind = _KINDS.get(item["type"], item["type"])
            yield number, Record(item["key"], kind, _value(kind, item), item["expiry"] or 0)


def _value(kind: str, item: dict[str, Any]) -> Any:
    """As a record has it; None for a type that the library does not read."""
    match kind:
        case "string":
            return item["value"]
        case "hash":
            return [list(pair) for pair in item["values"].items()]
        case "list":
            return list(item["values"])
        case "set":
            return list(item["members"])
        case "zset":
            return [[member, repr(float(score)).encode()] for score, member in item["values"]]
    return None
