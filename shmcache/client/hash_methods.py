"""Commands on hashes as methods, as `methods` has the others."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
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

Timeout = float | None


class HashMethods:
    """Every command on hashes. `key` is the field, as in redis-py."""

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    def hget(self, name: Key, key: Key, *, timeout: Timeout = None) -> Any:
        """The field's value, None if there is none."""
        return self._run(("HGET", name, key), timeout)

    def hset(
        self,
        name: Key,
        key: Key | None = None,
        value: Value | None = None,
        mapping: Mapping[Any, Value] | None = None,
        items: Iterable[Any] | None = None,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """How many fields are new. `items` is a flat list of fields and values."""
        return self._run(("HSET", name, *_pairs("hset", key, value, mapping, items)), timeout)

    def hsetnx(self, name: Key, key: Key, value: Value, *, timeout: Timeout = None) -> Any:
        """1 if the field was absent and is set now, else 0."""
        return self._run(("HSETNX", name, key, value), timeout)

    def hmset(self, name: Key, mapping: Mapping[Any, Value], *, timeout: Timeout = None) -> Any:
        """True. As `hset` with a mapping."""
        return self._run(("HMSET", name, *_pairs("hmset", None, None, mapping, None)), timeout)

    def hmget(self, name: Key, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """List of values in the fields' order, None for a missing one."""
        return self._run(("HMGET", name, *key_list(keys, args)), timeout)

    def hgetall(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Dict of all fields and values."""
        return self._run(("HGETALL", name), timeout)

    def hkeys(self, name: Key, *, timeout: Timeout = None) -> Any:
        """List of all fields."""
        return self._run(("HKEYS", name), timeout)

    def hvals(self, name: Key, *, timeout: Timeout = None) -> Any:
        """List of all values."""
        return self._run(("HVALS", name), timeout)

    def hlen(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Number of fields."""
        return self._run(("HLEN", name), timeout)

    def hexists(self, name: Key, key: Key, *, timeout: Timeout = None) -> Any:
        """Whether the field exists."""
        return self._run(("HEXISTS", name, key), timeout)

    def hstrlen(self, name: Key, key: Key, *, timeout: Timeout = None) -> Any:
        """Length of the field's value in bytes, 0 if there is none."""
        return self._run(("HSTRLEN", name, key), timeout)

    def hdel(self, name: Key, *keys: Key, timeout: Timeout = None) -> Any:
        """How many fields there were."""
        return self._run(("HDEL", name, *keys), timeout)

    def hincrby(self, name: Key, key: Key, amount: int = 1, *, timeout: Timeout = None) -> Any:
        """The new number."""
        return self._run(("HINCRBY", name, key, amount), timeout)

    def hincrbyfloat(self, name: Key, key: Key, amount: float = 1.0, *, timeout: Timeout = None) -> Any:
        """The new number as float."""
        return self._run(("HINCRBYFLOAT", name, key, amount), timeout)

    def hrandfield(self, key: Key, count: int | None = None, withvalues: bool = False, *, timeout: Timeout = None) -> Any:
        """A random field or None; with `count` a list, with values a flat one. A negative count may repeat some."""
        options = () if count is None else (count, *flags(withvalues=withvalues))
        return self._run(("HRANDFIELD", key, *options), timeout)

    def hscan(
        self,
        name: Key,
        cursor: int = 0,
        match: Key | None = None,
        count: int | None = None,
        no_values: bool | None = None,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """`(next cursor, dict)`, without values `(next cursor, fields)`; 0 begins and ends. What is always there is given at least once."""
        options = [*scan_options(match, count), *flags(novalues=bool(no_values))]
        return self._run(("HSCAN", name, cursor, *options), timeout)

    # --- deadlines of fields ----------------------------------------------------------------------
    def hexpire(
        self, name: Key, seconds_left: Seconds, *fields: Key, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
        timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """A number for each field: -2 no such field, 0 the condition was not met, 1 set, 2 deleted, as the time has passed."""
        return self._run(("HEXPIRE", name, seconds(seconds_left), *flags(nx=nx, xx=xx, gt=gt, lt=lt), *listed(fields)), timeout)

    def hpexpire(
        self, name: Key, ms_left: Seconds, *fields: Key, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
        timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """As `hexpire`, in milliseconds."""
        return self._run(("HPEXPIRE", name, milliseconds(ms_left), *flags(nx=nx, xx=xx, gt=gt, lt=lt), *listed(fields)), timeout)

    def hexpireat(
        self, name: Key, when: Moment, *fields: Key, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
        timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """As `hexpire`, at a moment in unix seconds or a datetime."""
        return self._run(("HEXPIREAT", name, unix_seconds(when), *flags(nx=nx, xx=xx, gt=gt, lt=lt), *listed(fields)), timeout)

    def hpexpireat(
        self, name: Key, when: Moment, *fields: Key, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
        timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """As `hexpire`, at a moment in unix milliseconds or a datetime."""
        return self._run(("HPEXPIREAT", name, unix_milliseconds(when), *flags(nx=nx, xx=xx, gt=gt, lt=lt), *listed(fields)), timeout)

    def httl(self, key: Key, *fields: Key, timeout: Timeout = None) -> Any:
        """Seconds left of each field, rounded up; -1 without deadline, -2 without field."""
        return self._run(("HTTL", key, *listed(fields)), timeout)

    def hpttl(self, key: Key, *fields: Key, timeout: Timeout = None) -> Any:
        """Milliseconds left of each field; -1 without deadline, -2 without field."""
        return self._run(("HPTTL", key, *listed(fields)), timeout)

    def hexpiretime(self, key: Key, *fields: Key, timeout: Timeout = None) -> Any:
        """Deadline of each field, unix seconds; -1 without, -2 without field."""
        return self._run(("HEXPIRETIME", key, *listed(fields)), timeout)

    def hpexpiretime(self, key: Key, *fields: Key, timeout: Timeout = None) -> Any:
        """Deadline of each field, unix milliseconds; -1 without, -2 without field."""
        return self._run(("HPEXPIRETIME", key, *listed(fields)), timeout)

    def hpersist(self, name: Key, *fields: Key, timeout: Timeout = None) -> Any:
        """1 for each field whose deadline was removed, -1 without deadline, -2 without field."""
        return self._run(("HPERSIST", name, *listed(fields)), timeout)

    def hgetdel(self, name: Key, *keys: Key, timeout: Timeout = None) -> Any:
        """List of the fields' values, which are gone now."""
        return self._run(("HGETDEL", name, *listed(keys)), timeout)

    def hgetex(
        self,
        name: Key,
        *keys: Key,
        ex: Seconds | None = None,
        px: Seconds | None = None,
        exat: Moment | None = None,
        pxat: Moment | None = None,
        persist: bool = False,
        timeout: Timeout = None,
    ) -> Any:
        """List of the fields' values; changes their deadlines."""
        options = expiry_options(ex, px, exat, pxat) + flags(persist=persist)
        return self._run(("HGETEX", name, *options, *listed(keys)), timeout)

    def hsetex(
        self,
        name: Key,
        key: Key | None = None,
        value: Value | None = None,
        mapping: Mapping[Any, Value] | None = None,
        items: Iterable[Any] | None = None,
        ex: Seconds | None = None,
        px: Seconds | None = None,
        exat: Moment | None = None,
        pxat: Moment | None = None,
        data_persist_option: Any = None,
        keepttl: bool = False,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """1 if the fields are set now, else 0. `data_persist_option`: `FNX` (only if none of them exists) or `FXX` (only if all do)."""
        condition = [] if data_persist_option is None else [getattr(data_persist_option, "value", data_persist_option)]
        pairs = _pairs("hsetex", key, value, mapping, items)
        options = [*condition, *expiry_options(ex, px, exat, pxat), *flags(keepttl=keepttl)]
        return self._run(("HSETEX", name, *options, "FIELDS", len(pairs) // 2, *pairs), timeout)


def _pairs(
    name: str, key: Key | None, value: Value | None, mapping: Mapping[Any, Value] | None, items: Iterable[Any] | None
) -> list[Any]:
    """Fields and values, flat. Raises DataError if there are none."""
    pairs = list(items or ())
    if key is not None:
        pairs += (key, value)
    for pair in (mapping or {}).items():
        pairs += pair
    if not pairs:
        raise DataError(f"{name!r} without fields")
    return pairs


def listed(fields: tuple[Key, ...]) -> list[Any]:
    """`FIELDS 2 a b`."""
    return ["FIELDS", len(fields), *fields]


def scan_options(match: Key | None, count: int | None) -> list[Any]:
    """`MATCH pattern COUNT n`, what was given of it."""
    options: list[Any] = []
    if match is not None:
        options += ("MATCH", match)
    if count is not None:
        options += ("COUNT", count)
    return options
