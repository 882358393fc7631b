"""One row for every command that the port knows: the engine's table, and what the gateway answers itself. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ...errors import CommandFailed
from ...protocol.commands import TABLE, CommandSpec, keys_in

Handler = Callable[[Any, list[Any]], Any]
"""(Connection, command) -> value, or a coroutine that is awaited when all earlier commands of the connection have been answered."""


@dataclass(slots=True, eq=False)
class Row:
    """How one command is answered. `name` in upper case; keys and arity as in the command table."""

    name: str
    arity: int
    first_key: int = 0
    last_key: int = 0
    key_step: int = 0
    flags: frozenset[str] = frozenset()
    summary: str = ""
    family: str = "server"
    handler: Handler | None = None
    """None: it goes to the shards."""
    is_async: bool = False
    local: bool = False
    numkeys: int = 0
    """Index of the argument that says how many keys follow it; 0 if there is none."""
    single: bool = False
    """It has one key, its first argument."""
    blocking: bool = False
    """It waits for a key if it finds nothing."""
    split: str = "none"
    """As in the command table."""
    runs: bool = False
    """One key, no waiting, the shards answer: it may be sent together with its like."""
    always: bool = False
    """Allowed in RESP2's subscribe mode."""
    at_once: bool = False
    """Not queued by MULTI."""

    def takes(self, args: list[Any]) -> bool:
        """Whether the number of arguments is right."""
        return len(args) == self.arity if self.arity >= 0 else len(args) >= -self.arity

    def keys_in(self, args: list[Any]) -> list[Any]:
        """The keys of a command; none where their number is wrong."""
        # A row says where keys are as a row of the command table does.
        return keys_in(self, args)  # type: ignore[arg-type]


def _of_engine(spec: CommandSpec) -> Row:
    single = spec.first_key == spec.last_key == 1 and spec.split == "none" and not spec.numkeys
    return Row(
        spec.name,
        spec.arity,
        spec.first_key,
        spec.last_key,
        spec.key_step,
        spec.flags,
        spec.summary,
        spec.family,
        # Keys of several slots are refused by a reader, and only there.
        local="local" in spec.flags and (single or spec.split != "none"),
        blocking="blocking" in spec.flags,
        numkeys=spec.numkeys,
        split=spec.split,
        runs=single and "blocking" not in spec.flags,
        single=single,
    )


ROWS: Final[dict[str, Row]] = {spec.name: _of_engine(spec) for spec in TABLE.values()}
_BY_WORD: Final[dict[bytes, Row]] = {}
_WORDS_MAX: Final = 10_000


def command(
    name: str, arity: int, summary: str, *flags: str, always: bool = False, at_once: bool = False, keys: tuple[int, int, int] = (0, 0, 0)
) -> Callable[[Handler], Handler]:
    """Register what answers a command. A coroutine function is a barrier: commands of the connection before it are answered first."""
    from inspect import iscoroutinefunction

    def register(handler: Handler) -> Handler:
        ROWS[name] = Row(
            name, arity, *keys, frozenset(flags), summary, handler=handler, is_async=iscoroutinefunction(handler), always=always, at_once=at_once
        )
        return handler

    return register


def find(word: bytes) -> Row | None:
    """The row of a command as a client spells it."""
    row = _BY_WORD.get(word)
    if row is None:
        row = ROWS.get(word.upper().decode("latin-1"))
        if row is not None and len(_BY_WORD) < _WORDS_MAX:
            _BY_WORD[word] = row
    return row


def unknown(args: list[bytes]) -> CommandFailed:
    """The error for a command that there is not."""
    shown = "".join(f"'{_text(part, 128)}' " for part in args[1:21])
    return CommandFailed("ERR", f"unknown command '{_text(args[0], 128)}', with args beginning with: {shown[:128]}")


def unknown_subcommand(args: list[Any]) -> CommandFailed:
    """The same for one of a command that has several."""
    return CommandFailed("ERR", f"unknown subcommand '{_text(args[1], 128)}'. Try {_text(args[0], 128).upper()} HELP.")


def not_subscribed(args: list[Any]) -> CommandFailed:
    """The error for a command that a subscriber in RESP2 may not give."""
    text = f"Can't execute '{_text(args[0], 128).lower()}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    return CommandFailed("ERR", text)


def wrong_arity(name: str) -> CommandFailed:
    """`name` as people say it: `get`, `config|get`."""
    return CommandFailed("ERR", f"wrong number of arguments for '{name.lower()}' command")


def _text(part: Any, most: int) -> str:
    return part[:most].decode("utf-8", "replace") if isinstance(part, bytes) else str(part)[:most]
