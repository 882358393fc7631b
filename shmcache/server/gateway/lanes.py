"""The way to the shards: what all connections want of one shard goes in one message, the next when its reply has come.

One message at a time keeps the order of every connection without any bookkeeping, also when a worker is killed and messages are sent again;
whatever comes meanwhile is the next batch, so that a busy shard gets larger messages, not more of them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from ...client.exchange import Deadline, Reply, Request, Send, answers, exchange
from ...client.loop import LoopChannels
from ...client.policy import Next, silence_error
from ...client.routes import LocalRoute
from ...client.session import BATCH_COMMANDS_MAX, batch_results, has_moved, moved_steps
from ...errors import CacheTimeout, LimitExceeded, OutcomeUnknown, ShmcacheError
from ...limits import MESSAGE_BYTES_MAX, REQUEST_BYTES_SOFT_MAX, RESP_REVIEW_MS, RESP_TIMEOUT_S
from ...protocol import frames
from ...protocol.codec import encode_commands
from ...protocol.commands import READ_ONLY, is_repeatable, request_flags
from .packed import PackedItem, apart, distribute, payload_of
from .packets import Packet, pack

_clock = time.monotonic
_GATHER_TURNS_MAX: Final = 4
"""Turns of the loop that a message waits while more comes. Measured: a third less work for the worker without pipelining."""


class Sink(Protocol):
    """Where the results of some commands go."""

    def take(self, results: list[Any]) -> None: ...

    def at(self, number: int) -> "Sink":
        """Where the result of one of them goes, by itself."""


Item = tuple[list[Any], Sink, int]
"""Commands of one connection for one shard, their sink, a slot of the shard."""


def _apart(items: list[Item]) -> list[Item]:
    """The same commands, each an item of its own."""
    found: list[Item] = []
    for commands, sink, slot in items:
        if len(commands) == 1:
            found.append((commands, sink, slot))
        else:
            found += [([command], sink.at(number), slot) for number, command in enumerate(commands)]
    return found


def _commands(items: list[Item]) -> list[Any]:
    """Of all items, in order."""
    return items[0][0] if len(items) == 1 else [command for item in items for command in item[0]]


class Group:
    """Commands that are one message of their own, whose results come together."""

    __slots__ = ("commands", "flags", "sink", "slot")

    def __init__(self, slot: int, commands: list[Any], flags: int, sink: Sink) -> None:
        self.slot, self.commands, self.flags, self.sink = slot, commands, flags, sink


class Lanes:
    """All lanes of one gateway."""

    def __init__(self, route: LocalRoute, loop: asyncio.AbstractEventLoop, delivered: Callable[[], None], log: Any) -> None:
        """`delivered` is called after results have been given to their sinks."""
        self.route, self.loop, self.delivered, self.log = route, loop, delivered, log
        self.channels = LoopChannels()
        self._lanes: dict[int, _Lane] = {}
        self._due: list[_Lane] = []
        self._added = self._gathered = self._turns = 0
        """Items so far; those at the last look; turns of the loop that the due lanes have waited."""
        self._reviewing = False
        self.batches = self.commands = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.slow_s = float("inf")
        """Messages that take longer are told to `slow`."""
        self.slow: Callable[[float, bytes, list[Any]], None] = lambda seconds, payload, items: None

    def add(self, shard: int, slot: int, commands: list[Any], sink: Sink) -> None:
        """Send commands with what else goes to that shard in this turn of the loop. At most BATCH_COMMANDS_MAX."""
        lane = self._lanes.get(shard) or self._open(shard)
        lane.queue.append((commands, sink, slot))
        if not lane.is_due:
            self._call(lane)

    def add_packed(self, shard: int, item: PackedItem) -> None:
        """The same for what is packed already."""
        lane = self._lanes.get(shard) or self._open(shard)
        self._added += 1
        lane.queue.append(item)
        if not lane.is_due:
            self._call(lane)

    def add_group(self, shard: int, group: Group) -> None:
        """Send a message of its own, in order with all else."""
        lane = self._lanes.get(shard) or self._open(shard)
        lane.queue.append(group)
        if not lane.is_due:
            self._call(lane)

    def _open(self, shard: int) -> "_Lane":
        lane = self._lanes[shard] = _Lane(self, shard)
        return lane

    def _call(self, lane: "_Lane") -> None:
        lane.is_due = True
        if lane.request is None:
            self._due.append(lane)
            if len(self._due) == 1:
                self.loop.call_soon(self._send_due)

    def _send_due(self) -> None:
        # As long as each turn of the loop brings more, more is coming: a message costs as much as some ten commands.
        if self._added != self._gathered and self._turns < _GATHER_TURNS_MAX:
            self._gathered = self._added
            self._turns += 1
            self.loop.call_soon(self._send_due)
            return
        self._turns = 0
        due, self._due = self._due, []
        for lane in due:
            if lane.request is None:
                lane.send()

    def review_later(self) -> None:
        """Look after a while whether the workers that messages were sent to are still there."""
        if not self._reviewing:
            self._reviewing = True
            self.loop.call_later(RESP_REVIEW_MS / 1000, self._review)

    def _review(self) -> None:
        self._reviewing = False
        waiting = [lane for lane in self._lanes.values() if lane.request is not None]
        for lane in waiting:
            lane.review(_clock())
        if waiting:
            self.review_later()

    def start(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def run(self, steps: Any) -> Any:
        """Carry out an exchange beside the lanes."""
        return await self.channels.run(steps)

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.channels.close()


class _Lane:
    __slots__ = ("deadline", "has_packed", "header", "is_due", "items", "lanes", "queue", "recovering", "request", "shard")

    def __init__(self, lanes: Lanes, shard: int) -> None:
        self.lanes, self.shard = lanes, shard
        self.queue: deque[Any] = deque()
        self.request: Request | None = None
        self.items: list[Any] | Group = []
        self.header = b""
        self.deadline = Deadline(0.0, 0.0)
        self.is_due = self.recovering = self.has_packed = False
        """`is_due`: it will look at its queue by itself; `has_packed`: so are some of the items."""

    def send(self) -> None:
        """Begin the next message."""
        route = self.lanes.route
        request = self._next(route) if self.queue else None
        if request is None:
            self.is_due = False
            return
        self.request, self.recovering = request, False
        self.deadline = Deadline(_clock() + RESP_TIMEOUT_S, RESP_TIMEOUT_S)
        if len(request.payload) > MESSAGE_BYTES_MAX:
            request.outcome = LimitExceeded(f"a message of {len(request.payload)} bytes is over the limit of {MESSAGE_BYTES_MAX}")
            return self._finish()
        target = route.target(request.slot, request.flags)
        if target is not None:
            self.header = request.header(route, self.deadline.at, target.endpoint)
            # Noted before, because the reply may come from within the sending.
            request.is_sent(target, _clock())
            if self.lanes.channels.post(Send(target.endpoint, request.number, self.header, request.payload), self):
                return self.lanes.review_later()
            request.sent_to, request.number = None, 0
        self._recover(None)

    def _next(self, route: LocalRoute) -> Request | None:
        """Take from the queue what fits in one message. None if nothing was left of it."""
        queue = self.queue
        self.has_packed = False
        if type(queue[0]) is Packet:
            taken = pack(queue[0].connection.gateway, queue)
            if taken is not None:
                self.items, payload, slot, writes = taken
                self.has_packed = True
                return Request(self.shard, slot, 0 if writes else _flags(route, []), payload)
            if not queue:
                return None
        if type(queue[0]) is Group:
            group = self.items = queue.popleft()
            return Request(self.shard, group.slot, group.flags, encode_commands(group.commands), group.commands)
        items: list[Any] = []
        count = 0
        has_packed = has_writes = False
        while queue and type(item := queue[0]) is not Group and type(item) is not Packet:
            is_packed = type(item) is not tuple
            more = item.count if is_packed else len(item[0])
            if count and count + more > BATCH_COMMANDS_MAX:
                break
            items.append(queue.popleft())
            count += more
            if is_packed:
                has_packed = True
                has_writes = has_writes or item.writes
        payload = b""
        if has_packed:
            payload = payload_of(items)
            if len(payload) <= REQUEST_BYTES_SOFT_MAX or count == 1:
                self.items, self.has_packed = items, True
                flags = 0 if has_writes else _flags(route, _commands([item for item in items if type(item) is tuple]))
                return Request(self.shard, items[0][2] if type(items[0]) is tuple else items[0].slot, flags, payload)
            items = apart(items)
        while True:
            commands = _commands(items)
            payload = encode_commands(commands)
            if len(payload) <= REQUEST_BYTES_SOFT_MAX or len(commands) == 1:
                break
            if len(items) == 1:
                items = _apart(items)
            half = len(items) // 2
            queue.extendleft(reversed(items[half:]))
            del items[half:]
        self.items = items
        return Request(self.shard, items[0][2], _flags(route, commands), payload, commands)

    def _take_apart(self, request: Request) -> None:
        """Something is not plain: all items go on as single commands."""
        if self.has_packed:
            self.has_packed = False
            self.items = apart(self.items)  # type: ignore[arg-type]
            request.commands = _commands(self.items)

    # --- as an inbox of the channels ---
    def put(self, reply: Reply) -> None:
        request = self.request
        if request is None or self.recovering or frames.request_id_of(reply.header) != request.number:
            return
        if answers(reply, self.header):
            request.outcome = reply.payload
            self._finish()
        else:
            self._recover(reply)

    def refuse(self, error: ShmcacheError) -> None:
        """Not by ipc."""

    def review(self, now: float) -> None:
        """Whether the reply can still come."""
        request = self.request
        if request is None or self.recovering or request.sent_to is None:
            return
        is_replaced = self.lanes.route.replaced(request.sent_to, request.slot, request.flags)
        if is_replaced or now >= self.deadline.at:
            self.lanes.channels.withdraw(request.sent_to.endpoint, request.number)
            self._take_apart(request)
            if is_replaced and type(self.items) is list and not request.repeatable:
                self._give_up_unrepeatable(request)
                if self.request is None:
                    return
            self._recover(None)

    def _give_up_unrepeatable(self, request: Request) -> None:
        """Its worker is gone: of one message of many clients, only what cannot be sent twice stays without an answer."""
        error = silence_error(Next.OUTCOME_UNKNOWN, self.shard, self.lanes.route.where, RESP_TIMEOUT_S)
        kept = []
        for item in _apart(self.items):  # type: ignore[arg-type]
            if is_repeatable(item[0][0]):
                kept.append(item)
            else:
                item[1].take([error])
        self.items = kept
        if not kept:
            self.request = None
            self.lanes.delivered()
            return self.send()
        self.request = self._again(kept)
        self.request.may_have_happened = True

    def _again(self, items: list[Item]) -> Request:
        commands = _commands(items)
        return Request(self.shard, items[0][2], _flags(self.lanes.route, commands), encode_commands(commands), commands)

    def _recover(self, reply: Reply | None) -> None:
        self.recovering = True
        assert self.request is not None
        self._take_apart(self.request)
        self.lanes.start(self._exchange(reply))

    async def _exchange(self, reply: Reply | None) -> None:
        """Whatever is not the plain reply: retries, refusals, a worker that is gone."""
        request = self.request
        assert request is not None
        lanes = self.lanes
        try:
            await lanes.run(exchange(lanes.route, [request], self.deadline, reply))
            await self._reads_apart(request)
        except ShmcacheError as error:
            request.outcome = error
        except Exception as error:
            lanes.log.exception("a message to a worker failed")
            request.outcome = ShmcacheError(f"internal: {error!r}")
        self._finish()

    async def _reads_apart(self, request: Request) -> None:
        """A message that was refused because it writes (no replicas, a full disk): its reads can be answered all the same."""
        outcome = request.outcome
        if not isinstance(outcome, ShmcacheError) or type(self.items) is not list or request.flags & frames.READ_ONLY:
            return
        items = _apart(self.items)
        reads = [item for item in items if item[0][0][0] in READ_ONLY]
        if not reads or isinstance(outcome, OutcomeUnknown | CacheTimeout):
            return
        second = self._again(reads)
        await self.lanes.run(exchange(self.lanes.route, [second], Deadline.after(RESP_TIMEOUT_S)))
        for item, result in zip(reads, batch_results(second), strict=True):
            item[1].take([result])
        self.items = [item for item in items if item[0][0][0] not in READ_ONLY]
        request.commands = [item[0][0] for item in self.items]

    def _finish(self) -> None:
        request, items, lanes = self.request, self.items, self.lanes
        assert request is not None
        if (took := _clock() - self.deadline.at + RESP_TIMEOUT_S) >= lanes.slow_s:
            known = [] if type(items) is Group or self.has_packed else items
            lanes.slow(took, request.payload, known)  # type: ignore[arg-type]
        if self.has_packed:
            if type(request.outcome) is bytes and (done := distribute(items, request.outcome)):  # type: ignore[arg-type]
                lanes.commands += done
                return self._next_turn()
            self._take_apart(request)
            items = self.items
        results = batch_results(request)
        if type(items) is Group:
            lanes.commands += len(results)
            items.sink.take(results)
        elif has_moved(results):
            lanes.start(self._moved(request, results))
            return
        else:
            lanes.commands += len(results)
            _distribute(items, results)  # type: ignore[arg-type]
        self._next_turn()

    def _next_turn(self) -> None:
        lanes = self.lanes
        lanes.batches += 1
        self.request = None
        lanes.delivered()
        # Not at once: what other clients sent meanwhile, and is read in this turn of the loop, goes with it.
        self.is_due = False
        if self.queue:
            lanes._call(self)

    async def _moved(self, request: Request, results: list[Any]) -> None:
        try:
            steps = moved_steps(self.lanes.route, request.commands, results, Deadline.after(RESP_TIMEOUT_S))
            results = await self.lanes.run(steps)
        except ShmcacheError as error:
            results = [error] * len(results)
        _distribute(self.items, results)  # type: ignore[arg-type]
        self.request = None
        self.lanes.delivered()
        self.send()


def _distribute(items: list[Item], results: list[Any]) -> None:
    if len(items) == 1:
        return items[0][1].take(results)
    at = 0
    for commands, sink, _ in items:
        end = at + len(commands)
        sink.take(results[at:end])
        at = end


def _flags(route: LocalRoute, commands: list[Any]) -> int:
    """READ_ONLY for what only reads, unless all goes to a primary elsewhere, whose shards are other ones."""
    only_reads = {command[0] for command in commands} <= READ_ONLY
    return request_flags(commands, only_reads=only_reads and route.write_slots is route.slots)
