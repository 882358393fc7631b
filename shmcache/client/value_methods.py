"""Commands on values of every kind as methods: SORT, DUMP, RESTORE, what a key takes, its stamp. redis-py's names, arguments and results."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .arguments import Key, Seconds, Value, flags, milliseconds

Timeout = float | None


class ValueMethods:
    """Part of `CommandMethods`."""

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    def sort(
        self,
        name: Key,
        start: int | None = None,
        num: int | None = None,
        by: Key | None = None,
        get: Key | Sequence[Key] | None = None,
        desc: bool = False,
        alpha: bool = False,
        store: Key | None = None,
        groups: bool = False,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """Sorted elements of a list, set or sorted set; with `store` their number, and the list is under that key.

        `by` and `get` are patterns: of `*` the element is put in place; `key->field` is a hash's field, `#` the element. There are
        no `groups`. Keys of patterns and of `store` must lie in the shard of `name`: share a hash tag.
        """
        wanted = _get_list(get)
        options = _sort_options(start, num, by, wanted, desc, alpha)
        if store is not None:
            options += ("STORE", store)
        if groups:
            raise DataError("groups is not supported: take the values in steps of the number of patterns")
        return self._run(("SORT", name, *options), timeout)

    def sort_ro(
        self,
        key: Key,
        start: int | None = None,
        num: int | None = None,
        by: Key | None = None,
        get: Sequence[Key] | None = None,
        desc: bool = False,
        alpha: bool = False,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """As `sort`, without `store`: a replica answers it too."""
        return self._run(("SORT_RO", key, *_sort_options(start, num, by, _get_list(get), desc, alpha)), timeout)

    def dump(self, name: Key, *, timeout: Timeout = None) -> Any:
        """The value as bytes that `restore` takes (not Redis' format), None if there is none."""
        return self._run(("DUMP", name), timeout)

    def restore(
        self,
        name: Key,
        ttl: Seconds,
        value: Value,
        replace: bool = False,
        absttl: bool = False,
        idletime: int | None = None,
        frequency: int | None = None,
        *,
        timeout: Timeout = None,
    ) -> Any:
        """b"OK": the key has the value that `dump` gave. `ttl` is ms, 0 for none; with `absttl` it is unix ms. Raises ResponseError (BUSYKEY)."""
        options: list[Any] = flags(replace=replace, absttl=absttl)
        if idletime is not None:
            options += ("IDLETIME", idletime)
        if frequency is not None:
            options += ("FREQ", frequency)
        return self._run(("RESTORE", name, milliseconds(ttl), value, *options), timeout)

    def memory_usage(self, key: Key, samples: int | None = None, *, timeout: Timeout = None) -> Any:
        """Bytes that a key takes with all its parts, None if there is none. Of a large collection `samples` parts are looked at (0: all)."""
        options = () if samples is None else ("SAMPLES", samples)
        return self._run(("MEMORY", "USAGE", key, *options), timeout)

    def key_stamp(self, name: Key, *, timeout: Timeout = None) -> Any:
        """The stamp of a key of any kind, 0 if there is none. It grows with every write of the key."""
        return self._run(("KEYSTAMP", name), timeout)


def _get_list(get: Key | Sequence[Key] | None) -> list[Any]:
    if get is None:
        return []
    return [get] if isinstance(get, str | bytes | int | memoryview | bytearray) else list(get)


def _sort_options(start: int | None, num: int | None, by: Key | None, get: list[Any], desc: bool, alpha: bool) -> list[Any]:
    if (start is None) != (num is None):
        raise DataError("``start`` and ``num`` must both be specified")
    options: list[Any] = []
    if by is not None:
        options += ("BY", by)
    if start is not None:
        options += ("LIMIT", start, num)
    for pattern in get:
        options += ("GET", pattern)
    return options + flags(desc=desc, alpha=alpha)
