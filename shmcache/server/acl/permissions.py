"""What one set of rules allows of commands and keys. A user has one, and one more for each selector. No I/O."""

from collections.abc import Iterable
from typing import Any, Final

from ...protocol.channels import compile_glob
from . import keys
from .keys import Described
from .names import full_name

Denial = tuple[str, str]
"""("command" | "key" | "channel", what is not allowed)."""
_ENCODING: Final = "utf-8", "surrogateescape"


def to_bytes(text: str) -> bytes:
    return text.encode(*_ENCODING)


class Permissions:
    """Begins with nothing allowed."""

    def __init__(self) -> None:
        self.commands: frozenset[str] = frozenset()
        self.first_args: dict[str, frozenset[str]] = {}
        """Commands that are allowed with these first arguments only."""
        self.all_keys = False
        self.keys: dict[tuple[str, int], Any] = {}
        """(Pattern, READ and WRITE) -> what matches a key."""

    def add_pattern(self, pattern: str, kind: int) -> None:
        """Allow keys like these to be read, written or both."""
        self.keys[pattern, kind] = compile_glob(to_bytes(pattern)).fullmatch

    def denial(self, row: Described, args: list[Any]) -> Denial | None:
        """None if the request is allowed, else why it is not."""
        name = full_name(row.name, args)
        if name not in self.commands and "no_auth" not in row.flags and not self._allows_first_arg(row.name, args):
            return "command", name.lower()
        if self.all_keys:
            return None
        for key, kind in keys.accesses(row, args):
            if not self._allows_key(key, kind):
                return "key", key.decode(*_ENCODING)
        if keys.reads_by_content(row, args) and not any(pattern == "*" and kind & keys.READ for pattern, kind in self.keys):
            return "key", args[1].decode(*_ENCODING)
        return None

    def _allows_first_arg(self, name: str, args: list[Any]) -> bool:
        return name in self.first_args and len(args) > 1 and args[1].lower().decode("latin-1") in self.first_args[name]

    def _allows_key(self, key: bytes, kind: int) -> bool:
        # One pattern must give all that is needed, as in Redis.
        return any(has & kind == kind and matches(key) for (_, has), matches in self.keys.items())


def first_denial(all_of: Iterable[Permissions], row: Described, args: list[Any]) -> Denial | None:
    """None if one of them allows it, else the most telling reason: a key or channel rather than the command."""
    worst: Denial = ("command", row.name.lower())
    for number, permissions in enumerate(all_of):
        found = permissions.denial(row, args)
        if found is None:
            return None
        if not number or (worst[0] == "command" and found[0] != "command"):
            worst = found
    return worst
