"""The command table seen from Python: keys of a command, its way over several shards, and back. No I/O.

`plan` turns one command into parts, one per shard that is concerned; `Plan.merge` turns the parts' results
(in the order of the parts) into the one result of the command. How each command splits stands in the engine's
table.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .. import _engine
from .._engine import CommandSpec, key_slot, key_slots
from ..errors import CommandFailed, CrossSlot, ResponseError
from . import frames
from .info import merge_info
from .scripts import SCRIPT_COMMANDS, merge_scripts

TABLE: Final[dict[str, CommandSpec]] = {spec.name: spec for spec in (*_engine.COMMANDS, *SCRIPT_COMMANDS)}
SCRIPTED: Final = frozenset(spec.name for spec in SCRIPT_COMMANDS)
"""Commands that the worker carries out, not the engine."""
LOCAL: Final = frozenset(spec.name for spec in _engine.COMMANDS if "local" in spec.flags)
"""Commands that a lock-free reader answers."""
READ_ONLY: Final = frozenset(spec.name for spec in TABLE.values() if "write" not in spec.flags)
REPEATABLE: Final = READ_ONLY | {spec.name for spec in TABLE.values() if "idempotent" in spec.flags}
"""Commands that may be sent again when their answer was lost."""
SINGLE_KEY: Final = frozenset(
    spec.name for spec in TABLE.values() if spec.first_key == 1 and spec.last_key == 1 and not spec.numkeys
)

_CONDITIONS: Final = frozenset(
    spelling
    for word in ("NX", "XX", "GET", "IFSTAMP")
    for spelling in (word, word.encode(), word.lower().encode())
)
"""Options of SET that make a repetition answer, or do, something else."""

Args = tuple[Any, ...]
"""One command: its name in upper case, then bytes, str or int."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard is asked; `slot` is any slot of that shard."""

    shard: int
    slot: int
    args: Args


