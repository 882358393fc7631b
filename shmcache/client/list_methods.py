"""The commands on lists as methods, with redis-py's names, arguments and results."""

from abc import abstractmethod
from typing import Any

from .arguments import Key, Value, key_list

Timeout = float | None


class ListMethods:
    """Part of `CommandMethods`.

    The methods that wait take the time that redis-py calls `timeout`: seconds, 0 or None for ever. They look again every few milliseconds; who
    waited longest is not served first. In a pipeline they do not wait.
    """

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    @abstractmethod
    def _run_waiting(self, args: tuple[Any, ...]) -> Any: ...

    # --- one end ----------------------------------------------------------------------------------
    def lpush(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """The new length. The last value is the first element then."""
        return self._run(("LPUSH", name, *values), timeout)

    def rpush(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """The new length."""
        return self._run(("RPUSH", name, *values), timeout)

    def lpushx(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """The new length, 0 if there is no list."""
        return self._run(("LPUSHX", name, *values), timeout)

    def rpushx(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """The new length, 0 if there is no list."""
        return self._run(("RPUSHX", name, *values), timeout)

    def lpop(self, name: Key, count: int | None = None, *, timeout: Timeout = None) -> Any:
        """The first element, with `count` a list of the first ones; None if there is no list."""
        return self._run(("LPOP", name, *_given(count)), timeout)

    def rpop(self, name: Key, count: int | None = None, *, timeout: Timeout = None) -> Any:
        """The last element, with `count` a list of the last ones, the last first; None if there is no list."""
        return self._run(("RPOP", name, *_given(count)), timeout)

    # --- by position or value ---------------------------------------------------------------------
    def llen(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Number of elements, 0 if there is no list."""
        return self._run(("LLEN", name), timeout)

    def lindex(self, name: Key, index: int, *, timeout: Timeout = None) -> Any:
        """The element at a position, negative from the end; None if there is none."""
        return self._run(("LINDEX", name, index), timeout)

    def lrange(self, name: Key, start: int, end: int, *, timeout: Timeout = None) -> Any:
        """List of the elements from `start` to `end`, both included, negative from the end."""
        return self._run(("LRANGE", name, start, end), timeout)

    def lset(self, name: Key, index: int, value: Value, *, timeout: Timeout = None) -> Any:
        """True. Raises CommandFailed if there is no such position."""
        return self._run(("LSET", name, index, value), timeout)

    def linsert(self, name: Key, where: str, refvalue: Value, value: Value, *, timeout: Timeout = None) -> Any:
        """The new length; -1 if no element equals `refvalue`, 0 if there is no list. `where` is BEFORE or AFTER."""
        return self._run(("LINSERT", name, where, refvalue, value), timeout)

    def lrem(self, name: Key, count: int, value: Value, *, timeout: Timeout = None) -> Any:
        """How many were removed: of the first `count`, for a negative number of the last ones, for 0 all."""
        return self._run(("LREM", name, count, value), timeout)

    def ltrim(self, name: Key, start: int, end: int, *, timeout: Timeout = None) -> Any:
        """True. What is not between `start` and `end`, both included, is removed."""
        return self._run(("LTRIM", name, start, end), timeout)

    def lpos(
        self, name: Key, value: Value, rank: int | None = None, count: int | None = None, maxlen: int | None = None,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """Position of the first (or `rank`-th, negative from the end) element that equals `value`, or None; with `count` a list of positions."""
        options: list[Any] = []
        for option, given in (("RANK", rank), ("COUNT", count), ("MAXLEN", maxlen)):
            if given is not None:
                options += (option, given)
        return self._run(("LPOS", name, value, *options), timeout)

    # --- several lists ----------------------------------------------------------------------------
    def lmove(self, first_list: Key, second_list: Key, src: str = "LEFT", dest: str = "RIGHT", *, timeout: Timeout = None) -> Any:
        """The element that moved from the end `src` of one list to the end `dest` of another, or None. Both share a slot."""
        return self._run(("LMOVE", first_list, second_list, src, dest), timeout)

    def rpoplpush(self, src: Key, dst: Key, *, timeout: Timeout = None) -> Any:
        """The element that moved from the end of `src` to the start of `dst`, or None. Both share a slot."""
        return self._run(("RPOPLPUSH", src, dst), timeout)

    def lmpop(self, num_keys: int, *args: Key, direction: str, count: int | None = 1, timeout: Timeout = None) -> Any:
        """`[key, elements]` of the first list that has any, or None. The keys share a slot."""
        return self._run(("LMPOP", num_keys, *args, direction, *_count(count)), timeout)

    # --- waiting ----------------------------------------------------------------------------------
    def blpop(self, keys: Any, timeout: float | None = 0) -> Any:
        """`(key, first element)` of the first list that has any, or None after `timeout` seconds. The keys share a slot."""
        return self._run_waiting(("BLPOP", *key_list(keys, ()), timeout or 0))

    def brpop(self, keys: Any, timeout: float | None = 0) -> Any:
        """`(key, last element)` of the first list that has any, or None after `timeout` seconds. The keys share a slot."""
        return self._run_waiting(("BRPOP", *key_list(keys, ()), timeout or 0))

    def brpoplpush(self, src: Key, dst: Key, timeout: float | None = 0) -> Any:
        """As `rpoplpush`; None after `timeout` seconds."""
        return self._run_waiting(("BRPOPLPUSH", src, dst, timeout or 0))

    def blmove(self, first_list: Key, second_list: Key, timeout: float, src: str = "LEFT", dest: str = "RIGHT") -> Any:
        """As `lmove`; None after `timeout` seconds."""
        return self._run_waiting(("BLMOVE", first_list, second_list, src, dest, timeout))

    def blmpop(self, timeout: float, numkeys: int, *args: Key, direction: str, count: int | None = 1) -> Any:
        """As `lmpop`; None after `timeout` seconds."""
        return self._run_waiting(("BLMPOP", timeout, numkeys, *args, direction, *_count(count)))


def _given(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)


def _count(count: int | None) -> tuple[Any, ...]:
    return () if count is None else ("COUNT", count)
