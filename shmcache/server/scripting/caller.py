"""For whom a script runs: what it calls must be allowed to the user who called it, as in Redis."""

from dataclasses import dataclass
from typing import Any, Final

from ...errors import CommandFailed
from ...protocol.commands import TABLE
from ...protocol.scripts import ANSWERED_ELSEWHERE
from ..acl.keys import Described
from ..acl.names import SUBCOMMANDS, parts
from ..acl.passing import unpacked
from ..acl.permissions import first_denial

_DENIED: Final = {
    "command": "The user executing the script can't run this command or subcommand",
    "key": "The user executing the script can't access at least one of the keys mentioned in the command arguments",
}


@dataclass(frozen=True, slots=True)
class _Keyless:
    """What the command table has no row for. `CommandSpec` says what the fields mean."""

    name: str
    flags: frozenset[str] = frozenset()
    first_key: int = 0
    last_key: int = 0
    key_step: int = 0
    numkeys: int = 0


SELECT: Final = _Keyless("SELECT")


class Caller:
    """Somebody who may not do everything. `rights`: what `acl.passing.packed` made."""

    __slots__ = ("_permissions",)

    def __init__(self, rights: bytes) -> None:
        """Raises CommandFailed."""
        self._permissions = unpacked(rights)

    def check(self, spec: Described, args: list[bytes]) -> None:
        """Raises CommandFailed if a script of theirs may not call this."""
        found = first_denial(self._permissions, spec, args)
        if found is not None:
            raise CommandFailed("ERR", _DENIED[found[0]])

    def may(self, name: str, args: list[bytes]) -> bool:
        """Whether `check` would pass; not for what no script can call."""
        spec: Any = SELECT if name == "SELECT" else TABLE.get(name)
        return spec is not None and first_denial(self._permissions, spec, args) is None


def verdict(caller: Caller | None, args: list[bytes]) -> bool | None:
    """redis.acl_check_cmd: None if there is no such command. `caller` None: somebody who may do everything."""
    name = args[0].upper().decode("latin-1")
    if not _is_command(name, args):
        return None
    return caller is None or caller.may(name, args)


def _is_command(name: str, args: list[bytes]) -> bool:
    """Whether there is such a command, and subcommand if one is given."""
    if name in SUBCOMMANDS and len(args) > 1 and args[1].upper().decode("latin-1") not in parts(name):
        return False
    return name in TABLE or name in ANSWERED_ELSEWHERE
