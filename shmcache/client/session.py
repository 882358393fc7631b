"""One client's commands as exchanges: plan, pack, exchange, unpack, merge.

No waiting here: what needs more than one message is a generator of steps.
"""

import time
from collections.abc import Generator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from .._engine import MAX_BATCH_COMMANDS
from ..errors import (
    CommandFailed,
    LimitExceeded,
    Moved,
    OutcomeUnknown,
    OutOfMemory,
    ReadOnly,
    ResponseError,
    ShardFull,
    ShmcacheError,
    WrongType,
)
from ..limits import CLIENT_BATCH_COMMANDS_MAX, MESSAGE_BYTES_MAX, REQUEST_BYTES_SOFT_MAX, WAIT_MARGIN_MS
from ..protocol import frames
from ..protocol.codec import decode_results, encode_commands, encode_control
from ..protocol.commands import (
    READ_ONLY,
    SINGLE_KEY,
    Args,
    Plan,
    SlotMap,
    plan,
    request_flags,
    slot_of_key,
    slots_of_keys,
)
from .exchange import Deadline, Request, Step, exchange
from .options import NO_OPTIONS, RequestOptions
from .policy import refusal_error
from .routes import LocalRoute, RouterRoute

BATCH_COMMANDS_MAX = min(CLIENT_BATCH_COMMANDS_MAX, MAX_BATCH_COMMANDS)


@dataclass(slots=True)
class Batch:
    """Commands of one shard in their order, and for each the place of its result among all parts."""

    shard: int
    slot: int
    commands: list[Args]
    places: list[int]
    payload: bytes | None = None
    """The packed commands, if they are packed already."""


def command_steps(
    route: LocalRoute | RouterRoute, args: Args, deadline: Deadline, options: RequestOptions = NO_OPTIONS, *, by_shard: bool = False
) -> Generator[Step, Any, Any]:
    """Ask the owners for one command; returns its raw result. `by_shard`: as in `plan`. Raises ShmcacheError."""
    yield from route.prepare(deadline)
    if args[0] == "WAIT":
        return (yield from _wait_steps(route, args, deadline))
    for is_last in (False, True):
        planned = plan(args, route.slots if args[0] in READ_ONLY else route.write_slots, by_shard=by_shard)
        requests = [_request(part.shard, part.slot, part.args, options) for part in planned.parts]
        yield from exchange(route, requests, deadline)
        results = [_results_of(request)[0] for request in requests]
        if is_last or not all(isinstance(result, Moved) for result in results):
            break
        # Nothing of it was executed.
        route.forget()
        yield from route.prepare(deadline)
    unknown = next((result for result in results if isinstance(result, OutcomeUnknown)), None)
    if unknown is not None:
        raise unknown
    result = planned.merge(results)
    if isinstance(result, ResponseError):
        raise result
    return result


def _wait_steps(route: LocalRoute | RouterRoute, args: Args, deadline: Deadline) -> Generator[Step, Any, int]:
    """WAIT replicas timeout_ms: how many replicas have everything that was written before, on every shard."""
    try:
        replicas, timeout_ms = (int(part) for part in args[1:])
    except ValueError:
        raise CommandFailed("ERR", "WAIT takes a number of replicas and a timeout in ms") from None
    left_ms = max(1, int((deadline.at - time.monotonic()) * 1000) - WAIT_MARGIN_MS)
    # 0 is "as long as it takes", which here is as long as the call may.
    arguments = {"replicas": replicas, "timeout_ms": min(timeout_ms or left_ms, left_ms)}
    payload = encode_control("wait", arguments)
    requests = [Request(shard, slot, frames.CONTROL, payload) for shard, slot in enumerate(route.slots.slot_of)]
    yield from exchange(route, requests, deadline)
    answers = []
    for request in requests:
        if not isinstance(request.outcome, bytes):
            assert request.outcome is not None
            raise request.outcome
        answers.append(int(decode_results(request.outcome)[0]))
    return min(answers)


def _with_options(flags: int, payload: bytes, options: RequestOptions) -> tuple[int, bytes]:
    front = options.for_reads if flags & frames.READ_ONLY else options.for_writes
    return (flags | frames.OPTIONS, front + payload) if front else (flags, payload)


def _request(shard: int, slot: int, args: Args, options: RequestOptions) -> Request:
    commands = (args,)
    flags = request_flags(commands, only_reads=args[0] in READ_ONLY)
    flags, payload = _with_options(flags, encode_commands(commands), options)
    return Request(shard, slot, flags, checked(payload), commands)


def sole_request(
    route: LocalRoute | RouterRoute, args: Args, options: RequestOptions = NO_OPTIONS
) -> Request | None:
    """The one message that a command with one key needs; None if it is another one or the route not known
    yet.
    """
    slots = route.known if route.ready else None
    if slots is None or args[0] not in SINGLE_KEY or len(args) < 2:
        return None
    slot = slot_of_key(args[1])
    return _request(slots.shard_of[slot], slot, args, options)


