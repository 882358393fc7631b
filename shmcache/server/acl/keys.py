"""Which keys a request touches, and whether it reads or writes each. No I/O.

The command table says where keys stand and whether a command writes. A command that writes is taken to read as well, unless it stands here.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final, Protocol

from ...protocol.commands import keys_in

READ: Final = 1
WRITE: Final = 2


class Described(Protocol):
    """A row of the command table, or one that a gateway has besides. Where keys stand is said the same way in both."""

    @property
    def name(self) -> str: ...
    @property
    def flags(self) -> frozenset[str]: ...


_WRITE_ONLY: Final = frozenset(
    ["APPEND", "DEL", "EXPIRE", "EXPIREAT", "GEOADD", "HDEL", "HMSET", "HSET", "HSETNX", "LINSERT", "LPUSH", "LPUSHX", "LREM", "LSET", "LTRIM", "MSET", "MSETNX", "PERSIST", "PEXPIRE", "PEXPIREAT", "PFADD", "PSETEX", "RESTORE", "RPUSH", "RPUSHX", "SADD", "SETEX", "SETNX", "SETRANGE", "SREM", "UNLINK", "ZADD", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE"]
)
"""What they change is not told to the client."""
_ANY: Final = frozenset(["EXISTS", "TYPE", "STRLEN", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "TOUCH", "HLEN", "HEXISTS", "HSTRLEN", "LLEN", "SCARD", "SISMEMBER", "SMISMEMBER", "ZCARD", "WATCH"])
"""They tell of a key, not its value: any right to the key will do."""
_FIRST_AND_REST: Final = {
    "COPY": (READ, WRITE),
    **dict.fromkeys(["BRPOPLPUSH", "BLMOVE", "LMOVE", "RPOPLPUSH", "SMOVE", "RENAME", "RENAMENX"], (READ | WRITE, WRITE)),
    **dict.fromkeys(
        ["BITOP", "SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE", "ZRANGESTORE", "GEOSEARCHSTORE"], (WRITE, READ)
    ),
    "PFMERGE": (READ | WRITE, READ),
    "PFCOUNT": (READ, READ),
}
_NUMKEYS: Final = dict.fromkeys(["EVAL", "EVALSHA", "FCALL", "EVAL_RO", "EVALSHA_RO", "FCALL_RO"], 2)
_SUBCOMMANDS_WITH_KEY: Final = {("MEMORY", b"USAGE"), ("DEBUG", b"OBJECT"), ("OBJECT", b"ENCODING"), ("OBJECT", b"FREQ"), ("OBJECT", b"IDLETIME"), ("OBJECT", b"REFCOUNT")}
_STORING: Final = {"SORT": (b"STORE",), "GEORADIUS": (b"STORE", b"STOREDIST"), "GEORADIUSBYMEMBER": (b"STORE", b"STOREDIST")}


def accesses(row: Described, args: list[Any]) -> Iterator[tuple[bytes, int]]:
    """(Key, READ, WRITE, both, or 0: any right will do) of a request whose number of arguments is right."""
    name = row.name
    if name in ("MEMORY", "DEBUG", "OBJECT"):
        if len(args) > 2 and (name, args[1].upper()) in _SUBCOMMANDS_WITH_KEY:
            yield args[2], READ if name != "OBJECT" else 0
        return
    if name in _NUMKEYS:
        both = READ if name.endswith("_RO") else READ | WRITE
        yield from ((key, both) for key in _counted(args, _NUMKEYS[name]))
        return
    first, rest = _kinds(row, args)
    yield from zip(keys_in(row, args), itertools.chain((first,), itertools.repeat(rest)), strict=False)  # type: ignore[arg-type]
    yield from ((key, WRITE) for key in stored_in(row, args))


def stored_in(row: Described, args: list[Any]) -> list[bytes]:
    """Keys that an option says to store at; of several the last one counts."""
    words = _STORING.get(row.name, ())
    return [args[place + 1] for place, word in enumerate(args[2:-1], 2) if words and word.upper() in words]


def reads_by_content(row: Described, args: list[Any]) -> bool:
    """Whether keys are read whose names nobody can know before (SORT ... BY, GET)."""
    return row.name in ("SORT", "SORT_RO") and any(word.upper() in (b"BY", b"GET") and b"*" in other for word, other in itertools.pairwise(args[2:]))


def _kinds(row: Described, args: list[Any]) -> tuple[int, int]:
    name = row.name
    if name in _FIRST_AND_REST:
        return _FIRST_AND_REST[name]
    if name in _ANY:
        return 0, 0
    if name in _STORING or "write" not in row.flags:
        return READ, READ
    if name == "SET":
        kind = READ | WRITE if any(word.upper() == b"GET" for word in args[3:]) else WRITE
        return kind, kind
    if name == "BITFIELD" and not any(word.upper() in (b"SET", b"INCRBY") for word in args[2:]):
        return READ, READ
    kind = WRITE if name in _WRITE_ONLY else READ | WRITE
    return kind, kind


def _counted(args: list[Any], at: int) -> list[bytes]:
    """The keys behind the argument that says how many there are; none if it says more than there are arguments: that is refused later."""
    try:
        count = int(args[at])
    except (ValueError, IndexError):
        return []
    return args[at + 1 : at + 1 + count] if 0 < count < len(args) - at else []
