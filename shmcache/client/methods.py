"""The commands as methods, with redis-py's names and arguments. They only build the command; `_run` is the
client's.

What `_run` returns decides what a method returns: the sync client the result, the asyncio client an awaitable
of it, a pipeline itself. The docstrings give the result. `timeout` is seconds for this call (None: the
client's).
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from ..errors import DataError
from .arguments import (
    Key,
    Moment,
    Seconds,
    Value,
    expiry_options,
    flags,
    key_list,
    milliseconds,
    seconds,
    unix_milliseconds,
    unix_seconds,
)
from .hash_methods import HashMethods
from .list_methods import ListMethods
from .set_methods import SetMethods
from .value_methods import ValueMethods
from .waiting import WAITING

Timeout = float | None


class CommandMethods(HashMethods, ListMethods, SetMethods, ValueMethods):
    """Every command that concerns data; the base of both clients and both pipelines."""

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    def _run_waiting(self, args: tuple[Any, ...]) -> Any:
        """Run a command that waits for an element, which says itself how long."""
        return self._run(args)

    def execute_command(self, *args: Any, timeout: Timeout = None) -> Any:
        """Any command by name, as `execute_command("SET", "k", 1)`; results as the methods give them."""
        if not args:
            raise DataError("execute_command needs a command")
        name = args[0].decode() if isinstance(args[0], bytes) else str(args[0])
        if name.upper() in WAITING and len(args) > 2:
            return self._run_waiting((name.upper(), *args[1:]))
        return self._run((name.upper(), *args[1:]), timeout)

    # --- strings ---------------------------------------------------------------------------------
    def get(self, name: Key, *, timeout: Timeout = None) -> Any:
        """The value, None if there is none."""
        return self._run(("GET", name), timeout)

    def set(
        self,
        name: Key,
        value: Value,
        ex: Seconds | None = None,
        px: Seconds | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        get: bool = False,
        exat: Moment | None = None,
        pxat: Moment | None = None,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """True; None if `nx` or `xx` forbade it; with `get` the old value or None."""
        if ex is px is exat is pxat is None and not (nx or xx or keepttl or get):
            return self._run(("SET", name, value), timeout)
        options = expiry_options(ex, px, exat, pxat) + flags(nx=nx, xx=xx, keepttl=keepttl, get=get)
        return self._run(("SET", name, value, *options), timeout)

    def setnx(self, name: Key, value: Value, *, timeout: Timeout = None) -> Any:
        """Whether it was absent and is set now."""
        return self._run(("SETNX", name, value), timeout)

    def setex(self, name: Key, time: Seconds, value: Value, *, timeout: Timeout = None) -> Any:
        """True."""
        return self._run(("SETEX", name, seconds(time), value), timeout)

    def psetex(self, name: Key, time_ms: Seconds, value: Value, *, timeout: Timeout = None) -> Any:
        """True."""
        return self._run(("PSETEX", name, milliseconds(time_ms), value), timeout)

    def getset(self, name: Key, value: Value, *, timeout: Timeout = None) -> Any:
        """The old value or None."""
        return self._run(("GETSET", name, value), timeout)

    def getdel(self, name: Key, *, timeout: Timeout = None) -> Any:
        """The value, which is gone now, or None."""
        return self._run(("GETDEL", name), timeout)

    def getex(
        self,
        name: Key,
        ex: Seconds | None = None,
        px: Seconds | None = None,
        exat: Moment | None = None,
        pxat: Moment | None = None,
        persist: bool = False,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """The value or None; changes its expiry."""
        options = expiry_options(ex, px, exat, pxat) + flags(persist=persist)
        return self._run(("GETEX", name, *options), timeout)

    def mget(self, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """List of values in the keys' order, None for a missing one. Not one moment over several shards."""
        return self._run(("MGET", *key_list(keys, args)), timeout)

    def mset(self, mapping: Mapping[Any, Value], *, timeout: Timeout = None) -> Any:
        """True. Atomic per shard."""
        return self._run(("MSET", *_pairs(mapping)), timeout)

    def msetnx(self, mapping: Mapping[Any, Value], *, timeout: Timeout = None) -> Any:
        """Whether all were absent and are set now. The keys share a slot."""
        return self._run(("MSETNX", *_pairs(mapping)), timeout)

    def incr(self, name: Key, amount: int = 1, *, timeout: Timeout = None) -> Any:
        """The new number."""
        return self._run(("INCRBY", name, amount), timeout)

    def incrby(self, name: Key, amount: int = 1, *, timeout: Timeout = None) -> Any:
        """The new number."""
        return self._run(("INCRBY", name, amount), timeout)

    def decr(self, name: Key, amount: int = 1, *, timeout: Timeout = None) -> Any:
        """The new number."""
        return self._run(("DECRBY", name, amount), timeout)

    def decrby(self, name: Key, amount: int = 1, *, timeout: Timeout = None) -> Any:
        """The new number."""
        return self._run(("DECRBY", name, amount), timeout)

    def incrbyfloat(self, name: Key, amount: float = 1.0, *, timeout: Timeout = None) -> Any:
        """The new number as float."""
        return self._run(("INCRBYFLOAT", name, amount), timeout)

    def append(self, key: Key, value: Value, *, timeout: Timeout = None) -> Any:
        """The new length in bytes."""
        return self._run(("APPEND", key, value), timeout)

    def strlen(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Length in bytes, 0 if there is none."""
        return self._run(("STRLEN", name), timeout)

    def getrange(self, key: Key, start: int, end: int, *, timeout: Timeout = None) -> Any:
        """The bytes from `start` to `end` inclusive; negative counts from the end."""
        return self._run(("GETRANGE", key, start, end), timeout)

    def setrange(self, name: Key, offset: int, value: Value, *, timeout: Timeout = None) -> Any:
        """The new length in bytes."""
        return self._run(("SETRANGE", name, offset, value), timeout)

    # --- compare and set --------------------------------------------------------------------------
    def get_stamped(self, name: Key, *, timeout: Timeout = None) -> Any:
        """`(value, stamp)` or None. The stamp is a number that grows with every write of the key."""
        return self._run(("GETSTAMP", name), timeout)

    def set_if_stamp(
        self,
        name: Key,
        value: Value,
        stamp: int,
        ex: Seconds | None = None,
        px: Seconds | None = None,
        keepttl: bool = False,
        exat: Moment | None = None,
        pxat: Moment | None = None,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """True if the key still had that stamp (0: did not exist) and is set now, else None."""
        options = expiry_options(ex, px, exat, pxat) + flags(keepttl=keepttl)
        return self._run(("SET", name, value, "IFSTAMP", stamp, *options), timeout)

    # --- expiry -----------------------------------------------------------------------------------
    def expire(
        self,
        name: Key,
        time: Seconds,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """Whether the expiry was set."""
        return self._run(("EXPIRE", name, seconds(time), *flags(nx=nx, xx=xx, gt=gt, lt=lt)), timeout)

    def pexpire(
        self,
        name: Key,
        time: Seconds,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """Whether the expiry was set; `time` in milliseconds."""
        return self._run(("PEXPIRE", name, milliseconds(time), *flags(nx=nx, xx=xx, gt=gt, lt=lt)), timeout)

    def expireat(
        self, name: Key, when: Moment, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """Whether the expiry was set; `when` in unix seconds or a datetime."""
        return self._run(("EXPIREAT", name, unix_seconds(when), *flags(nx=nx, xx=xx, gt=gt, lt=lt)), timeout)

    def pexpireat(
        self, name: Key, when: Moment, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """Whether the expiry was set; `when` in unix milliseconds or a datetime."""
        options = flags(nx=nx, xx=xx, gt=gt, lt=lt)
        return self._run(("PEXPIREAT", name, unix_milliseconds(when), *options), timeout)

    def expiretime(self, key: Key, *, timeout: Timeout = None) -> Any:
        """Unix seconds; -1 without expiry, -2 without key."""
        return self._run(("EXPIRETIME", key), timeout)

    def pexpiretime(self, key: Key, *, timeout: Timeout = None) -> Any:
        """Unix milliseconds; -1 without expiry, -2 without key."""
        return self._run(("PEXPIRETIME", key), timeout)

    def ttl(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Seconds left; -1 without expiry, -2 without key."""
        return self._run(("TTL", name), timeout)

    def pttl(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Milliseconds left; -1 without expiry, -2 without key."""
        return self._run(("PTTL", name), timeout)

    def persist(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Whether an expiry was removed."""
        return self._run(("PERSIST", name), timeout)

    # --- keys -------------------------------------------------------------------------------------
    def delete(self, *names: Key, timeout: Timeout = None) -> Any:
        """How many there were."""
        return self._run(("DEL", *names), timeout)

    def unlink(self, *names: Key, timeout: Timeout = None) -> Any:
        """As `delete`."""
        return self._run(("UNLINK", *names), timeout)

    def exists(self, *names: Key, timeout: Timeout = None) -> Any:
        """How many there are; a key named twice counts twice."""
        return self._run(("EXISTS", *names), timeout)

    def touch(self, *args: Key, timeout: Timeout = None) -> Any:
        """How many there are; marks them as used."""
        return self._run(("TOUCH", *args), timeout)

    def type(self, name: Key, *, timeout: Timeout = None) -> Any:
        """`string` or `none`."""
        return self._run(("TYPE", name), timeout)

    def scan(
        self,
        cursor: int = 0,
        match: Key | None = None,
        count: int | None = None,
        _type: str | None = None,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """`(next cursor, keys)`; 0 begins and ends. A key that is always there is given at least once."""
        return self._run(scan_args(cursor, match, count, _type), timeout)

    def keys(self, pattern: Key = "*", *, timeout: Timeout = None) -> Any:
        """List of all keys that match."""
        return self._run(("KEYS", pattern), timeout)

    def randomkey(self, *, timeout: Timeout = None) -> Any:
        """Some key, None if there is none."""
        return self._run(("RANDOMKEY",), timeout)

    def rename(self, src: Key, dst: Key, *, timeout: Timeout = None) -> Any:
        """True. Both share a slot."""
        return self._run(("RENAME", src, dst), timeout)

    def renamenx(self, src: Key, dst: Key, *, timeout: Timeout = None) -> Any:
        """Whether `dst` was absent. Both share a slot."""
        return self._run(("RENAMENX", src, dst), timeout)

    def copy(
        self, source: Key, destination: Key, destination_db: int | None = None, replace: bool = False,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """Whether it was copied. Both share a slot."""
        options: list[Any] = [] if destination_db is None else ["DB", destination_db]
        return self._run(("COPY", source, destination, *options, *flags(replace=replace)), timeout)

    # --- server -----------------------------------------------------------------------------------
    def dbsize(self, *, timeout: Timeout = None) -> Any:
        """How many keys there are."""
        return self._run(("DBSIZE",), timeout)

    def flushall(self, asynchronous: bool = False, *, timeout: Timeout = None) -> Any:
        """True. Removes every key of every shard."""
        return self._run(("FLUSHALL", *flags(**{"async": asynchronous})), timeout)

    def flushdb(self, asynchronous: bool = False, *, timeout: Timeout = None) -> Any:
        """As `flushall`: there is one database."""
        return self.flushall(asynchronous, timeout=timeout)

    def ping(self, message: Value | None = None, *, timeout: Timeout = None) -> Any:
        """True, or the message."""
        return self._run(("PING",) if message is None else ("PING", message), timeout)

    def echo(self, value: Value, *, timeout: Timeout = None) -> Any:
        """The value."""
        return self._run(("ECHO", value), timeout)

    def time(self, *, timeout: Timeout = None) -> Any:
        """`(unix seconds, microseconds)` of the server's clock."""
        return self._run(("TIME",), timeout)

    def info(self, section: str | None = None, *args: str, timeout: Timeout = None) -> Any:
        """Dict of fields; counters are sums over the shards."""
        return self._run(("INFO", *(() if section is None else (section,)), *args), timeout)


def _pairs(mapping: Mapping[Any, Value]) -> list[Any]:
    return [part for pair in mapping.items() for part in pair]


def scan_args(cursor: int, match: Key | None, count: int | None, kind: str | None) -> tuple[Any, ...]:
    args: list[Any] = ["SCAN", cursor]
    if match is not None:
        args += ("MATCH", match)
    if count is not None:
        args += ("COUNT", count)
    if kind is not None:
        args += ("TYPE", kind)
    return tuple(args)