def sole_result(request: Request) -> Any:
    """The raw result of a sole request's command. Raises ShmcacheError."""
    result = _results_of(request)[0]
    if isinstance(result, ShmcacheError):
        raise result
    return result


def checked(payload: bytes) -> bytes:
    """The payload, unless it is too long for a message. Raises LimitExceeded."""
    if len(payload) > MESSAGE_BYTES_MAX:
        raise LimitExceeded(f"a message of {len(payload)} bytes is over the limit of {MESSAGE_BYTES_MAX}")
    return payload


def _results_of(request: Request) -> list[Any]:
    """The results of one message, errors in their places. Raises its failure."""
    outcome = request.outcome
    if isinstance(outcome, bytes):
        results = decode_results(outcome)
        if len(results) == len(request.commands):
            return _with_doubts(request.commands, results) if request.may_have_happened else results
        raise ShmcacheError(f"{len(results)} results for {len(request.commands)} commands")
    assert outcome is not None
    raise outcome


_NOT_NOW = (ReadOnly, Moved, OutOfMemory, ShardFull, WrongType)
"""Errors of a command that another moment would not have brought."""


def _with_doubts(commands: Sequence[Args], results: list[Any]) -> list[Any]:
    """Results of a message that was sent twice: a write that was refused the second time may have happened the first."""
    return [
        refusal_error(result, may_have_happened=True) if isinstance(result, _NOT_NOW) and command[0] not in READ_ONLY else result
        for command, result in zip(commands, results, strict=True)
    ]


def sole_batch(
    route: LocalRoute | RouterRoute, commands: Sequence[Args], names: Set[str], options: RequestOptions = NO_OPTIONS
) -> Request | None:
    """The one message of a pipeline to an instance of one shard; None if it may take more or needs a plan."""
    if not route.ready or route.slots.shards > 1 or (not names <= READ_ONLY and route.write_slots.shards > 1):
        return None
    if not names <= SINGLE_KEY or len(commands) > BATCH_COMMANDS_MAX:
        return None
    # Packing is the cheapest way to learn the size, and nearly always it is small.
    payload = encode_commands(commands)
    if len(payload) > REQUEST_BYTES_SOFT_MAX:
        return None
    flags = frames.READ_ONLY if names <= READ_ONLY else 0
    flags, payload = _with_options(flags, payload, options)
    return Request(0, route.slots.slot_of[0], flags, payload, commands)


def batch_results(request: Request) -> list[Any]:
    """Raw results of one batch, errors in their places: its own if it failed as a whole."""
    try:
        return _results_of(request)
    except ShmcacheError as error:
        # The shards answer for themselves: what happened on the others stays visible.
        return [error] * len(request.commands)


def pipeline_steps(
    route: LocalRoute | RouterRoute,
    commands: Sequence[Args],
    deadline: Deadline,
    options: RequestOptions = NO_OPTIONS,
    *,
    is_last: bool = False,
    by_shard: bool = False,
) -> Generator[Step, Any, list[Any]]:
    """Run many commands, shards in parallel, each shard's in order; raw results, errors in their places. `by_shard`: as in `plan`."""
    yield from route.prepare(deadline)
    slots = slots_for(route, commands)
    # Split by the primary's slots, all of it goes there, its reads too: here they would not be one shard's.
    with_reads = slots is route.slots
    batches, merges = group(commands, slots, by_shard=by_shard)
    results: list[Any] = [None] * sum(len(batch.places) for batch in batches)
    # Messages of one shard go out one after the other, so that a retry cannot overtake its successor.
    queues = [list(split(batch)) for batch in batches]
    while queues:
        sent = [queue.pop(0) for queue in queues]
        requests = [batch_request(batch, options, with_reads=with_reads) for batch in sent]
        yield from exchange(route, requests, deadline)
        for batch, request in zip(sent, requests, strict=True):
            for place, answer in zip(batch.places, batch_results(request), strict=True):
                results[place] = answer
        queues = [queue for queue in queues if queue]
    if merges is not None:
        results = [merged(merge, results, places) for merge, places in merges]
    if not is_last and has_moved(results):
        results = yield from moved_steps(route, commands, results, deadline, options)
    return results


def slots_for(route: LocalRoute | RouterRoute, commands: Sequence[Args]) -> SlotMap:
    """By which commands that belong together are divided."""
    return route.slots if {command[0] for command in commands} <= READ_ONLY else route.write_slots


def has_moved(results: list[Any]) -> bool:
    """Whether a shard was asked that does not own a command's slot."""
    return Moved in map(type, results)


