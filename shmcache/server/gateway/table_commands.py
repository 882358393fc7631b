"""COMMAND: the command table as Redis clients read it."""

from typing import Any, Final

from ...errors import CommandFailed
from ...protocol.channels import compile_glob
from ..acl.keys import stored_in
from .arguments import word
from .connection import Connection
from .replies import Members
from .rows import ROWS, Row, command, unknown_subcommand, wrong_arity

_SHOWN: Final = frozenset({"write", "readonly", "denyoom", "admin", "pubsub", "noscript", "blocking", "loading", "stale", "fast", "no_auth", "no_multi"})
_GROUPS: Final = {"read": "string", "write": "string", "counter": "string", "expiry": "generic", "scan": "generic", "keyspace": "generic"}


@command("COMMAND", -1, "The commands: COUNT, DOCS, INFO, GETKEYS, LIST.", "loading", "stale")
def command_(client: Connection, args: list[bytes]) -> Any:
    if len(args) == 1:
        return [describe(row) for row in ROWS.values()]
    name = word(args[1])
    match name:
        case "COUNT" if len(args) == 2:
            return len(ROWS)
        case "INFO":
            return [describe(row) for row in ROWS.values()] if len(args) == 2 else [_described(part) for part in args[2:]]
        case "DOCS":
            chosen = list(ROWS.values()) if len(args) == 2 else [ROWS[word(part)] for part in args[2:] if word(part) in ROWS]
            return {row.name.lower().encode(): _docs(row) for row in chosen}
        case "LIST":
            return _names(args)
        case "GETKEYS" | "GETKEYSANDFLAGS":
            if len(args) < 4:
                raise wrong_arity(f"command|{name}")
            keys = _keys(args[2:])
            return keys if name == "GETKEYS" else [[key, ["RW", "access", "update"]] for key in keys]
        case "HELP":
            return ["COMMAND <subcommand> [<arg> ...]. Subcommands: COUNT, DOCS, INFO, GETKEYS, LIST"]
    if name == "COUNT":
        raise wrong_arity("command|count")
    raise unknown_subcommand(args)


def _described(name: bytes) -> Any:
    row = ROWS.get(word(name))
    return None if row is None else describe(row)


def describe(row: Row) -> list[Any]:
    """One row as COMMAND INFO shows it."""
    flags = sorted(flag for flag in row.flags if flag in _SHOWN)
    kinds = ["@write" if "write" in row.flags else "@read" if "readonly" in row.flags else "@connection"]
    kinds += ["@fast" if "fast" in row.flags else "@slow"]
    kinds += ["@admin", "@dangerous"] if "admin" in row.flags else []
    keys = [_key_spec(row)] if row.first_key else []
    return [row.name.lower().encode(), row.arity, Members(flags), row.first_key, row.last_key, row.key_step, Members(kinds), [], keys, []]


def _key_spec(row: Row) -> dict[Any, Any]:
    last = row.last_key - row.first_key if row.last_key >= 0 else row.last_key
    return {
        b"flags": Members(["RW", "access", "update"] if "write" in row.flags else ["RO", "access"]),
        b"begin_search": {b"type": b"index", b"spec": {b"index": row.first_key}},
        b"find_keys": {b"type": b"range", b"spec": {b"lastkey": last, b"keystep": max(1, row.key_step), b"limit": 0}},
    }


def _docs(row: Row) -> dict[bytes, Any]:
    return {
        b"summary": row.summary.encode(),
        b"since": b"1.0.0",
        b"group": _GROUPS.get(row.family, row.family).encode(),
        b"complexity": b"O(1)" if "fast" in row.flags else b"O(N)",
    }


def _names(args: list[bytes]) -> list[bytes]:
    names = sorted(name.lower().encode() for name in ROWS)
    if len(args) == 2:
        return names
    if len(args) != 5 or word(args[2]) != "FILTERBY":
        raise CommandFailed("ERR", "syntax error")
    match word(args[3]):
        case "PATTERN":
            match = compile_glob(args[4].lower()).fullmatch
            return [name for name in names if match(name)]
        case "ACLCAT":
            wanted = "@" + args[4].decode("latin-1").lower()
            return [name for name in names if wanted in describe(ROWS[word(name)])[6]]
        case "MODULE":
            return []
    raise CommandFailed("ERR", "syntax error")


def _keys(args: list[bytes]) -> list[bytes]:
    row = ROWS.get(word(args[0]))
    if row is None:
        raise CommandFailed("ERR", "Invalid command specified")
    if not row.takes(args):
        raise CommandFailed("ERR", "Invalid number of arguments specified for command")
    if not (keys := [*row.keys_in(args), *stored_in(row, args)[-1:]]):
        raise CommandFailed("ERR", "The command has no key arguments")
    return keys
