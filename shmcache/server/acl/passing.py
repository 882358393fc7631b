"""What a user may do, packed by a gateway for the worker that runs the user's script. No I/O.

A message carries the rights themselves, not a name: a worker knows no users, and what a replica forwards is carried out by another instance, which has
users of its own. Commands are told by name: those that are not allowed if the rules begin with +@all, else those that are. So a command that the other
release does not know is treated as Redis treats one of a new module. Only commands that a script can call are told of.

    msgpack [[begins with +@all, [command], {command: [first argument]}, null or [[pattern, kind]]]]     null: all keys
"""

import functools
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgpack

from ...errors import CommandFailed
from ...limits import ACL_PASSED_CACHED, ACL_PASSED_CACHED_BYTES_MAX
from ...protocol.commands import TABLE
from .keys import READ, WRITE
from .names import parts
from .permissions import Permissions, to_bytes

CALLABLE: Final = frozenset({"SELECT", *TABLE, *(f"{name}|{part}" for name in TABLE for part in parts(name))})
"""SELECT 0 is answered though no shard knows it."""
_KINDS: Final = frozenset({READ, WRITE, READ | WRITE})


class Ruled(Protocol):
    """Permissions that were made of rules."""

    begins_with_all: bool
    commands: frozenset[str]
    first_args: dict[str, frozenset[str]]
    all_keys: bool
    keys: dict[tuple[str, int], Any]


def packed(all_of: Sequence[Ruled]) -> bytes:
    """Of a user: the root and the selectors."""
    return bytes(msgpack.packb([_told(one) for one in all_of]))


def _told(one: Ruled) -> list[Any]:
    listed = CALLABLE - one.commands if one.begins_with_all else CALLABLE & one.commands
    first_args = {name: sorted(map(to_bytes, words)) for name, words in one.first_args.items() if name in CALLABLE}
    patterns = None if one.all_keys else [[to_bytes(pattern), kind] for pattern, kind in one.keys]
    return [one.begins_with_all, sorted(listed), first_args, patterns]


def unpacked(data: bytes) -> tuple[Permissions, ...]:
    """Raises CommandFailed: what cannot be read allows nothing."""
    return _known(data) if len(data) <= ACL_PASSED_CACHED_BYTES_MAX else _unpacked(data)


def _unpacked(data: bytes) -> tuple[Permissions, ...]:
    try:
        return tuple(_read(*one) for one in msgpack.unpackb(data))
    except (ValueError, TypeError, AttributeError) as error:
        raise CommandFailed("ERR", f"the rights of the user cannot be read: {error!r}") from None


_known = functools.lru_cache(ACL_PASSED_CACHED)(_unpacked)


def _read(begins_with_all: bool, listed: list[str], first_args: dict[str, list[bytes]], patterns: list[tuple[bytes, int]] | None) -> Permissions:
    made = Permissions()
    made.commands = CALLABLE - frozenset(listed) if begins_with_all is True else CALLABLE & frozenset(listed)
    made.first_args = {name: frozenset(word.decode("utf-8", "surrogateescape") for word in words) for name, words in first_args.items()}
    made.all_keys = patterns is None
    for pattern, kind in patterns or ():
        if kind not in _KINDS:
            raise ValueError(f"no kind of access: {kind!r}")
        made.add_pattern(pattern.decode("utf-8", "surrogateescape"), kind)
    return made
