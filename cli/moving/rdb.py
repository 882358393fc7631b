"""Records of a Redis dump file, read by rdb-py (`pip install 'shmcache[rdb]'`), RDB versions up to 13."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shmcache.errors import ConfigError, DamagedFile

from .stream import Record

_DATABASE: Final = 0
_NO_DATA: Final = frozenset({"aux_field", "resize_db", "checksum", "function", "slot_info"})


def read_rdb(path: Path, database: int = _DATABASE) -> Iterator[tuple[int, Record]]:
    """Number (from 1) and record of each key of one database; the value only of strings. Streams and values of modules are left out by the library, unsaid.

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
            value = item["value"] if item["type"] == "string" else None
            yield number, Record(item["key"], item["type"], value, item["expiry"] or 0)