@dataclass(frozen=True, slots=True)
class Plan:
    parts: tuple[Part, ...]
    merge: Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which shard owns which slot."""

    shard_of: Sequence[int]
    """16384 shard numbers."""
    slot_of: tuple[int, ...]
    """Shard -> one of its slots, for messages that concern no key."""

    @property
    def shards(self) -> int:
        return len(self.slot_of)

    @staticmethod
    def of(shard_of: Sequence[int], shards: int) -> "SlotMap":
        """A shard without slots is addressed by slot 0: no key leads there."""
        first: dict[int, int] = {}
        for slot, shard in enumerate(shard_of):
            first.setdefault(shard, slot)
        return SlotMap(shard_of, tuple(first.get(shard, 0) for shard in range(shards)))


def lookup(name: str) -> CommandSpec:
    """The row of a command (upper case). Raises `CommandFailed` (ERR), as the server would."""
    try:
        return TABLE[name]
    except KeyError:
        raise CommandFailed("ERR", f"unknown command '{name}'") from None


def key_positions(spec: CommandSpec, args: Args) -> Sequence[int]:
    """Indexes of the keys in `args`, whose index 0 is the name."""
    fixed = range(0)
    if spec.first_key:
        last = spec.last_key if spec.last_key > 0 else len(args) + spec.last_key
        fixed = range(spec.first_key, min(last, len(args) - 1) + 1, max(1, spec.key_step))
    if not spec.numkeys:
        return fixed
    try:
        count = int(args[spec.numkeys])
    except (ValueError, IndexError):
        count = 0
    first = spec.numkeys + 1
    # A map at the end is no argument (scripts.py).
    end = len(args) - (type(args[-1]) is dict)
    return [*fixed, *range(first, min(first + max(0, count), end))]


def keys_in(spec: CommandSpec, args: Args) -> list[Any]:
    """The keys of a command; none where their number is wrong."""
    return [args[at] for at in key_positions(spec, args)]


def is_repeatable(args: Args) -> bool:
    """Whether the command may be sent again when its answer was lost.

    The table speaks of the worst options of a command; SET without a condition and without GET is harmless.
    """
    if args[0] in REPEATABLE:
        return True
    return args[0] == "SET" and (
        len(args) == 3
        or _CONDITIONS.isdisjoint(
            option.upper() if isinstance(option, str) else option for option in args[3:]
        )
    )


def request_flags(commands: Sequence[Sequence[Any]], *, only_reads: bool) -> int:
    """Flags of a message with these commands that follow from what they are."""
    flags = frames.READ_ONLY if only_reads else 0
    return flags if SCRIPTED.isdisjoint([command[0] for command in commands]) else flags | frames.SCRIPTS


def slot_of_key(key: bytes | str | int) -> int:
    return key_slot(str(key) if type(key) is int else key)


def slots_of_keys(keys: Sequence[bytes | str | int]) -> list[int]:
    try:
        return key_slots(keys)
    except TypeError:
        return key_slots([str(key) if type(key) is int else key for key in keys])


def has_arity(spec: CommandSpec, args: Args) -> bool:
    return len(args) == spec.arity if spec.arity >= 0 else len(args) >= -spec.arity


def cross_slot(what: str) -> CrossSlot:
    return CrossSlot(
        "CROSSSLOT",
        f"the keys of {what} hash to different slots: give them a common {{hash tag}}, as in {{user1}}:name",
    )


def _first(results: list[Any]) -> Any:
    return results[0]


def _failure(results: list[Any]) -> ResponseError | None:
    return next((result for result in results if isinstance(result, ResponseError)), None)


def _total(results: list[Any]) -> Any:
    return _failure(results) or sum(results)


def _concatenation(results: list[Any]) -> Any:
    return _failure(results) or [item for result in results for item in result]


def _agreement(results: list[Any]) -> Any:
    return _failure(results) or results[0]


def _random_answer(results: list[Any]) -> Any:
    found = [result for result in results if result is not None]
    return _failure(results) or (random.choice(found) if found else None)


def _merged_info(results: list[Any]) -> Any:
    return _failure(results) or merge_info(results)


_MERGES: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "sum": _total,
    "concat": _concatenation,
    "ok": _agreement,
    "pairs": _agreement,
    "any": _random_answer,
    "text": _merged_info,
    "scripts": merge_scripts,
}


def plan(args: Args, slots: SlotMap, *, by_shard: bool = False) -> Plan:
    """How one command is asked. `by_shard`: keys that must meet may have different slots, if one shard owns them; else they must share a slot, so that
    a command means the same with any number of shards.

    Raises `CrossSlot`, and `CommandFailed` for an unknown command or a wrong cursor. A wrong number of
    arguments is left to the server to refuse.
    """
    spec = lookup(args[0])
    positions = key_positions(spec, args)
    if spec.split == "cursor":
        return _plan_cursor(args, slots)
    if not positions or not has_arity(spec, args):
        return _plan_without_keys(spec, args, slots)
    if len(positions) == 1:
        slot = slot_of_key(args[positions[0]])
        return Plan((Part(slots.shard_of[slot], slot, args),), _first)
    of_keys = slots_of_keys([args[at] for at in positions])
    if spec.split == "shard" or (by_shard and spec.split == "none"):
        if len({slots.shard_of[slot] for slot in of_keys}) > 1:
            raise cross_slot(args[0])
        return Plan((Part(slots.shard_of[of_keys[0]], of_keys[0], args),), _first)
    if spec.split == "none":
        if len(set(of_keys)) > 1:
            raise cross_slot(args[0])
        return Plan((Part(slots.shard_of[of_keys[0]], of_keys[0], args),), _first)
    if slots.shards == 1:
        return Plan((Part(0, of_keys[0], args),), _first)
    return _plan_split(spec, args, positions, of_keys, slots)


def _plan_without_keys(spec: CommandSpec, args: Args, slots: SlotMap) -> Plan:
    # PING, ECHO, TIME: every shard would say the same, so one is asked; RANDOMKEY must not miss the only key.
    one = spec.split in ("none", "values", "pairs", "shard") or (spec.split == "any" and spec.family == "server")
    if one or slots.shards == 1 or not has_arity(spec, args):
        return Plan((Part(0, slots.slot_of[0], args),), _first)
    parts = tuple(Part(shard, slot, args) for shard, slot in enumerate(slots.slot_of))
    return Plan(parts, _MERGES[spec.split])


def _plan_split(spec: CommandSpec, args: Args, positions: range, of_keys: list[int], slots: SlotMap) -> Plan:
    """Group the keys, each with the arguments up to the next key, by shard."""
    groups: dict[int, list[int]] = {}
    for number, slot in enumerate(of_keys):
        groups.setdefault(slots.shard_of[slot], []).append(number)
    step = positions.step
    parts = tuple(
        Part(
            shard,
            of_keys[numbers[0]],
            (args[0], *(part for n in numbers for part in args[positions[n] : positions[n] + step])),
        )
        for shard, numbers in groups.items()
    )
    if spec.split != "values":
        return Plan(parts, _MERGES[spec.split])
    order = list(groups.values())

    def in_order(results: list[Any]) -> Any:
        values: list[Any] = [None] * len(of_keys)
        for numbers, result in zip(order, results, strict=True):
            for number, value in zip(numbers, result, strict=True):
                values[number] = value
        return values

    return Plan(parts, lambda results: _failure(results) or in_order(results))


# --- SCAN over several shards ---------------------------------------------------------------------
# The public cursor is inner cursor * shards + shard. (0, 0) is the start, and because a shard that is done
# leads to (next shard, 0), 0 is never an intermediate cursor: it ends the scan.


def unpack_cursor(cursor: int, shards: int) -> tuple[int, int]:
    """Public cursor -> (shard, inner cursor)."""
    inner, shard = divmod(cursor, shards)
    return shard, inner


def pack_cursor(shard: int, inner: int, shards: int) -> int:
    """(Shard, its next inner cursor) -> public cursor; inner 0 means that the shard is done."""
    if inner == 0:
        return shard + 1 if shard + 1 < shards else 0
    return inner * shards + shard


def cursor_number(cursor: Any) -> int:
    """Raises `CommandFailed` as the server does."""
    try:
        number = int(cursor)
    except ValueError:
        number = -1
    if number < 0:
        raise CommandFailed("ERR", "invalid cursor")
    return number


def _plan_cursor(args: Args, slots: SlotMap) -> Plan:
    if len(args) < 2:
        return Plan((Part(0, slots.slot_of[0], args),), _first)
    shard, inner = unpack_cursor(cursor_number(args[1]), slots.shards)

    def merge(results: list[Any]) -> Any:
        result = results[0]
        if isinstance(result, ResponseError):
            return result
        return [pack_cursor(shard, int(result[0]), slots.shards), result[1]]

    return Plan((Part(shard, slots.slot_of[shard], (args[0], inner, *args[2:])),), merge)
