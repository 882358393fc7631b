"""Which commands there are for rules (`get`, `config|set`) and to which categories each belongs. No I/O.

A category follows from the flags and the family in the command table. What does not follow from them stands here.
"""

import functools
from typing import Final

from ...acl.names import SUBCOMMANDS
from ..rows import ROWS, Row

_BY_NAME: Final = {
    "keyspace": """COPY DBSIZE DEL DUMP EXISTS EXPIRE EXPIREAT EXPIRETIME FLUSHALL FLUSHDB KEYS MOVE OBJECT PERSIST PEXPIRE PEXPIREAT PEXPIRETIME
        PTTL RANDOMKEY RENAME RENAMENX RESTORE SCAN SWAPDB TOUCH TTL TYPE UNLINK""",
    "string": """APPEND DECR DECRBY GET GETDEL GETEX GETRANGE GETSET INCR INCRBY INCRBYFLOAT LCS MGET MSET MSETNX PSETEX SET SETEX SETNX SETRANGE
        STRLEN SUBSTR GETSTAMP""",
    "bitmap": "BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS GETBIT SETBIT",
    "hyperloglog": "PFADD PFCOUNT PFDEBUG PFMERGE PFSELFTEST",
    "list": "SORT SORT_RO",
    "set": "SORT SORT_RO",
    "sortedset": "SORT SORT_RO",
    "connection": "ASKING AUTH ECHO HELLO PING QUIT READONLY READWRITE RESET SELECT WAIT",
    "transaction": "DISCARD EXEC MULTI UNWATCH WATCH",
    "scripting": "EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO",
    "pubsub": "PSUBSCRIBE PUBLISH PUNSUBSCRIBE SPUBLISH SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE",
    "admin": "BGREWRITEAOF BGSAVE DEBUG FAILOVER LASTSAVE MONITOR PSYNC REPLCONF REPLICAOF ROLE SAVE SHUTDOWN SLAVEOF SYNC",
    "dangerous": "FLUSHALL FLUSHDB INFO KEYS MIGRATE RESTORE SORT SORT_RO SWAPDB",
    "read": "LOLWUT DBSIZE RANDOMKEY KEYS SCAN",
    "fast": "ASKING AUTH DBSIZE DISCARD ECHO HELLO LASTSAVE LOLWUT MULTI PING PUBLISH QUIT READONLY READWRITE RENAMENX RESET ROLE SELECT SPUBLISH TIME UNLINK UNWATCH WATCH",
}
_FAMILIES: Final = {
    "hash": "hash",
    "list": "list",
    "lists": "list",
    "set": "set",
    "sets": "set",
    "sortedset": "sortedset",
    "sorted_set": "sortedset",
    "sorted set": "sortedset",
    "zset": "sortedset",
    "bitmap": "bitmap",
    "hyperloglog": "hyperloglog",
    "geo": "geo",
    "stream": "stream",
    "scripting": "scripting",
}
CATEGORIES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo", "stream", "pubsub", "admin", "fast",
    "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
)  # fmt: skip
def _of_row(row: Row) -> frozenset[str]:
    flags = row.flags
    found = {name for name, names in _BY_NAME.items() if row.name in names.split()}
    found |= {name for flag, name in (("write", "write"), ("readonly", "read"), ("pubsub", "pubsub"), ("blocking", "blocking")) if flag in flags}
    if "scripting" in found or row.family == "scripting":
        # What a script does is its commands' affair.
        found -= {"read", "write"}
    if row.name.startswith("GEO"):
        # Of the sorted sets' family in the table, because that is what they work on.
        found.add("geo")
    elif row.family in _FAMILIES:
        found.add(_FAMILIES[row.family])
    if "admin" in flags or "admin" in found:
        found |= {"admin", "dangerous"}
    found.add("fast" if "fast" in flags or "fast" in found else "slow")
    return frozenset(found - ({"slow"} if "fast" in found else set()))


@functools.cache
def table() -> dict[str, frozenset[str]]:
    """Name in upper case (`GET`, `CONFIG`, `CONFIG|SET`) -> its categories. To be asked when all modules have registered their commands."""
    found: dict[str, frozenset[str]] = {}
    for row in ROWS.values():
        parts = SUBCOMMANDS.get(row.name)
        if parts is None:
            found[row.name] = _of_row(row)
            continue
        found[row.name] = frozenset({"slow"} | ({"connection"} if row.name == "COMMAND" else set()))
        for kinds, names in parts.items():
            of_these = frozenset({"slow", *kinds.split(), *(["dangerous"] if "admin" in kinds else [])})
            found |= {f"{row.name}|{name}": of_these for name in names.split()}
    return found


@functools.cache
def members(category: str) -> frozenset[str] | None:
    """The commands of a category (lower case, without the @); None if there is no such category."""
    if category == "all":
        return frozenset(table())
    if category not in CATEGORIES:
        return None
    return frozenset(name for name, kinds in table().items() if category in kinds)


@functools.cache
def with_parts(name: str) -> frozenset[str] | None:
    """A command and its subcommands, or one subcommand alone; None if there is no such command."""
    if name not in table():
        return None
    return frozenset(other for other in table() if other == name or other.startswith(name + "|"))
