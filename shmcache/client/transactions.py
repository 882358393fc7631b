"""Transactions: one message if all of it lies in one shard, else in two phases over the shards of one instance.

The shards are prepared one after the other in ascending order, so that two transactions never wait for each other: each shard runs its part, keeps it
back and is held. When all are prepared the first shard decides by committing its part, and the others follow. A shard whose coordinator is gone finds the
decision, or that there is none, by itself (`server/preparing.py`), so nothing here needs to be cleaned up.
"""

import random
import secrets
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .._engine import MAX_DECISION_SHARDS
from ..errors import (
    CacheTimeout,
    LimitExceeded,
    Moved,
    OutcomeUnknown,
    ProtocolError,
    ReadOnly,
    ResponseError,
    ShmcacheError,
    Unavailable,
)
from ..limits import TRANSACTION_LEASE_MS
from ..protocol import frames
from ..protocol.codec import decode_results, encode_commands, encode_control
from ..protocol.commands import (
    READ_ONLY,
    Args,
    Part,
    Plan,
    SlotMap,
    cross_slot,
    has_arity,
    key_positions,
    lookup,
    plan,
    request_flags,
    slots_of_keys,
)
from .exchange import Deadline, Receive, Request, Step, exchange
from .options import NO_OPTIONS, RequestOptions
from .policy import retry_delay
from .routes import LocalRoute, RouterRoute
from .session import (
    BATCH_COMMANDS_MAX,
    Batch,
    Merge,
    batch_request,
    batch_results,
    checked,
    merged,
    slots_for,
)

_GUARD: Final = "CHECKSTAMP"


@dataclass(frozen=True, slots=True)
class Divided:
    """A transaction's part for each shard, in ascending order, and how their results make up the commands'."""

    batches: list[Batch]
    merges: list[Merge]

    def merged(self, results: Sequence[Sequence[Any]]) -> list[Any]:
        """The commands' results from those of the batches."""
        found: list[Any] = [None] * sum(len(batch.places) for batch in self.batches)
        for batch, answers in zip(self.batches, results, strict=True):
            for place, answer in zip(batch.places, answers, strict=True):
                found[place] = answer
        return [merged(merge, found, places) for merge, places in self.merges]


def divide(commands: Sequence[Args], slots: SlotMap, *, by_shard: bool = False) -> Divided:
    """A transaction by shards. `by_shard` as in `plan`. Raises `CrossSlot` for a command whose keys must meet and do not, `CommandFailed`."""
    planned = [_plan(command, slots, by_shard, is_first=number == 0) for number, command in enumerate(commands)]
    anywhere = [_is_anywhere(command, one) for command, one in zip(commands, planned, strict=True)]
    fixed = [part for one, is_anywhere in zip(planned, anywhere, strict=True) if not is_anywhere for part in one.parts]
    home = min(fixed, key=lambda part: part.shard, default=Part(slots.shard_of[slots.slot_of[0]], slots.slot_of[0], ()))
    batches: dict[int, Batch] = {}
    merges: list[Merge] = []
    place = 0
    for command, one, is_anywhere in zip(commands, planned, anywhere, strict=True):
        parts = (Part(home.shard, home.slot, command),) if is_anywhere else one.parts
        for part in parts:
            batch = batches.setdefault(part.shard, Batch(part.shard, part.slot, [], []))
            batch.commands.append(part.args)
            batch.places.append(place)
            place += 1
        merges.append((one, range(place - len(parts), place)))
    if not commands:
        batches[home.shard] = Batch(home.shard, home.slot, [], [])
    return Divided([batches[shard] for shard in sorted(batches)], merges)


def _is_anywhere(command: Args, planned: Plan) -> bool:
    """Whether any shard answers it alike: it joins the others."""
    spec = lookup(command[0])
    return len(planned.parts) == 1 and spec.split != "cursor" and not (has_arity(spec, command) and key_positions(spec, command))


def _plan(command: Args, slots: SlotMap, by_shard: bool, *, is_first: bool) -> Plan:
    if is_first and command[0] == _GUARD and len(command) > 2 and len(command) % 2:
        return _plan_guard(command, slots)
    return plan(command, slots, by_shard=by_shard)


