"""MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

import asyncio
from typing import Any, Final

from ...client.exchange import Deadline
from ...client.transactions import Divided, divide, over_shards
from ...errors import CommandFailed, ResponseError, ShmcacheError
from ...limits import RESP_QUEUED_COMMANDS_MAX, RESP_TIMEOUT_S
from ...protocol import frames
from ...protocol.codec import encode_commands
from ...protocol.commands import READ_ONLY, SlotMap, request_flags, slot_of_key
from . import watching
from .lanes import Group
from .replies import NIL_ARRAY
from .rows import Row, command, unknown, wrong_arity
from .shapes import shaped

_FORBIDDEN: Final = frozenset({"WATCH", "MULTI"})
_FLAGS: Final = ("noscript", "loading", "stale", "fast")


class Transaction:
    """Commands between MULTI and EXEC."""

    __slots__ = ("commands", "is_broken")

    def __init__(self) -> None:
        self.commands: list[tuple[Row, list[Any]]] = []
        self.is_broken = False

    @property
    def writes(self) -> bool:
        return any("write" in row.flags for row, _ in self.commands)


class Collected:
    """Where the results of a group go."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[list[Any]] = loop.create_future()

    def take(self, results: list[Any]) -> None:
        if not self.future.done():
            self.future.set_result(results)


def queue(client: Any, row: Row | None, args: list[Any]) -> Any:
    """Take a command into the transaction of a connection; the reply."""
    transaction: Transaction = client.transaction
    if row is not None and row.name == "EXEC":
        # It has arguments; it ends the transaction all the same.
        client.transaction = None
        watching.forget(client)
        client.refresh()
        return ResponseError("EXECABORT", f"Transaction discarded because of: {wrong_arity('exec').message}")
    error: Exception | None = None
    if row is None:
        error = unknown(args)
    elif not row.takes(args):
        error = wrong_arity(row.name)
    elif "no_multi" in row.flags:
        error = CommandFailed("ERR", "Command not allowed inside a transaction")
    elif len(transaction.commands) >= RESP_QUEUED_COMMANDS_MAX:
        error = CommandFailed("ERR", f"a transaction has at most {RESP_QUEUED_COMMANDS_MAX} commands")
    if error is not None:
        transaction.is_broken = True
        return error
    assert row is not None
    transaction.commands.append((row, args))
    return "QUEUED"


@command("MULTI", 1, "Begin a transaction.", *_FLAGS, at_once=True)
def multi(client: Any, args: list[bytes]) -> Any:
    if client.transaction is not None:
        raise CommandFailed("ERR", "MULTI calls can not be nested")
    client.transaction = Transaction()
    client.refresh()
    return "OK"


@command("DISCARD", 1, "Forget the transaction.", *_FLAGS, at_once=True)
def discard(client: Any, args: list[bytes]) -> Any:
    if client.transaction is None:
        raise CommandFailed("ERR", "DISCARD without MULTI")
    client.transaction = None
    watching.forget(client)
    client.refresh()
    return "OK"


@command("WATCH", -2, "Let the transaction fail if one of these keys is changed.", *_FLAGS, at_once=True, keys=(1, -1, 1))
async def watch(client: Any, args: list[bytes]) -> Any:
    if client.transaction is not None:
        raise CommandFailed("ERR", "WATCH inside MULTI is not allowed")
    if client.watched is None:
        client.watched = watching.Watched(client.gateway)
    await client.watched.add(args[1:])
    return "OK"


@command("UNWATCH", 1, "Forget what is watched.", *_FLAGS)
def unwatch(client: Any, args: list[bytes]) -> Any:
    watching.forget(client)
    return "OK"


