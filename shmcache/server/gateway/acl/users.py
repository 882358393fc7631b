"""Users: a name, passwords as SHA-256, rules. And the lines in which they stand in a file. No I/O."""

import functools
import hashlib
import hmac
import re
from typing import Any, Final

from ....limits import ACL_PASSWORDS_MAX, ACL_SELECTORS_MAX, ACL_USERS_MAX
from ...acl.passing import packed
from ...acl.permissions import Denial, first_denial, to_bytes
from ..rows import Row
from .rules import SYNTAX, BadRule, Rules

DEFAULT: Final = "default"
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def digest(password: bytes) -> str:
    """How a password is kept: SHA-256 in hexadecimal."""
    return hashlib.sha256(password).hexdigest()


class User:
    """Begins disabled, without a password and without rights."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_on = self.needs_no_password = False
        self.passwords: list[str] = []
        self.root = Rules()
        self.selectors: list[Rules] = []

    def copy(self) -> "User":
        other = User(self.name)
        other.is_on, other.needs_no_password, other.passwords = self.is_on, self.needs_no_password, [*self.passwords]
        other.root, other.selectors = self.root.copy(), [selector.copy() for selector in self.selectors]
        return other

    def apply(self, rule: str) -> None:
        """One rule, as ACL SETUSER takes it; a selector in one piece. Raises BadRule."""
        match rule.lower():
            case "on" | "off":
                self.is_on = rule.lower() == "on"
            case "nopass":
                self.needs_no_password, self.passwords = True, []
            case "resetpass":
                self.needs_no_password, self.passwords = False, []
            case "reset":
                self.__init__(self.name)  # type: ignore[misc]
            case "clearselectors":
                self.selectors = []
            case "" | "sanitize-payload" | "skip-sanitize-payload":
                pass
            case _ if rule[:1] in (">", "#"):
                self._add_password(digest(to_bytes(rule[1:])) if rule[0] == ">" else _checked(rule[1:]))
            case _ if rule[:1] in ("<", "!"):
                found = digest(to_bytes(rule[1:])) if rule[0] == "<" else _checked(rule[1:])
                if found not in self.passwords:
                    raise BadRule("The password you are trying to remove from the user does not exist")
                self.passwords.remove(found)
            case _ if rule[:1] == "(" and rule[-1:] == ")":
                if len(self.selectors) >= ACL_SELECTORS_MAX:
                    raise BadRule(f"more than {ACL_SELECTORS_MAX} selectors")
                selector = Rules()
                for part in rule[1:-1].split():
                    selector.apply(part)
                self.selectors.append(selector)
            case _:
                self.root.apply(rule)

    def _add_password(self, found: str) -> None:
        if found not in self.passwords:
            if len(self.passwords) >= ACL_PASSWORDS_MAX:
                raise BadRule(f"more than {ACL_PASSWORDS_MAX} passwords")
            self.passwords.append(found)
        self.needs_no_password = False

    @property
    def flags(self) -> list[str]:
        return ["on" if self.is_on else "off", *(["nopass"] if self.needs_no_password else [])]

    @property
    def line(self) -> str:
        """As it stands in a file and in ACL LIST."""
        parts = [*self.flags, *("#" + one for one in self.passwords), self.root.text, *(f"({one.text})" for one in self.selectors)]
        return f"user {self.name} {' '.join(parts)}"

    @property
    def may_everything(self) -> bool:
        return self.root.is_everything

    @property
    def is_open(self) -> bool:
        """Whoever connects is this user if it is the default one."""
        return self.is_on and self.needs_no_password

    def accepts(self, password: bytes) -> bool:
        """All of them are compared, each in constant time."""
        found = digest(password)
        matches = [hmac.compare_digest(found, one) for one in self.passwords]
        return self.is_on and (self.needs_no_password or any(matches))

    @functools.cached_property
    def for_scripts(self) -> bytes:
        """What a worker that runs a script of this user has to know. The rules of a user that is in force do not change: a change makes another one."""
        return packed((self.root, *self.selectors))

    def denial(self, row: Row, args: list[Any]) -> Denial | None:
        """None if it may, else (kind, what), as `Permissions.denial`."""
        return first_denial((self.root, *self.selectors), row, args)

    def allows_channel(self, name: bytes, is_pattern: bool) -> bool:
        return any(one.allows_channel(name, is_pattern) for one in (self.root, *self.selectors))


def _checked(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise BadRule("The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters")
    return text


def default_user(password: str = "") -> User:
    """The one that new connections are: it may do everything, with this password or without any."""
    user = User(DEFAULT)
    for rule in ("on", ">" + password if password else "nopass", "~*", "&*", "+@all"):
        user.apply(rule)
    return user


def merged(words: list[str]) -> list[str]:
    """Rules, with each selector in one piece. Raises BadRule."""
    found: list[str] = []
    begun: list[str] = []
    for word in words:
        if begun or word.startswith("("):
            begun.append(word)
            if word.endswith(")"):
                found.append(" ".join(begun))
                begun = []
        else:
            found.append(word)
    if begun:
        raise BadRule(f"Unmatched parenthesis in acl selector starting at '{begun[0]}'.")
    return found


def check_name(name: str) -> None:
    """Raises BadRule."""
    if not name or any(sign in name for sign in " \t\n\r\v\f\0"):
        raise BadRule("Usernames can't contain spaces or null characters")


def parse(text: str, known: dict[str, User]) -> dict[str, User]:
    """Users by name out of the text of a file. `known`: users by their lines, taken instead of reading the line again.

    Raises BadRule with the number of the line. The default user is not added.
    """
    users: dict[str, User] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            user = known.get(line) or _parse_line(line)
            if user.name in users:
                raise BadRule(f"the user '{user.name}' stands here for a second time")
            if len(users) >= ACL_USERS_MAX:
                raise BadRule(f"more than {ACL_USERS_MAX} users")
        except BadRule as error:
            raise BadRule(f"line {number}: {error}") from None
        users[user.name] = user
    return users


def _parse_line(line: str) -> User:
    words = line.split()
    if words[0].lower() != "user" or len(words) < 2:
        raise BadRule(f"it begins with {words[0]!r}, not with 'user NAME'")
    check_name(words[1])
    user = User(words[1])
    for rule in merged(words[2:]):
        try:
            user.apply(rule)
        except BadRule as error:
            shown = rule if rule[:1] not in (">", "<", "#", "!") else rule[0] + "..."
            raise BadRule(f"'{shown}': {error}") from None
    return user


__all__ = ["DEFAULT", "SYNTAX", "BadRule", "User", "check_name", "default_user", "digest", "merged", "parse"]
