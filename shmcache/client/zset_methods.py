"""Commands on sorted sets as methods, with redis-py's names, arguments and results. The keys of one command share a slot.

Scores are floats. Bounds of scores are numbers, or text such as `"(1"` (without 1 itself), `"-inf"`, `"+inf"`; bounds of members are text: `"[a"`,
`"(a"`, `"-"`, `"+"`.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError
from .arguments import Key, Value, flags, key_list
from .hash_methods import scan_options

Timeout = float | None
Bound = float | str | bytes


class ZsetMethods:
    """Every command on sorted sets; those that wait do so as those on lists."""

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    @abstractmethod
    def _run_waiting(self, args: tuple[Any, ...]) -> Any: ...

    # --- single members ---------------------------------------------------------------------------
    def zadd(
        self, name: Key, mapping: Mapping[Any, float], nx: bool = False, xx: bool = False, ch: bool = False, incr: bool = False,
        gt: bool = False, lt: bool = False, *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """How many members are new, with `ch` also the changed ones; with `incr` the new score, None if an option forbade it.

        `mapping`: member -> score. Raises DataError if it is empty, or for options that do not go together.
        """
        if not mapping:
            raise DataError("zadd needs a member and its score")
        if incr and len(mapping) != 1:
            raise DataError("zadd with incr takes one member")
        if (nx and (xx or gt or lt)) or (gt and lt):
            raise DataError("zadd: nx, xx, gt and lt do not go together like that")
        pairs = [part for member, score in mapping.items() for part in (score, member)]
        return self._run(("ZADD", name, *flags(nx=nx, xx=xx, gt=gt, lt=lt, ch=ch, incr=incr), *pairs), timeout)

    def zincrby(self, name: Key, amount: float, value: Value, *, timeout: Timeout = None) -> Any:
        """The new score."""
        return self._run(("ZINCRBY", name, amount, value), timeout)

    def zrem(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """How many there were."""
        return self._run(("ZREM", name, *values), timeout)

    def zscore(self, name: Key, value: Value, *, timeout: Timeout = None) -> Any:
        """The score, None if there is no such member."""
        return self._run(("ZSCORE", name, value), timeout)

    def zmscore(self, key: Key, members: Sequence[Value], *, timeout: Timeout = None) -> Any:
        """List of scores, None for a missing member."""
        return self._run(("ZMSCORE", key, *members), timeout)

    def zrank(self, name: Key, value: Value, withscore: bool = False, *, timeout: Timeout = None) -> Any:
        """How many members stand before it, None if it is missing; with `withscore` `[rank, score]`."""
        return self._run(("ZRANK", name, value, *flags(withscore=withscore)), timeout)

    def zrevrank(self, name: Key, value: Value, withscore: bool = False, *, timeout: Timeout = None) -> Any:
        """How many members stand behind it, as `zrank`."""
        return self._run(("ZREVRANK", name, value, *flags(withscore=withscore)), timeout)

    # --- counting ---------------------------------------------------------------------------------
    def zcard(self, name: Key, *, timeout: Timeout = None) -> Any:
        """Number of members."""
        return self._run(("ZCARD", name), timeout)

    def zcount(self, name: Key, min: Bound, max: Bound, *, timeout: Timeout = None) -> Any:
        """How many scores lie in the range."""
        return self._run(("ZCOUNT", name, min, max), timeout)

    def zlexcount(self, name: Key, min: Value, max: Value, *, timeout: Timeout = None) -> Any:
        """How many members lie in the range, all having one score."""
        return self._run(("ZLEXCOUNT", name, min, max), timeout)

    # --- ranges -----------------------------------------------------------------------------------
    def zrange(
        self, name: Key, start: Bound, end: Bound, desc: bool = False, withscores: bool = False, byscore: bool = False, bylex: bool = False,
        offset: int | None = None, num: int | None = None, *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """List of members by rank (both ends included, negative from the end), score or member; with `withscores` of `(member, score)`."""
        options = flags(byscore=byscore, bylex=bylex, rev=desc)
        return self._run(("ZRANGE", name, start, end, *options, *_limit(offset, num), *flags(withscores=withscores)), timeout)

    def zrevrange(self, name: Key, start: int, end: int, withscores: bool = False, *, timeout: Timeout = None) -> Any:
        """As `zrange` by rank, the highest score first."""
        return self._run(("ZREVRANGE", name, start, end, *flags(withscores=withscores)), timeout)

    def zrangebyscore(
        self, name: Key, min: Bound, max: Bound, start: int | None = None, num: int | None = None, withscores: bool = False,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """List of members in a range of scores; with `withscores` of `(member, score)`."""
        return self._run(("ZRANGEBYSCORE", name, min, max, *_limit(start, num), *flags(withscores=withscores)), timeout)

    def zrevrangebyscore(
        self, name: Key, max: Bound, min: Bound, start: int | None = None, num: int | None = None, withscores: bool = False,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """As `zrangebyscore`, the highest score first."""
        return self._run(("ZREVRANGEBYSCORE", name, max, min, *_limit(start, num), *flags(withscores=withscores)), timeout)

    def zrangebylex(
        self, name: Key, min: Value, max: Value, start: int | None = None, num: int | None = None, *, timeout: Timeout = None
    ) -> Any:
        """List of members in a range of members, all having one score."""
        return self._run(("ZRANGEBYLEX", name, min, max, *_limit(start, num)), timeout)

    def zrevrangebylex(
        self, name: Key, max: Value, min: Value, start: int | None = None, num: int | None = None, *, timeout: Timeout = None
    ) -> Any:
        """As `zrangebylex`, backward."""
        return self._run(("ZREVRANGEBYLEX", name, max, min, *_limit(start, num)), timeout)

    def zrangestore(
        self, dest: Key, name: Key, start: Bound, end: Bound, byscore: bool = False, bylex: bool = False, desc: bool = False,
        offset: int | None = None, num: int | None = None, *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """How many members, found as by `zrange`, are stored under `dest`."""
        options = [*flags(byscore=byscore, bylex=bylex, rev=desc), *_limit(offset, num)]
        return self._run(("ZRANGESTORE", dest, name, start, end, *options), timeout)

    def zremrangebyrank(self, name: Key, min: int, max: int, *, timeout: Timeout = None) -> Any:
        """How many were removed."""
        return self._run(("ZREMRANGEBYRANK", name, min, max), timeout)

    def zremrangebyscore(self, name: Key, min: Bound, max: Bound, *, timeout: Timeout = None) -> Any:
        """How many were removed."""
        return self._run(("ZREMRANGEBYSCORE", name, min, max), timeout)

    def zremrangebylex(self, name: Key, min: Value, max: Value, *, timeout: Timeout = None) -> Any:
        """How many were removed."""
        return self._run(("ZREMRANGEBYLEX", name, min, max), timeout)

    # --- some members -----------------------------------------------------------------------------
    def zpopmin(self, name: Key, count: int | None = None, *, timeout: Timeout = None) -> Any:
        """List of `(member, score)`: that of the lowest score, or the `count` lowest; they are gone now."""
        return self._run(("ZPOPMIN", name, *(() if count is None else (count,))), timeout)

    def zpopmax(self, name: Key, count: int | None = None, *, timeout: Timeout = None) -> Any:
        """As `zpopmin`, the highest score first."""
        return self._run(("ZPOPMAX", name, *(() if count is None else (count,))), timeout)

    def zmpop(
        self, num_keys: int, keys: Sequence[Key], min: bool | None = False, max: bool | None = False, count: int | None = 1,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """`[key, [[member, score as bytes], ...]]` of the first sorted set that has any, or None."""
        return self._run(("ZMPOP", num_keys, *keys, *_end(min, max, count)), timeout)

    def zrandmember(self, key: Key, count: int | None = None, withscores: bool = False, *, timeout: Timeout = None) -> Any:
        """A random member or None; with `count` a list of some (a negative one may repeat some), with `withscores` each followed by its score as
        bytes."""
        return self._run(("ZRANDMEMBER", key, *(() if count is None else (count,)), *flags(withscores=withscores)), timeout)

    def zscan(self, name: Key, cursor: int = 0, match: Key | None = None, count: int | None = None, *, timeout: Timeout = None) -> Any:
        """`(next cursor, [(member, score), ...])`; 0 begins and ends. What keeps its score is given at least once."""
        return self._run(("ZSCAN", name, cursor, *scan_options(match, count)), timeout)

    # --- several sorted sets ----------------------------------------------------------------------
    def zunion(self, keys: Any, aggregate: str | None = None, withscores: bool = False, *, timeout: Timeout = None) -> Any:
        """List of members of any of the `keys` (a mapping: key -> weight), by score; with `withscores` of `(member, score)`.

        `aggregate`: SUM, MIN or MAX of the scores.
        """
        return self._run(("ZUNION", *_sources(keys, aggregate), *flags(withscores=withscores)), timeout)

    def zinter(self, keys: Any, aggregate: str | None = None, withscores: bool = False, *, timeout: Timeout = None) -> Any:
        """As `zunion`, the members of all."""
        return self._run(("ZINTER", *_sources(keys, aggregate), *flags(withscores=withscores)), timeout)

    def zdiff(self, keys: Any, withscores: bool = False, *, timeout: Timeout = None) -> Any:
        """List of the first one's members that no other has, by score; with `withscores` each followed by its score as bytes, as in redis-py."""
        return self._run(("ZDIFF", *_sources(keys, None), *flags(withscores=withscores)), timeout)

    def zunionstore(self, dest: Key, keys: Any, aggregate: str | None = None, *, timeout: Timeout = None) -> Any:
        """How many members are stored."""
        return self._run(("ZUNIONSTORE", dest, *_sources(keys, aggregate)), timeout)

    def zinterstore(self, dest: Key, keys: Any, aggregate: str | None = None, *, timeout: Timeout = None) -> Any:
        """How many members are stored."""
        return self._run(("ZINTERSTORE", dest, *_sources(keys, aggregate)), timeout)

    def zdiffstore(self, dest: Key, keys: Any, *, timeout: Timeout = None) -> Any:
        """How many members are stored."""
        return self._run(("ZDIFFSTORE", dest, *_sources(keys, None)), timeout)

    def zintercard(self, numkeys: int, keys: Sequence[Key], limit: int = 0, *, timeout: Timeout = None) -> Any:
        """How many members all have, counted up to `limit` (0: all)."""
        return self._run(("ZINTERCARD", numkeys, *keys, "LIMIT", limit), timeout)

    # --- waiting ----------------------------------------------------------------------------------
    def bzpopmin(self, keys: Any, timeout: float | None = 0) -> Any:
        """`(key, member, score)` of the lowest score in the first sorted set that has any, or None after `timeout` seconds."""
        return self._run_waiting(("BZPOPMIN", *key_list(keys, ()), timeout or 0))

    def bzpopmax(self, keys: Any, timeout: float | None = 0) -> Any:
        """As `bzpopmin`, of the highest score."""
        return self._run_waiting(("BZPOPMAX", *key_list(keys, ()), timeout or 0))

    def bzmpop(
        self, timeout: float, numkeys: int, keys: Sequence[Key], min: bool | None = False, max: bool | None = False, count: int | None = 1
    ) -> Any:
        """As `zmpop`; None after `timeout` seconds."""
        return self._run_waiting(("BZMPOP", timeout, numkeys, *keys, *_end(min, max, count)))


def _limit(offset: int | None, num: int | None) -> tuple[Any, ...]:
    if (offset is None) != (num is None):
        raise DataError("an offset and a number of members go together")
    return () if offset is None else ("LIMIT", offset, num)


def _end(lowest: bool | None, highest: bool | None, count: int | None) -> tuple[Any, ...]:
    if bool(lowest) == bool(highest):
        raise DataError("either min or max")
    return ("MIN" if lowest else "MAX", *(() if count is None else ("COUNT", count)))


def _sources(keys: Any, aggregate: str | None) -> list[Any]:
    weights = list(keys.values()) if isinstance(keys, Mapping) else []
    names = key_list(keys, ())
    options = [*(("WEIGHTS", *weights) if weights else ()), *(() if aggregate is None else ("AGGREGATE", aggregate))]
    return [len(names), *names, *options]
