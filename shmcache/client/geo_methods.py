"""Commands on places as methods, with redis-py's names, arguments and results. Longitudes and latitudes are degrees; `unit` is m, km, ft or mi."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .arguments import Key, Value, flags

Timeout = float | None


class GeoMethods:
    """Every command on places. They are members of sorted sets."""

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    def geoadd(
        self, name: Key, values: Sequence[Value], nx: bool = False, xx: bool = False, ch: bool = False, *, timeout: Timeout = None
    ) -> Any:
        """How many members are new, with `ch` also the moved ones. `values`: longitude, latitude, member, and so on."""
        if nx and xx:
            raise DataError("geoadd: nx or xx")
        if len(values) % 3 != 0:
            raise DataError("geoadd takes places as longitude, latitude, member")
        return self._run(("GEOADD", name, *flags(nx=nx, xx=xx, ch=ch), *values), timeout)

    def geodist(self, name: Key, place1: Value, place2: Value, unit: str | None = None, *, timeout: Timeout = None) -> Any:
        """The distance, metres if `unit` says nothing else; None if a member is missing."""
        return self._run(("GEODIST", name, place1, place2, *(() if unit is None else (unit,))), timeout)

    def geohash(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """List of geohashes of 11 characters (str), None for a missing member."""
        return self._run(("GEOHASH", name, *values), timeout)

    def geopos(self, name: Key, *values: Value, timeout: Timeout = None) -> Any:
        """List of `(longitude, latitude)`, None for a missing member."""
        return self._run(("GEOPOS", name, *values), timeout)

    def georadius(
        self, name: Key, longitude: float, latitude: float, radius: float, unit: str | None = None, withdist: bool = False,
        withcoord: bool = False, withhash: bool = False, count: int | None = None, sort: str | None = None, store: Key | None = None,
        store_dist: Key | None = None, any: bool = False, *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """As `geosearch` within a radius of a place; with `store` or `store_dist`, a key of the same slot, how many are stored."""
        options = _options(withdist, withcoord, withhash, count, sort, any) + _store(store, store_dist)
        return self._run(("GEORADIUS", name, longitude, latitude, radius, unit or "m", *options), timeout)

    def georadiusbymember(
        self, name: Key, member: Value, radius: float, unit: str | None = None, withdist: bool = False, withcoord: bool = False,
        withhash: bool = False, count: int | None = None, sort: str | None = None, store: Key | None = None,
        store_dist: Key | None = None, any: bool = False, *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """As `georadius`, around a member."""
        options = _options(withdist, withcoord, withhash, count, sort, any) + _store(store, store_dist)
        return self._run(("GEORADIUSBYMEMBER", name, member, radius, unit or "m", *options), timeout)

    def geosearch(
        self, name: Key, member: Value | None = None, longitude: float | None = None, latitude: float | None = None, unit: str = "m",
        radius: float | None = None, width: float | None = None, height: float | None = None, sort: str | None = None,
        count: int | None = None, any: bool = False, withcoord: bool = False, withdist: bool = False, withhash: bool = False,
        *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """List of members around a member or a place, within a radius or a box.

        With `withdist`, `withhash`, `withcoord` each is a list: member, distance in `unit`, score (int), `(longitude, latitude)`. `sort`: ASC or DESC, by
        distance. `count`: at most so many, the nearest unless `any`.
        """
        options = _options(withdist, withcoord, withhash, count, sort, any)
        return self._run(("GEOSEARCH", name, *_shape(member, longitude, latitude, unit, radius, width, height), *options), timeout)

    def geosearchstore(
        self, dest: Key, name: Key, member: Value | None = None, longitude: float | None = None, latitude: float | None = None,
        unit: str = "m", radius: float | None = None, width: float | None = None, height: float | None = None, sort: str | None = None,
        count: int | None = None, any: bool = False, storedist: bool = False, *, timeout: Timeout = None,
    ) -> Any:  # fmt: skip
        """How many members, found as by `geosearch`, are stored under `dest`; with `storedist` their scores are the distances."""
        options = [*_options(False, False, False, count, sort, any), *flags(storedist=storedist)]
        shape = _shape(member, longitude, latitude, unit, radius, width, height)
        return self._run(("GEOSEARCHSTORE", dest, name, *shape, *options), timeout)


def _shape(
    member: Value | None, longitude: float | None, latitude: float | None, unit: str, radius: float | None, width: float | None,
    height: float | None,
) -> list[Any]:  # fmt: skip
    shape: list[Any] = []
    if member is not None:
        shape += ("FROMMEMBER", member)
    if longitude is not None and latitude is not None:
        shape += ("FROMLONLAT", longitude, latitude)
    if len(shape) not in (2, 3):
        raise DataError("a search starts from a member, or from longitude and latitude")
    if (radius is None) == (width is None or height is None):
        raise DataError("a search has a radius, or width and height")
    return [*shape, *(("BYBOX", width, height) if radius is None else ("BYRADIUS", radius)), unit]


def _options(withdist: bool, withcoord: bool, withhash: bool, count: int | None, sort: str | None, any: bool) -> list[Any]:
    if any and count is None:
        raise DataError("any needs a count")
    options: list[Any] = [] if sort is None else [sort]
    if count is not None:
        options += ("COUNT", count, *flags(any=any))
    return options + flags(withcoord=withcoord, withdist=withdist, withhash=withhash)


def _store(store: Key | None, store_dist: Key | None) -> list[Any]:
    if store is not None and store_dist is not None:
        raise DataError("store or store_dist")
    if store is not None:
        return ["STORE", store]
    return [] if store_dist is None else ["STOREDIST", store_dist]
