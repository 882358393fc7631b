"""Applying an upstream's records through the own workers, whatever their number.

Records are split by slot over the own shards and sent to their workers as control calls. Each worker gets its parts in order; a part
that a dead worker has not answered goes to its successor again, with all that followed it: applying twice changes nothing.
While a worker has two parts to do, what comes after them is gathered into one: the busier it is, the fewer messages it gets.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from shmcache._engine import split_records
from shmcache.limits import APPLY_BYTES_IN_FLIGHT_MAX, APPLY_PARTS_IN_FLIGHT, FRAME_BYTES_MAX
from shmcache.protocol import codec, frames
from shmcache.protocol.directory import DirectorySnapshot

Send = Callable[[int, list[bytes]], None]
"""(Own shard, message): hands a message to the shard's worker, if there is one; what is lost is sent again."""


@dataclass(slots=True, eq=False)
class Batch:
    """Something that was applied when all its parts were: `done` is called then."""

    done: Callable[[], None]
    parts_left: int = 0


@dataclass(slots=True)
class _Part:
    number: int
    call: str
    arguments: dict[str, Any]
    size: int
    batches: list[Batch]
    on_result: Callable[[Any], None] | None = None
    records: list[bytes] = field(default_factory=list)
    """Of an `apply`: gathered until it is sent."""

    def message(self) -> list[bytes]:
        arguments = {"records": b"".join(self.records)} if self.call == "apply" else self.arguments
        return [frames.pack_header(flags=frames.CONTROL, request_id=self.number), codec.encode_control(self.call, arguments)]


@dataclass(slots=True)
class _Lane:
    generation: int = 0
    up: bool = False
    sent: deque[_Part] = field(default_factory=deque)
    """In order, not answered."""
    waiting: deque[_Part] = field(default_factory=deque)
    """What comes after them."""


class ApplyFailed(Exception):
    """A worker cannot apply: `reason` says why (no memory, damage)."""

    def __init__(self, shard: int, reason: str) -> None:
        super().__init__(shard, reason)
        self.shard, self.reason = shard, reason


class Applier:
    """The way from records to the own shards."""

    def __init__(self, snapshot: DirectorySnapshot, send: Send, *, own_node: int = 0) -> None:
        self._slots = snapshot.slots
        self._lanes = [_Lane() for _ in snapshot.shards]
        self._send, self._own_node = send, own_node
        self._numbers = count(1)
        self.bytes_in_flight = 0

    @property
    def shards(self) -> int:
        return len(self._lanes)

    @property
    def is_full(self) -> bool:
        """Whether no more should be taken in for now."""
        return self.bytes_in_flight > APPLY_BYTES_IN_FLIGHT_MAX

    @property
    def idle(self) -> bool:
        return all(not lane.sent and not lane.waiting for lane in self._lanes)

    def records(self, records: bytes, done: Callable[[], None], *, own_too: bool = False) -> None:
        """Apply records; `done` is called when every shard has. Raises EngineError if they are damaged.

        What this instance wrote itself and a peer sends back is left out, but for a copy (`own_too`): this instance may have lost it.
        """
        batch = Batch(done)
        parts = split_records(records, self._slots, len(self._lanes), 0 if own_too else self._own_node)
        wanted = [(shard, part) for shard, part in enumerate(parts) if part]
        batch.parts_left = len(wanted)
        if not wanted:
            done()
        for shard, part in wanted:
            self._submit_records(shard, part, batch)

    def everywhere(
        self, call: str, arguments: dict[str, Any], done: Callable[[], None], on_result: Callable[[Any], None] | None = None
    ) -> None:
        """Have every worker carry out a call, in its turn after what was given to it before."""
        batch = Batch(done, len(self._lanes))
        for shard in range(len(self._lanes)):
            self._submit(shard, _Part(next(self._numbers), call, arguments, 64, [batch], on_result))

    def _submit_records(self, shard: int, records: bytes, batch: Batch) -> None:
        waiting = self._lanes[shard].waiting
        size = len(records)
        if not waiting or waiting[-1].call != "apply" or waiting[-1].size + size > FRAME_BYTES_MAX:
            return self._submit(shard, _Part(next(self._numbers), "apply", {}, size, [batch], records=[records]))
        last = waiting[-1]
        last.records.append(records)
        last.batches.append(batch)
        last.size += size
        self.bytes_in_flight += size

    def _submit(self, shard: int, part: _Part) -> None:
        self._lanes[shard].waiting.append(part)
        self.bytes_in_flight += part.size
        self._pump(shard)

    def _pump(self, shard: int) -> None:
        lane = self._lanes[shard]
        while lane.up and lane.waiting and len(lane.sent) < APPLY_PARTS_IN_FLIGHT:
            part = lane.waiting.popleft()
            lane.sent.append(part)
            self._send(shard, part.message())

    def answer(self, shard: int, message: list[bytes]) -> None:
        """A worker's reply. Raises ApplyFailed if it could not do it."""
        lane = self._lanes[shard]
        head = frames.unpack_header(message[-2])
        if not lane.sent or head.request_id != lane.sent[0].number:
            return
        if head.flags & frames.ERROR:
            raise ApplyFailed(shard, str(codec.decode_error(message[-1])))
        result = codec.decode_results(message[-1])[0]
        if isinstance(result, Exception):
            raise ApplyFailed(shard, str(result))
        part = lane.sent.popleft()
        self.bytes_in_flight -= part.size
        # Before anyone hears of it, who might submit more: the worker is to have its next part by then.
        self._pump(shard)
        if part.on_result is not None:
            part.on_result(result)
        for batch in part.batches:
            batch.parts_left -= 1
            if batch.parts_left == 0:
                batch.done()

    def update(self, snapshot: DirectorySnapshot) -> list[int]:
        """Take note of a changed directory; returns the shards whose worker is a new one."""
        changed = []
        for lane, record in zip(self._lanes, snapshot.shards, strict=True):
            up = record.state == "serving" and bool(record.endpoints)
            if (up, record.generation) != (lane.up, lane.generation):
                lane.up, lane.generation = up, record.generation
                changed.append(record.shard)
        return changed

    def resend(self, shard: int) -> None:
        """Give everything that is not answered to the shard's new worker, in order."""
        lane = self._lanes[shard]
        if lane.up:
            for part in lane.sent:
                self._send(shard, part.message())
        self._pump(shard)

    def forget(self) -> None:
        """Drop what is not answered: nobody waits for it any more."""
        for lane in self._lanes:
            lane.sent.clear()
            lane.waiting.clear()
        self.bytes_in_flight = 0
