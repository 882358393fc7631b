"""What writers write: items of one or more keys whose values follow from key and version alone. And the
verdict on what is found later. Pure functions, but for `write`.
"""

import zlib
from collections.abc import Sequence
from typing import Any

SET, INCR, MSET, TRANSACTION, SPREAD = KINDS = range(5)
"""A key that is set and now and then deleted; a counter; two keys of one slot, by one MSET; two keys and a
counter of one slot, by a transaction; keys of several shards, by one MSET, which is not atomic.
"""
NOT_REPEATABLE = (INCR, TRANSACTION)
"""A client never sends these twice, so an error other than OutcomeUnknown promises that nothing was executed.
"""
_DELETED_EVERY = 7
_LARGE_EVERY = 61
_LARGE_BYTES = 40_000


def keys_of(kind: int, writer: int, number: int) -> list[bytes]:
    """The keys of an item; those of MSET and TRANSACTION share a slot by their hash tag."""
    name = b"%d:%d" % (writer, number)
    if kind == MSET:
        return [b"{%b}a" % name, b"{%b}b" % name]
    if kind == TRANSACTION:
        return [b"{%b}a" % name, b"{%b}n" % name, b"{%b}b" % name]
    if kind == SPREAD:
        return [b"%b:%d" % (name, part) for part in range(4)]
    return [name]


def is_counter(kind: int, place: int) -> bool:
    """Whether the item's key at that place holds a number."""
    return kind == INCR or (kind == TRANSACTION and place == 1)


def value_of(key: bytes, version: int) -> bytes:
    """A value that no other key and version has; 20 to 3000 bytes, now and then 40 KB."""
    seed = zlib.crc32(b"%b %d" % (key, version))
    size = _LARGE_BYTES if version % _LARGE_EVERY == 0 else seed % 3000
    return b"%b %d " % (key, version) + seed.to_bytes(4, "little") * (size // 4 + 1)


def expected(kind: int, place: int, key: bytes, version: int) -> bytes | None:
    """What the key holds after the write of that version; version 0 is before the first."""
    if version == 0 or (kind == SET and version % _DELETED_EVERY == 0):
        return None
    return b"%d" % version if is_counter(kind, place) else value_of(key, version)


def version_of(kind: int, place: int, found: bytes) -> int:
    """The version that a found value claims to be; -1 if it is none of ours."""
    try:
        return int(found) if is_counter(kind, place) else int(found.split(b" ", 2)[1])
    except (ValueError, IndexError):
        return -1


def write(cache: Any, kind: int, keys: Sequence[bytes], version: int) -> None:
    """Send one version and check its reply. AssertionError if a counter counted wrong."""
    if kind == INCR:
        assert (counted := cache.incr(keys[0])) == version, f"{keys[0]!r}: {counted} instead of {version}"
    elif kind == TRANSACTION:
        pipeline = cache.pipeline(transaction=True)
        pipeline.set(keys[0], value_of(keys[0], version)).incr(keys[1]).set(
            keys[2], value_of(keys[2], version)
        )
        results = pipeline.execute()
        assert results == [True, version, True], f"{keys[1]!r}: {results} instead of {version}"
    elif kind == SET and version % _DELETED_EVERY == 0:
        cache.delete(keys[0])
    elif kind == SET:
        assert cache.set(keys[0], value_of(keys[0], version)) is True
    else:
        assert cache.mset({key: value_of(key, version) for key in keys}) is True


def live_problem(
    kind: int, place: int, key: bytes, found: bytes | None, acknowledged: int, intended: int
) -> str | None:
    """What is wrong with a value read while its writer works: `acknowledged` is from before the read,
    `intended` from after.
    """
    if found is None:
        if any(expected(kind, place, key, version) is None for version in range(acknowledged, intended + 1)):
            return None
        return f"{key!r} is gone; acknowledged {acknowledged}, intended {intended}"
    version = version_of(kind, place, found)
    if not acknowledged <= version <= intended:
        return f"{key!r} has version {version}; acknowledged {acknowledged}, intended {intended}"
    if found != expected(kind, place, key, version):
        return f"{key!r} has a value that was never written: {found[:60]!r}, {len(found)} bytes"
    return None


def final_problem(
    kind: int,
    keys: Sequence[bytes],
    found: Sequence[bytes | None],
    acknowledged: int,
    intended: int,
    refused: bool,
) -> str | None:
    """What is wrong with an item that is written no more: it must stand at what was acknowledged, or, if the
    last write's outcome is unknown, at that one; all its keys at the same, SPREAD excepted.
    """
    allowed = {acknowledged} if refused else {acknowledged, intended}
    states = [
        {version for version in allowed if expected(kind, place, key, version) == value}
        for place, (key, value) in enumerate(zip(keys, found, strict=True))
    ]
    agree = all(states) if kind == SPREAD else bool(set.intersection(*states))
    if agree:
        return None
    seen = [None if value is None else value[:40] for value in found]
    bounds = f"acknowledged {acknowledged}, intended {intended}, refused {refused}"
    return f"{keys[0]!r}, kind {kind}: {seen}; {bounds}"
