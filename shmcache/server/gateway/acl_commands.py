"""ACL: users, rules, and what was refused."""

import secrets
import time
from pathlib import Path
from typing import Any, Final

from ...errors import CommandFailed, ConfigError
from ...limits import ACL_GENPASS_BITS_MAX, ACL_LOG_SHOWN, ACL_USERS_MAX
from .acl import categories
from .acl.shared import read_users, text_of, write_beside
from .acl.users import DEFAULT, BadRule, User, check_name, default_user, merged
from .arguments import integer, word
from .connection import Connection
from .rows import command, find, unknown_subcommand, wrong_arity

_NO_FILE: Final = "There is no ACL file: start with --resp-acl-file to keep users in one"


def _text(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@command("ACL", -2, "Users and their rights.", "noscript", "loading", "stale", "nomonitor")
def acl(client: Connection, args: list[bytes]) -> Any:
    name = word(args[1])
    found = _SUBCOMMANDS.get(name)
    if found is None:
        raise unknown_subcommand(args)
    least, most, handler = found
    if not least <= len(args) <= (most or len(args)):
        raise wrong_arity(f"acl|{name}")
    return handler(client, args)


def _whoami(client: Connection, args: list[bytes]) -> Any:
    return _bytes(client.user)


def _users(client: Connection, args: list[bytes]) -> Any:
    return [_bytes(name) for name in sorted(client.gateway.guard.users)]


def _list(client: Connection, args: list[bytes]) -> Any:
    return [_bytes(user.line) for _, user in sorted(client.gateway.guard.users.items())]


def set_user(guard: Any, name: str, rules: list[str]) -> None:
    """Make or change a user, all of it or nothing. Raises CommandFailed."""

    def change(users: dict[str, User]) -> dict[str, User]:
        if name not in users and len(users) >= ACL_USERS_MAX:
            raise CommandFailed("ERR", f"there are at most {ACL_USERS_MAX} users")
        user = users[name].copy() if name in users else User(name)
        for rule in merged(rules):
            try:
                user.apply(rule)
            except BadRule as error:
                raise CommandFailed("ERR", f"Error in ACL SETUSER modifier '{rule}': {error}") from None
        return users | {name: user}

    try:
        check_name(name)
        guard.change(change)
    except BadRule as error:
        raise CommandFailed("ERR", str(error)) from None


def _setuser(client: Connection, args: list[bytes]) -> Any:
    set_user(client.gateway.guard, _text(args[2]), [_text(part) for part in args[3:]])
    return "OK"


def _deluser(client: Connection, args: list[bytes]) -> Any:
    names = {_text(part) for part in args[2:]}
    if DEFAULT in names:
        raise CommandFailed("ERR", "The 'default' user cannot be removed")
    guard = client.gateway.guard
    there = names & set(guard.users)
    if there:
        guard.change(lambda users: {name: user for name, user in users.items() if name not in there})
    return len(there)


def _getuser(client: Connection, args: list[bytes]) -> Any:
    user = client.gateway.guard.users.get(_text(args[2]))
    if user is None:
        return None
    return {
        b"flags": [_bytes(flag) for flag in user.flags],
        b"passwords": [_bytes(one) for one in user.passwords],
        **_shown(user.root),
        b"selectors": [_shown(selector) for selector in user.selectors],
    }


def _shown(permissions: Any) -> dict[bytes, Any]:
    return {
        b"commands": _bytes(permissions.commands_text),
        b"keys": _bytes(permissions.keys_text),
        b"channels": _bytes(permissions.channels_text),
    }


def _cat(client: Connection, args: list[bytes]) -> Any:
    if len(args) == 2:
        return [name.encode() for name in categories.CATEGORIES]
    found = categories.members(_text(args[2]).lower()) if args[2].lower() != b"all" else None
    if found is None:
        raise CommandFailed("ERR", f"Unknown category '{_text(args[2])[:128]}'")
    return [name.lower().encode() for name in sorted(found)]


def _genpass(client: Connection, args: list[bytes]) -> Any:
    bits = integer(args[2]) if len(args) > 2 else 256
    if not 1 <= bits <= ACL_GENPASS_BITS_MAX:
        raise CommandFailed(
            "ERR", f"ACL GENPASS argument must be the number of bits for the output password, a positive number up to {ACL_GENPASS_BITS_MAX}"
        )
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits].encode()


