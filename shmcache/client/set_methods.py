"""Commands on sets as methods, as `methods` has the others. The keys of one command share a slot."""

from abc import abstractmethod
from typing import Any

from .arguments import Key, Value, key_list
from .hash_methods import scan_options

Timeout = float | None


class SetMethods:
    """Every command on sets."""

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    def sadd(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """How many are new."""
        return self._run(("SADD", name, *values), timeout)

    def srem(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """How many there were."""
        return self._run(("SREM", name, *values), timeout)

    def scard(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Number of members."""
        return self._run(("SCARD", name), timeout)

    def sismember(self, name: Key, value: Value, *, timeout: Timeout = None) -> Any:
        """1 if it is a member, else 0."""
        return self._run(("SISMEMBER", name, value), timeout)

    def smismember(self, name: Key, values: Any, *args: Value, timeout: Timeout = None) -> Any:
        """For each 1 if it is a member, else 0."""
        return self._run(("SMISMEMBER", name, *key_list(values, args)), timeout)

    def smembers(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Set of all members."""
        return self._run(("SMEMBERS", name), timeout)

    def spop(self, name: Key, count: int | None = None, *, timeout: Timeout = None) -> Any:
        """A random member, which is gone now, or None; with `count` a list of some."""
        return self._run(("SPOP", name) if count is None else ("SPOP", name, count), timeout)

    def srandmember(self, name: Key, number: int | None = None, *, timeout: Timeout = None) -> Any:
        """A random member or None; with `number` a list of some. A negative number may repeat some."""
        return self._run(("SRANDMEMBER", name) if number is None else ("SRANDMEMBER", name, number), timeout)

    def smove(self, src: Key, dst: Key, value: Value, *, timeout: Timeout = None) -> Any:
        """Whether it was a member of `src`; now it is one of `dst`."""
        return self._run(("SMOVE", src, dst, value), timeout)

    def sscan(
        self, name: Key, cursor: int = 0, match: Key | None = None, count: int | None = None, *, timeout: Timeout = None
    ) -> Any:
        """`(next cursor, members)`; 0 begins and ends. What is always there is given at least once."""
        return self._run(("SSCAN", name, cursor, *scan_options(match, count)), timeout)

    def sinter(self, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """Set of the members that all have."""
        return self._run(("SINTER", *key_list(keys, args)), timeout)

    def sintercard(self, numkeys: int, keys: list[Key], limit: int = 0, *, timeout: Timeout = None) -> Any:
        """How many members all have; counted up to `limit`, if that is not 0."""
        return self._run(("SINTERCARD", numkeys, *keys, "LIMIT", limit), timeout)

    def sinterstore(self, dest: Key, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """`sinter`, stored in `dest`; how many."""
        return self._run(("SINTERSTORE", dest, *key_list(keys, args)), timeout)

    def sunion(self, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """Set of the members that any has."""
        return self._run(("SUNION", *key_list(keys, args)), timeout)

    def sunionstore(self, dest: Key, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """`sunion`, stored in `dest`; how many."""
        return self._run(("SUNIONSTORE", dest, *key_list(keys, args)), timeout)

    def sdiff(self, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """Set of the members that the first has and no other."""
        return self._run(("SDIFF", *key_list(keys, args)), timeout)

    def sdiffstore(self, dest: Key, keys: Any, *args: Key, timeout: Timeout = None) -> Any:
        """`sdiff`, stored in `dest`; how many."""
        return self._run(("SDIFFSTORE", dest, *key_list(keys, args)), timeout)