def _plan_guard(command: Args, slots: SlotMap) -> Plan:
    """A check at the head stands at the head of each shard's part, for the keys there."""
    groups: dict[int, tuple[int, list[Any]]] = {}
    for at, slot in zip(range(1, len(command), 2), slots_of_keys(command[1::2]), strict=True):
        groups.setdefault(slots.shard_of[slot], (slot, []))[1].extend(command[at : at + 2])
    parts = tuple(Part(shard, slot, (_GUARD, *pairs)) for shard, (slot, pairs) in groups.items())
    return Plan(parts, lambda results: results[0])


def transaction_steps(
    route: LocalRoute | RouterRoute, commands: Sequence[Args], deadline: Deadline, options: RequestOptions = NO_OPTIONS
) -> Generator[Step, Any, list[Any]]:
    """All commands as one transaction; raw results, errors in their places. Raises `CrossSlot`, `LimitExceeded`, and what `over_shards` does."""
    yield from route.prepare(deadline)
    if len(commands) > BATCH_COMMANDS_MAX:
        raise LimitExceeded(f"a transaction of {len(commands)} commands; at most {BATCH_COMMANDS_MAX}")
    slots = slots_for(route, commands)
    divided = divide(commands, slots)
    if len(divided.batches) > 1:
        return (yield from over_shards(route, divided, slots, deadline, options))
    (found,) = divided.batches
    # As it came: what was split for one shard is whole.
    batch = Batch(found.shard, found.slot, list(commands), list(range(len(commands))))
    request = batch_request(batch, options, with_reads=slots is route.slots, transaction=True)
    yield from exchange(route, [request], deadline)
    return batch_results(request)


def over_shards(
    route: LocalRoute | RouterRoute, divided: Divided, slots: SlotMap, deadline: Deadline, options: RequestOptions = NO_OPTIONS
) -> Generator[Step, Any, list[Any]]:
    """Carry out a transaction in several shards: the commands' results, or the one reason why nothing was done for each of them.

    Raises `CrossSlot` where writes are forwarded; `OutcomeUnknown`; `Unavailable` and the like (nothing was done); `NotReplicated`, `NotDurable` (it was).
    """
    if slots is not route.slots or divided.batches[-1].shard >= MAX_DECISION_SHARDS:
        raise cross_slot("a transaction")
    if max(len(batch.commands) for batch in divided.batches) > BATCH_COMMANDS_MAX:
        raise LimitExceeded(f"a transaction over several shards has at most {BATCH_COMMANDS_MAX} commands for one of them")
    attempt = 0
    while True:
        attempt += 1
        coordinator = _Coordinator(route, divided, deadline, options)
        results = yield from coordinator.steps()
        if results is not None:
            return results
        until = time.monotonic() + retry_delay(attempt) * random.random()
        if until >= deadline.at:
            raise coordinator.failure or Unavailable("the shards could not be held together in time; nothing was executed")
        yield Receive(until)


