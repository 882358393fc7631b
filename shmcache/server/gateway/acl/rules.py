"""Permissions as rules make them, and the rules that stand for them; here with channels. No I/O."""

from typing import Any, Final

from ....limits import ACL_RULES_MAX
from ....protocol.channels import compile_glob
from ...acl import keys
from ...acl.keys import Described
from ...acl.names import has_parts
from ...acl.permissions import Denial, Permissions, to_bytes
from . import categories

_SPACES: Final = frozenset(" \t\n\r\v\f\0")
_SUBSCRIBING: Final = {"SUBSCRIBE": False, "SSUBSCRIBE": False, "PUBLISH": False, "SPUBLISH": False, "PSUBSCRIBE": True}
"""Commands on channels; True: on patterns."""


class BadRule(Exception):
    """Why a rule cannot be, in Redis' words."""


SYNTAX: Final = "Syntax error"
_UNKNOWN: Final = "Unknown command or category name in ACL"


class Rules(Permissions):
    """Begins with nothing allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        """The rules on commands in their order, behind +@all or -@all."""
        self.begins_with_all = self.all_channels = False
        self.channels: dict[str, Any] = {}

    def copy(self) -> "Rules":
        other = Rules()
        other.commands, other.words, other.begins_with_all = self.commands, [*self.words], self.begins_with_all
        other.first_args = dict(self.first_args)
        other.all_keys, other.all_channels = self.all_keys, self.all_channels
        other.keys, other.channels = dict(self.keys), dict(self.channels)
        return other

    # --- rules --------------------------------------------------------------------------------------
    def apply(self, rule: str) -> None:
        """Raises BadRule."""
        low = rule.lower()
        match low:
            case "allkeys" | "~*":
                self.all_keys, self.keys = True, {}
            case "resetkeys":
                self.all_keys, self.keys = False, {}
            case "allchannels" | "&*":
                self.all_channels, self.channels = True, {}
            case "resetchannels":
                self.all_channels, self.channels = False, {}
            case "allcommands" | "+@all":
                self._begin(True)
            case "nocommands" | "-@all":
                self._begin(False)
            case _ if low[:1] in ("~", "%"):
                self._add_key(rule)
            case _ if low[:1] == "&":
                self._add_channel(rule[1:])
            case _ if low[:1] in ("+", "-"):
                self._change_commands(low)
            case _:
                raise BadRule(SYNTAX)
        if len(self.words) + len(self.keys) + len(self.channels) > ACL_RULES_MAX:
            raise BadRule(f"more than {ACL_RULES_MAX} rules")

    def _begin(self, everything: bool) -> None:
        self.commands = categories.members("all") or frozenset() if everything else frozenset()
        self.begins_with_all, self.words, self.first_args = everything, [], {}

    def _add_key(self, rule: str) -> None:
        kind, pattern = keys.READ | keys.WRITE, rule[1:]
        if rule[0] == "%":
            letters, tilde, pattern = rule[1:].partition("~")
            if not tilde or not letters or set(letters.upper()) - {"R", "W"}:
                raise BadRule(SYNTAX)
            kind = sum({"R": keys.READ, "W": keys.WRITE}[letter] for letter in set(letters.upper()))
        if _SPACES & set(pattern):
            raise BadRule(SYNTAX)
        if self.all_keys:
            raise BadRule(
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
                "Try 'resetkeys' to start with an empty list of patterns"
            )
        if pattern == "*" and kind == keys.READ | keys.WRITE:
            self.all_keys, self.keys = True, {}
            return
        for other in (keys.READ, keys.WRITE):
            if kind != other and self.keys.pop((pattern, other), None) is not None:
                kind |= other
        if (pattern, keys.READ | keys.WRITE) not in self.keys:
            self.add_pattern(pattern, kind)

    def _add_channel(self, pattern: str) -> None:
        if _SPACES & set(pattern):
            raise BadRule(SYNTAX)
        if self.all_channels:
            raise BadRule(
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. "
                "Try 'resetchannels' to start with an empty list of channels"
            )
        self.channels[pattern] = compile_glob(to_bytes(pattern)).fullmatch

    def _change_commands(self, rule: str) -> None:
        adds, target = rule[0] == "+", rule[1:]
        if target.startswith("@"):
            concerned = categories.members(target[1:])
        else:
            concerned = categories.with_parts(target.upper())
            if concerned is None and adds and "|" in target:
                return self._add_first_arg(target)
        if concerned is None:
            raise BadRule(_UNKNOWN)
        self.commands = self.commands | concerned if adds else self.commands - concerned
        gone = {"+" + target, "-" + target}
        if not target.startswith("@"):
            self.first_args.pop(target.upper(), None)
            self.words = [word for word in self.words if not word[1:].startswith(target + "|")]
        else:
            for name in concerned & set(self.first_args):
                del self.first_args[name]
        self.words = [word for word in self.words if word not in gone]
        self.words.append(rule)

    def _add_first_arg(self, target: str) -> None:
        """`+select|0`: a command without subcommands, if its first argument is this."""
        name, _, arg = target.partition("|")
        parent = name.upper()
        if categories.with_parts(parent) is None:
            raise BadRule(_UNKNOWN)
        if not arg:
            raise BadRule(SYNTAX)
        if "|" in arg:
            raise BadRule("Allowing first-arg of a subcommand is not supported" if has_parts(parent) else SYNTAX)
        if has_parts(parent):
            raise BadRule(_UNKNOWN)
        self.first_args[parent] = self.first_args.get(parent, frozenset()) | {arg}
        word = "+" + target
        if word not in self.words:
            self.words.append(word)

    # --- as text ------------------------------------------------------------------------------------
    @property
    def commands_text(self) -> str:
        return " ".join(["+@all" if self.begins_with_all else "-@all", *self.words])

    @property
    def keys_text(self) -> str:
        if self.all_keys:
            return "~*"
        shown = {keys.READ: "%R~", keys.WRITE: "%W~", keys.READ | keys.WRITE: "~"}
        return " ".join(shown[kind] + pattern for pattern, kind in self.keys)

    @property
    def channels_text(self) -> str:
        return "&*" if self.all_channels else " ".join("&" + pattern for pattern in self.channels)

    @property
    def text(self) -> str:
        """All of it, as rules."""
        channels = "&*" if self.all_channels else " ".join(filter(None, ("resetchannels", self.channels_text)))
        return " ".join(filter(None, (self.keys_text, channels, self.commands_text)))

    # --- checks -------------------------------------------------------------------------------------
    @property
    def is_everything(self) -> bool:
        """Nothing needs to be looked at."""
        return self.all_keys and self.all_channels and self.commands == categories.members("all")

    def denial(self, row: Described, args: list[Any]) -> Denial | None:
        """As `Permissions.denial`, channels included."""
        found = super().denial(row, args)
        if found is None and row.name in _SUBSCRIBING and not self.all_channels:
            names = args[1:2] if row.name in ("PUBLISH", "SPUBLISH") else args[1:]
            for channel in names:
                if not self.allows_channel(channel, _SUBSCRIBING[row.name]):
                    return "channel", channel.decode("utf-8", "surrogateescape")
        return found

    def allows_channel(self, name: bytes, is_pattern: bool) -> bool:
        """A pattern must be allowed as it is written: what it matches is not looked at."""
        if self.all_channels:
            return True
        if is_pattern:
            return name.decode("utf-8", "surrogateescape") in self.channels
        return any(matches(name) for matches in self.channels.values())