def _log(client: Connection, args: list[bytes]) -> Any:
    journal = client.gateway.guard.journal
    if len(args) > 2 and word(args[2]) == "RESET":
        journal.clear()
        return "OK"
    return journal.shown(integer(args[2]) if len(args) > 2 else ACL_LOG_SHOWN, time.time())


def _load(client: Connection, args: list[bytes]) -> Any:
    guard = client.gateway.guard
    if not guard.acl_file:
        raise CommandFailed("ERR", _NO_FILE)
    try:
        users = read_users(Path(guard.acl_file))
    except ConfigError as error:
        raise CommandFailed("ERR", f"{error}. WARNING: nothing was changed") from None
    # A file without the default user leaves that one as it is: it must not open the port.
    guard.change(lambda old: users if DEFAULT in users else {DEFAULT: old.get(DEFAULT) or default_user()} | users)
    return "OK"


def _save(client: Connection, args: list[bytes]) -> Any:
    guard = client.gateway.guard
    if not guard.acl_file:
        raise CommandFailed("ERR", _NO_FILE)
    try:
        write_beside(Path(guard.acl_file), text_of(guard.users))
    except OSError as error:
        client.gateway.log.error("the ACL file cannot be written", path=guard.acl_file, reason=error.strerror)
        raise CommandFailed("ERR", "There was an error trying to save the ACLs. Please check the server logs for more information") from None
    return "OK"


def _dryrun(client: Connection, args: list[bytes]) -> Any:
    user = client.gateway.guard.users.get(_text(args[2]))
    if user is None:
        raise CommandFailed("ERR", f"User '{_text(args[2])}' not found")
    row = find(args[3])
    if row is None:
        raise CommandFailed("ERR", f"Command '{_text(args[3])}' not found")
    if not row.takes(args[3:]):
        raise wrong_arity(row.name)
    found = user.denial(row, args[3:])
    if found is None:
        return "OK"
    kind, what = found
    return _bytes(f"This user has no permissions to {'run' if kind == 'command' else 'access'} the '{what}' {kind}")


def _help(client: Connection, args: list[bytes]) -> Any:
    return [
        "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CAT [<category>]: the categories, or the commands of one.",
        "DELUSER <username> [...]: remove users and end their connections.",
        "DRYRUN <username> <command> [<arg> ...]: whether a user may do that.",
        "GENPASS [<bits>]: a random password in hexadecimal, of 256 bits.",
        "GETUSER <username>: what a user may do.",
        "LIST: the users as they stand in an ACL file.",
        "LOAD: take the users of the ACL file.",
        "LOG [<count> | RESET]: what was refused lately, by this gateway.",
        "SAVE: write the users to the ACL file.",
        "SETUSER <username> <rule> [...]: make or change a user.",
        "USERS: their names.",
        "WHOAMI: the user of this connection.",
    ]


_SUBCOMMANDS: Final[dict[str, tuple[int, int, Any]]] = {
    "CAT": (2, 3, _cat),
    "DELUSER": (3, 0, _deluser),
    "DRYRUN": (4, 0, _dryrun),
    "GENPASS": (2, 3, _genpass),
    "GETUSER": (3, 3, _getuser),
    "HELP": (2, 2, _help),
    "LIST": (2, 2, _list),
    "LOAD": (2, 2, _load),
    "LOG": (2, 3, _log),
    "SAVE": (2, 2, _save),
    "SETUSER": (3, 0, _setuser),
    "USERS": (2, 2, _users),
    "WHOAMI": (2, 2, _whoami),
}
"""Least and most words (0: any), and what answers."""