class _Coordinator:
    """One attempt at a transaction."""

    def __init__(self, route: LocalRoute | RouterRoute, divided: Divided, deadline: Deadline, options: RequestOptions) -> None:
        self._route, self._divided, self._deadline = route, divided, deadline
        self._batches = divided.batches
        self._token = secrets.randbits(63) | 1
        self._only_reads = all(command[0] in READ_ONLY for batch in self._batches for command in batch.commands)
        self._options = options.for_reads if self._only_reads else options.for_writes
        self.failure: ShmcacheError | None = None
        """Why it may succeed another time."""

    def steps(self) -> Generator[Step, Any, list[Any] | None]:
        """Results; None if nothing was done and it may be tried again. Raises ShmcacheError."""
        results: list[list[Any]] = []
        until = self._deadline
        for number, batch in enumerate(self._batches):
            found = yield from self._prepare(batch, until)
            refusal = found if not isinstance(found, list) else _refusal(found)
            if refusal is not None:
                yield from self._abandon(self._batches[: number + 1])
                return self._refused(refusal)
            assert isinstance(found, list)
            results.append(found)
            if number == 0:
                # Longer than the first shard waits for the decision the others need not be asked.
                until = Deadline(min(self._deadline.at, time.monotonic() + TRANSACTION_LEASE_MS / 1000), self._deadline.timeout)
        if self._only_reads:
            # All of them were held at one moment, if the first was until now.
            outcomes = yield from self._abandon(self._batches)
            return self._divided.merged(results) if outcomes[0] is True else None
        if not (yield from self._decide()):
            return None
        return self._divided.merged(results)

    def _refused(self, refusal: ShmcacheError) -> list[Any] | None:
        if isinstance(refusal, Moved):
            self._route.forget()
        if isinstance(refusal, ResponseError):
            return [refusal] * len(self._divided.merges)
        if not isinstance(refusal, Unavailable | CacheTimeout) or isinstance(refusal, OutcomeUnknown):
            raise refusal
        self.failure = refusal
        return None

    def _prepare(self, batch: Batch, until: Deadline) -> Generator[Step, Any, list[Any] | ShmcacheError]:
        """Results of a part that is prepared, or why it is not."""
        flags = request_flags(batch.commands, only_reads=self._only_reads)
        arguments = {"flags": flags, "options": self._options, "payload": encode_commands(batch.commands), "decider": self._batches[0].shard}
        (outcome,) = yield from self._call("prepare", [batch], until, **arguments)
        if isinstance(outcome, ShmcacheError):
            return outcome
        is_prepared, data = outcome
        if not data:
            return Unavailable("the shards could not be held together; nothing was executed")
        results = decode_results(data)
        if is_prepared and len(results) == len(batch.commands):
            return results
        return next((result for result in results if isinstance(result, ShmcacheError)), ProtocolError("not prepared, and no reason"))

    def _decide(self) -> Generator[Step, Any, bool]:
        """Commit everywhere. False if the first shard has given up; nothing was done then. Raises ShmcacheError."""
        first, *others = self._batches
        (outcome,) = yield from self._call("decide", [first], self._deadline, shards=[batch.shard for batch in others], options=self._options)
        if isinstance(outcome, ShmcacheError) or outcome[0] is None:
            raise _unknown() from (outcome if isinstance(outcome, ShmcacheError) else None)
        is_committed, is_to_wait = outcome
        if not is_committed:
            yield from self._abandon(others)
            return False
        # The first shard does not keep the others waiting for its disk or replicas: that is asked for now.
        asked = [first, *others] if is_to_wait else others
        outcomes = yield from self._call("commit", asked, self._deadline, decider=first.shard, options=self._options)
        failure = next((outcome for outcome in outcomes if isinstance(outcome, ShmcacheError)), None)
        if failure is not None and not isinstance(failure, Unavailable | CacheTimeout):
            raise failure
        if failure is not None or any(outcome is not True for outcome in outcomes):
            raise _unknown() from failure
        return True

    def _abandon(self, batches: Sequence[Batch]) -> Generator[Step, Any, list[Any]]:
        """Give up what may be prepared, whether it is or not; for each whether it was held until now."""
        until = Deadline(min(self._deadline.at, time.monotonic() + TRANSACTION_LEASE_MS / 1000), self._deadline.timeout)
        return (yield from self._call("abandon", batches, until))

    def _call(self, call: str, batches: Sequence[Batch], until: Deadline, **arguments: Any) -> Generator[Step, Any, list[Any]]:
        """A control call to the shards of these batches: results or errors."""
        payload = checked(encode_control(call, {"token": self._token, **arguments}))
        requests = [Request(batch.shard, batch.slot, frames.CONTROL, payload) for batch in batches]
        yield from exchange(self._route, requests, until)
        return [decode_results(request.outcome)[0] if isinstance(request.outcome, bytes) else request.outcome for request in requests]


def _refusal(results: list[Any]) -> ShmcacheError | None:
    """A result that says that the shard was the wrong one to ask."""
    return next((result for result in results if isinstance(result, Moved | ReadOnly)), None)


def _unknown() -> OutcomeUnknown:
    return OutcomeUnknown("a worker or its reply was lost while the transaction was being committed; it may or may not have happened")