def moved_steps(
    route: LocalRoute | RouterRoute, commands: Sequence[Args], results: list[Any], deadline: Deadline, options: RequestOptions = NO_OPTIONS
) -> Generator[Step, Any, list[Any]]:
    """`results` without those that say MOVED: these commands were not executed, and are sent once more.

    Only among commands with one key: all of one key have met the same shard, so their order stays. Else the next call will do better.
    """
    route.forget()
    if not SINGLE_KEY.issuperset({command[0] for command in commands}):
        return results
    places = [place for place, result in enumerate(results) if type(result) is Moved]
    again = yield from pipeline_steps(route, [commands[place] for place in places], deadline, options, is_last=True)
    found = list(results)
    for place, result in zip(places, again, strict=True):
        found[place] = result
    return found


Merge = tuple[Plan | ResponseError | None, Sequence[int]]
"""How a command's results become one: merged by its plan, the only one, or an error that needed no server."""


def merged(merge: Plan | ResponseError | None, results: list[Any], places: Sequence[int]) -> Any:
    if merge is None:
        return results[places[0]]
    if isinstance(merge, ResponseError):
        return merge
    answers = [results[place] for place in places]
    broken = next((answer for answer in answers if isinstance(answer, ShmcacheError)), None)
    return broken if broken is not None else merge.merge(answers)


def batch_request(batch: Batch, options: RequestOptions, *, with_reads: bool, transaction: bool = False) -> Request:
    """`with_reads`: a batch that only reads is one."""
    names = {command[0] for command in batch.commands}
    flags = frames.TRANSACTION if transaction else 0
    flags |= request_flags(batch.commands, only_reads=with_reads and names <= READ_ONLY)
    payload = encode_commands(batch.commands) if batch.payload is None else batch.payload
    flags, payload = _with_options(flags, payload, options)
    return Request(batch.shard, batch.slot, flags, checked(payload), batch.commands)


def group(commands: Sequence[Args], slots: SlotMap, *, by_shard: bool = False) -> tuple[list[Batch], list[Merge] | None]:
    """Commands by shard, and how results make up the commands' results; None: one each, in order.

    A command that cannot be planned (unknown, keys of several slots; `by_shard`: of several shards) fails in its place, as on a server.
    """
    if SINGLE_KEY.issuperset({command[0] for command in commands}) and min(map(len, commands)) > 1:
        return _group_by_key(commands, slots), None
    batches: dict[int, Batch] = {}
    merges: list[Merge] = []
    place = 0
    key_slots = iter(slots_of_keys([c[1] for c in commands if c[0] in SINGLE_KEY and len(c) > 1]))
    for command in commands:
        merge: Plan | ResponseError | None = None
        if command[0] in SINGLE_KEY and len(command) > 1:
            slot = next(key_slots)
            parts = [(slots.shard_of[slot], slot, command)]
        else:
            try:
                merge = plan(command, slots, by_shard=by_shard)
                parts = [(part.shard, part.slot, part.args) for part in merge.parts]
            except ResponseError as error:
                merge, parts = error, []
        for shard, slot, args in parts:
            batch = batches.get(shard)
            if batch is None:
                batch = batches[shard] = Batch(shard, slot, [], [])
            batch.commands.append(args)
            batch.places.append(place)
            place += 1
        merges.append((merge, range(place - len(parts), place)))
    return list(batches.values()), merges


def _group_by_key(commands: Sequence[Args], slots: SlotMap) -> list[Batch]:
    """As `group`, for commands that all have one key."""
    batches: dict[int, Batch] = {}
    shard_of = slots.shard_of
    for place, slot in enumerate(slots_of_keys([command[1] for command in commands])):
        shard = shard_of[slot]
        batch = batches.get(shard)
        if batch is None:
            batch = batches[shard] = Batch(shard, slot, [], [])
        batch.commands.append(commands[place])
        batch.places.append(place)
    return list(batches.values())


def _size(command: Args) -> int:
    return 16 + sum(len(part) if type(part) is not int else 9 for part in command)


def split(batch: Batch) -> list[Batch]:
    """A batch as batches within the limits."""
    if len(batch.commands) <= BATCH_COMMANDS_MAX:
        batch.payload = encode_commands(batch.commands)
        if len(batch.payload) <= REQUEST_BYTES_SOFT_MAX:
            return [batch]
    pieces = []
    current = Batch(batch.shard, batch.slot, [], [])
    size = 0
    for command, place in zip(batch.commands, batch.places, strict=True):
        more = _size(command)
        full = len(current.commands) == BATCH_COMMANDS_MAX or size + more > REQUEST_BYTES_SOFT_MAX
        if current.commands and full:
            pieces.append(current)
            current, size = Batch(batch.shard, batch.slot, [], []), 0
        current.commands.append(command)
        current.places.append(place)
        size += more
    return [*pieces, current]