@command("EXEC", 1, "Carry out the transaction.", "noscript", "loading", "stale", at_once=True)
async def execute(client: Any, args: list[bytes]) -> Any:
    transaction, watched = client.transaction, client.watched or {}
    if transaction is None:
        raise CommandFailed("ERR", "EXEC without MULTI")
    is_touched = bool(watched) and watched.is_touched()
    client.transaction = None
    watching.forget(client)
    client.refresh()
    if transaction.is_broken:
        raise ResponseError("EXECABORT", "Transaction discarded because of previous errors.")
    if is_touched:
        return NIL_ARRAY
    gateway = client.gateway
    # Its slots are to be those of the route.
    gateway.attachment()
    refused = _refused(client, transaction)
    signed = gateway.guard.signed
    engine = [(row, signed(client, row, [row.name, *args[1:]])) for at, (row, args) in enumerate(transaction.commands) if row.handler is None and at not in refused]
    commands = [args for _, args in engine]
    guarded, divided = _divided(gateway, commands, watched)
    unguarded = {key: stamp for key, stamp in watched.items() if key not in guarded}
    if unguarded and await watching.stamps(gateway, list(unguarded)) != list(unguarded.values()):
        return NIL_ARRAY
    results: list[Any] = []
    tracking = client.tracking
    read = [key for row, args in engine if row.name in READ_ONLY for key in row.keys_in(args)] if tracking is not None and tracking.wants() else []
    if tracking is not None:
        tracking.caching = None
    gateway.tracking.remember(read, client)
    if engine:
        guard = watching.guard(guarded)
        results = await _run(gateway, [guard, *commands] if guard else commands, divided)
        if read:
            gateway.tracking.look_again(read, tracking)
        if guard:
            if watching.is_conflict(results[0]):
                return NIL_ARRAY
            results = results[1:]
        if all(isinstance(result, ShmcacheError) and not isinstance(result, ResponseError) for result in results):
            # Refused as a whole, or its outcome is unknown: not a list of results.
            raise results[0]
    return await _assembled(client, transaction, iter(results), refused)


def _refused(client: Any, transaction: Transaction) -> dict[int, ShmcacheError]:
    """Commands, by their places, that the client's user may give no longer: its rules have changed meanwhile."""
    if not client.restricted:
        return {}
    found = ((at, client.gateway.guard.refusal(client, row, args, "multi")) for at, (row, args) in enumerate(transaction.commands))
    return {at: error for at, error in found if error is not None}


def _divided(gateway: Any, commands: list[list[Any]], watched: dict[bytes, int]) -> tuple[dict[bytes, int], Divided]:
    """A transaction by shards, and the watched keys that the check at its head is for. Raises CrossSlot."""
    slots: SlotMap = gateway.slots
    if not commands:
        return {}, Divided([], [])
    guard = watching.guard(watched)
    if guard is None or slots is gateway.route.slots:
        return watched, divide([guard, *commands] if guard else commands, slots, by_shard=True)
    # The primary elsewhere takes one shard's message: a check for its keys goes with it.
    divided = divide(commands, slots, by_shard=True)
    guarded = {key: stamp for key, stamp in watched.items() if slots.shard_of[slot_of_key(key)] == divided.batches[0].shard}
    guard = watching.guard(guarded)
    return guarded, divide([guard, *commands], slots, by_shard=True) if guard else divided


async def _run(gateway: Any, commands: list[list[Any]], divided: Divided) -> list[Any]:
    """The results of the shards' part: one message in one shard's lane, else in two phases. Raises ShmcacheError."""
    if len(divided.batches) > 1:
        lanes, begun = gateway.lanes, gateway.loop.time()
        found: list[Any] = await lanes.run(over_shards(gateway.route, divided, gateway.slots, Deadline.after(RESP_TIMEOUT_S)))
        lanes.commands += len(commands)
        if (took := gateway.loop.time() - begun) >= lanes.slow_s:
            lanes.slow(took, encode_commands(commands), [])
        return found
    (batch,) = divided.batches
    collected = Collected(gateway.loop)
    flags = frames.TRANSACTION | request_flags(commands, only_reads=False)
    gateway.lanes.add_group(batch.shard, Group(batch.slot, commands, flags, collected))
    return await collected.future


async def _assembled(client: Any, transaction: Transaction, results: Any, refused: dict[int, ShmcacheError]) -> list[Any]:
    """The replies in order: the shard's, and those that the gateway gives itself."""
    replies: list[Any] = []
    for at, (row, args) in enumerate(transaction.commands):
        if at in refused:
            replies.append(refused[at])
            continue
        if row.handler is None:
            replies.append(shaped(client.resp, row.name, args, next(results)))
            continue
        try:
            value = row.handler(client, args)
            replies.append(await value if row.is_async else value)
        except ShmcacheError as error:
            replies.append(error)
    return replies
