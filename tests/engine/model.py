"""The reference: a dict with a clock that answers every command of the table as Redis does.

It knows nothing of regions, logs or memory. Times are unix ms. Where shmcache says more than Redis (GETSTAMP,
SET IFSTAMP) or less (a command without a key in a transaction) the model says what the documents promise.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_KEY_BYTES = 65536
MAX_VALUE_BYTES = 512 << 20
I64 = range(-(2**63), 2**63)

Handler = Callable[["Model", list[bytes]], Any]
HANDLERS: dict[str, Handler] = {}
ARITY: dict[str, int] = {}
COMPARED_WITH_REDIS = {
    "BITCOUNT", "BITFIELD", "BITFIELD_RO", "BITOP", "BITPOS", "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "CHECKSTAMP", "DUMP", "GETBIT",
    "HDEL", "HEXISTS", "HEXPIRE", "HEXPIREAT", "HEXPIRETIME", "HGET", "HGETALL", "HGETDEL", "HGETEX", "HINCRBY", "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET", "HMSET", "HPERSIST", "HPEXPIRE",
    "HPEXPIREAT", "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSCAN", "HSET", "HSETEX", "HSETNX", "HSTRLEN", "HTTL", "HVALS",
    "SADD", "SCARD", "SDIFF", "SDIFFSTORE", "SINTER", "SINTERCARD", "SINTERSTORE", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "SMOVE", "SPOP", "SRANDMEMBER", "SREM", "SSCAN", "SUNION", "SUNIONSTORE",
    "LPUSH", "LPUSHX", "LRANGE", "LREM", "LSET", "LTRIM", "MEMORY", "OBJECT", "PFADD", "PFCOUNT", "PFMERGE", "RESTORE", "RPOP", "RPOPLPUSH", "RPUSH",
    "RPUSHX", "SETBIT", "SORT", "SORT_RO", "SUBSTR",
}  # fmt: skip
"""Commands without a handler here: test_redis_*.py run them beside a real redis-server."""
KEYLESS_WRITES = {"FLUSHALL", "FLUSHDB"}


class Failed(Exception):
    """A command's error reply."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def error(message: str) -> Failed:
    return Failed("ERR", message)


SYNTAX = "syntax error"
NOT_INT = "value is not an integer or out of range"
NOT_FLOAT = "value is not a valid float"


@dataclass
class Entry:
    value: bytes
    deadline: int = 0
    """Unix ms; 0 = none."""
    stamp: int = 0


def command(name: str, arity: int) -> Callable[[Handler], Handler]:
    """Register the handler of a command; `arity` as in the command table."""

    def register(handler: Handler) -> Handler:
        HANDLERS[name] = handler
        ARITY[name] = arity
        return handler

    return register


class Model:
    """The state, and what every command shares. `now` is set by the caller before a command or batch."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.now = 0
        self.last_stamp = 0
        self.in_transaction = False

    def run(self, args: Sequence[bytes]) -> Any:
        """Execute one command. Returns its result; raises `Failed`."""
        args = list(args)
        name = args[0].decode("latin-1").upper()
        handler = HANDLERS.get(name)
        if handler is None:
            raise error("unknown command")
        arity = ARITY[name]
        if len(args) != arity if arity > 0 else len(args) < -arity:
            raise error("wrong number of arguments")
        if self.in_transaction and name in KEYLESS_WRITES:
            raise error("not allowed in a transaction")
        return handler(self, args)

    def batch(self, commands: Sequence[Sequence[bytes]], transaction: bool = False) -> list[Any]:
        """Execute a batch at one instant: a failed command's result is its `Failed`, the others count."""
        self.in_transaction = transaction
        results: list[Any] = []
        for args in commands:
            try:
                results.append(self.run(args))
            except Failed as failed:
                results.append(failed)
        self.in_transaction = False
        return results

    def get(self, key: bytes) -> Entry | None:
        """The live entry."""
        entry = self.entries.get(key)
        if entry is not None and entry.deadline and entry.deadline <= self.now:
            del self.entries[key]
            return None
        return entry

    def live(self) -> dict[bytes, Entry]:
        return {key: entry for key in list(self.entries) if (entry := self.get(key)) is not None}

    def put(self, key: bytes, value: bytes, deadline: int = 0) -> None:
        """Write an entry; a deadline that has passed deletes it."""
        self.last_stamp += 1
        if deadline and deadline <= self.now:
            self.entries.pop(key, None)
        else:
            check_sizes(key, value)
            self.entries[key] = Entry(value, deadline, self.last_stamp)

    def set_deadline(self, key: bytes, entry: Entry, deadline: int) -> None:
        if deadline or entry.deadline:
            self.put(key, entry.value, deadline)

    def replace(self, key: bytes, value: bytes) -> None:
        """A new value under the old one's deadline."""
        old = self.get(key)
        self.put(key, value, old.deadline if old else 0)

    def remove(self, key: bytes) -> bool:
        return self.get(key) is not None and self.entries.pop(key, None) is not None


def check_sizes(key: bytes, value: bytes) -> None:
    if len(key) > MAX_KEY_BYTES:
        raise Failed("LIMIT", "the key is longer")
    if len(value) > MAX_VALUE_BYTES:
        raise Failed("LIMIT", "the value is longer")


def integer(text: bytes, wrong: str = NOT_INT) -> int:
    """A decimal integer as Redis reads it: no spaces, plus signs or leading zeros, 64 bits."""
    if not re.fullmatch(rb"0|-?[1-9][0-9]{0,18}", text) or int(text) not in I64:
        raise error(wrong)
    return int(text)


def number(text: bytes) -> float:
    try:
        if text != text.strip() or b"_" in text:
            raise ValueError
        value = float(text)
    except ValueError:
        raise error(NOT_FLOAT) from None
    if value != value:
        raise error(NOT_FLOAT)
    return value


def glob_regex(pattern: bytes) -> re.Pattern[bytes]:
    """Redis' glob: * ? [abc] [^a-c] and the backslash."""
    out, at = b"", 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        closing = pattern.find(b"]", at + 1)
        if char == b"*":
            out += b".*"
        elif char == b"?":
            out += b"."
        elif char == b"[" and closing > at + 1:
            out += pattern[at : closing + 1]
            at = closing
        else:
            at += char == b"\\" and at + 1 < len(pattern)
            out += re.escape(pattern[at : at + 1])
        at += 1
    return re.compile(out, re.DOTALL)
