"""The receiving side: one upstream, followed over two sockets.

    resolving   ask the upstream's router where its relay is
    greeting    ask the relay who it is and whether our positions are still in its rings
    following   apply the published logs; fetch what is missing; per shard, a full copy where nothing else helps

A full copy of a shard: mark all own entries of its slots as stale, apply slices and log (which clears marks), delete what is still marked. What is
read meanwhile is old, never empty. Between two-way peers nothing is marked or deleted: copies are merged, last write wins.

The link decides; `Wires` (the relay) moves bytes. All times are monotonic seconds but `*_ms`, unix milliseconds.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from shmcache._engine import EngineError
from shmcache.errors import ProtocolError, ResponseError
from shmcache.limits import (
    ACK_PAUSE_MS,
    ACK_PAUSE_MS_MAX,
    AWAY_MS,
    FETCH_BYTES_MAX,
    FETCH_BYTES_MIN,
    FETCH_RETRY_MS,
    LINK_RETRY_MS,
    LINK_RETRY_MS_MAX,
    LINK_SILENCE_MS_MAX,
    LOG_SILENCE_MS_MAX,
)
from shmcache.protocol.replication import Followed, Identity
from shmcache.protocol.slots import slot_bitmap

from .applying import Applier
from .following import ShardFollower
from .frames import Frame, decode
from .greeting import Refusal, Welcome, check, positions_to_follow, reachable
from .patience import Questions
from .window import Window

State = Literal["resolving", "greeting", "following", "refused", "down"]
Phase = Literal["following", "marking", "copying", "sweeping"]


class Wires(Protocol):
    """What a link needs of the relay that runs it."""

    def open(self, relay: str, log: str) -> None:
        """Connect to an upstream's relay; nothing is subscribed to yet."""

    def subscribe(self, shards: int) -> None:
        """Also once more: over a new connection then."""

    def reconnect(self) -> None:
        """A new connection to the upstream's relay; what was asked over the old one is not answered any more."""

    def close(self) -> None: ...
    def ask_router(self, call: str, arguments: dict[str, Any]) -> int:
        """Returns the request id."""

    def ask(self, call: str, arguments: dict[str, Any]) -> int: ...


@dataclass(slots=True)
class _Applying:
    position: int
    stamp: int
    done: bool = False


@dataclass(slots=True)
class ShardLink:
    """One shard of the upstream."""

    follower: ShardFollower
    phase: Phase = "following"
    applied: int = 0
    """Log position up to which everything is applied here."""
    applied_stamp: int = 0
    """Stamp up to which everything is: what a client that waits for its own write goes by."""
    copied_stamp: int = 0
    """The largest that a copy has brought: it says nothing about the slots that are still to come until the copy is complete."""
    current_as_of_ms: int = 0
    slots: bytes = b""
    applying: deque[_Applying] = field(default_factory=deque)
    window: Window = field(default_factory=Window)
    """Of the latest copy."""
    fetch_bytes: int = FETCH_BYTES_MAX
    """To ask for when there is a gap."""
    copied_entries_bytes: int = 0
    swept: int = 0
    heartbeats: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=64))
    """(Log's end, moment in ms, largest stamp): when that is applied, this shard is current as of that moment, and has all up to that stamp."""


class Link:
    """One upstream."""

    def __init__(
        self,
        address: str,
        wires: Wires,
        applier: Applier,
        identity: Callable[[], Identity],
        on_event: Callable[[str, dict[str, Any]], None],
        hello: dict[str, Any],
        own_heads: Callable[[], dict[int, int]],
        *,
        merge: bool = False,
    ) -> None:
        """`on_event(name, fields)` hears of `welcome`, `copy`, `copied`, `current`, `refused`, `down`."""
        self.address, self._wires, self._applier = address, wires, applier
        self._identity, self._on_event, self._hello = identity, on_event, hello
        self._own_heads, self.merge = own_heads, merge
        self.state: State = "resolving"
        self.last_error = ""
        self.shards: list[ShardLink] = []
        self.welcome: Welcome | None = None
        self.heard_at = time.monotonic()
        self._retry_at, self._failures = 0.0, 0
        self._questions = Questions()
        self._beside: tuple[int, Callable[[Any], None]] | None = None
        self._log_renewed = True
        """Since the last message of it."""
        self._ticked_at = 0.0
        self._step_asked_at = 0.0
        self._acks_due: set[int] = set()
        self._acked_at = 0.0
        self.copies = 0
        """Shards that were copied whole."""
        self._generation = 0
        """Grows with every connection: what was begun under an earlier one does not count any more."""

    # --- what happened -----------------------------------------------------------------------------
    def tick(self, now: float) -> None:
        """Go on: retries, gaps, silence. To be called at least every few milliseconds."""
        if self.state in ("down", "refused"):
            if now >= self._retry_at:
                self._restart()
        elif self.state in ("resolving", "greeting"):
            if now - self._step_asked_at > FETCH_RETRY_MS / 1000:
                if self._step_asked_at:
                    self.fail(f"{self.address} does not answer")
                else:
                    self._begin(now)
        else:
            if not self._is_heard(now):
                return
            for number, shard in enumerate(self.shards):
                self._drive(number, shard, now)
            self._send_acks()

    def _is_heard(self, now: float) -> bool:
        """Connect anew where the upstream is not heard any more; False if the link was given up."""
        away, self._ticked_at = now - self._ticked_at, now
        if away > AWAY_MS / 1000:
            # What came meanwhile has not been looked at yet.
            self.heard_at = min(now, self.heard_at + away)
            self._questions.excuse(away)
        silent_ms = (now - self.heard_at) * 1000
        if silent_ms > LINK_SILENCE_MS_MAX:
            self.fail(f"nothing heard of {self.address} for {LINK_SILENCE_MS_MAX} ms")
            return False
        if silent_ms > LOG_SILENCE_MS_MAX and not self._log_renewed:
            # A damaged length leaves a connection waiting for bytes for ever.
            self._log_renewed = True
            self._wires.subscribe(len(self.shards))
        if self._questions.are_overdue(now):
            if not self._questions.give_up():
                self.fail(f"the relay of {self.address} does not answer")
                return False
            self._wires.reconnect()
            for shard in self.shards:
                shard.window.all_again()
                shard.follower.ask_again()
        return True

    def ask_beside(self, call: str, arguments: dict[str, Any], take: Callable[[Any], None]) -> None:
        """Ask, while it follows, for what following does not depend on: an answer that gets lost is not waited for. One question at a time."""
        self._beside = self._wires.ask(call, arguments), take

    def damaged(self) -> None:
        """An answer came that nobody can read: the connection lives, and what is missing will be asked for again."""
        self._questions.heard()

    def answer(self, request_id: int, result: Any) -> None:
        """The upstream's answer to something that was asked; an exception for a refusal."""
        if self._beside is not None and request_id == self._beside[0]:
            take, self._beside = self._beside[1], None
            return take(result)
        kind, shard, number = self._questions.answered(request_id, time.monotonic())
        try:
            match kind:
                case "replication":
                    self._resolved(result)
                case "hello":
                    self._greeted(result)
                case "fetch":
                    self._fetched(shard, result)
                case "slice":
                    self._sliced(shard, number, result)
                case _ if isinstance(result, ResponseError) and result.code == "STRANGER" and self.state == "following":
                    # To an acknowledgement; other answers to these are not waited for.
                    self.fail(f"the relay of {self.address} has begun anew")
        except (ProtocolError, EngineError, KeyError, TypeError, ValueError) as error:
            self.fail(f"the answer of {self.address} to {kind!r} is not as expected: {error!r}")

    def log(self, message: list[bytes]) -> None:
        """A published message."""
        try:
            frame = decode(message)
        except ProtocolError as error:
            # Like one that never came: the next shows the gap.
            self.last_error = f"a damaged frame was dropped: {error}"
            return
        welcome = self.welcome
        if self.state != "following" or welcome is None or frame.shard >= len(self.shards):
            return
        if frame.epoch < welcome.epoch and not self.merge:
            self.last_error = f"frame of epoch {frame.epoch} refused, it is {welcome.epoch}"
            return
        if frame.history != welcome.history or frame.epoch > welcome.epoch:
            return self.fail(f"{self.address} has begun another history or epoch")
        self.heard_at, self._log_renewed = time.monotonic(), False
        self._offer(frame.shard, frame)

    def fail(self, reason: str) -> None:
        """Give this connection up, and try again later."""
        self._stop("down", reason)
        self._on_event("down", {"reason": reason})

    # --- connecting ---------------------------------------------------------------------------------
    def _restart(self) -> None:
        self.state = "resolving"
        self._step_asked_at = 0.0
        self._begin(time.monotonic())

    def _begin(self, now: float) -> None:
        self._step_asked_at = now
        self._questions.forget()
        self._questions.asked(self._wires.ask_router("replication", {}), "replication", now)

    def _stop(self, state: State, reason: str) -> None:
        self.state, self.last_error = state, reason
        self._generation += 1
        self._failures += 1
        self._retry_at = time.monotonic() + min(LINK_RETRY_MS << min(self._failures - 1, 8), LINK_RETRY_MS_MAX) / 1000
        self._questions.forget()
        self._wires.close()

    def _resolved(self, result: Any) -> None:
        if isinstance(result, Exception):
            return self.fail(str(result))
        self._wires.open(reachable(result["relay"], self.address), reachable(result["log"], self.address))
        self.state = "greeting"
        self._step_asked_at = time.monotonic()
        identity = self._identity()
        fields = {"replica": identity.replica_id, "history": identity.history, "epoch": identity.epoch, "merge": self.merge}
        self._questions.asked(self._wires.ask("hello", self._hello | fields), "hello", self._step_asked_at)

    def _greeted(self, result: Any) -> None:
        if isinstance(result, Exception):
            return self._refuse(str(result))
        welcome = Welcome.read(result)
        identity = self._identity()
        try:
            check(welcome, identity, merge=self.merge)
        except Refusal as refusal:
            return self._refuse(str(refusal))
        self.welcome, self.state = welcome, "following"
        self.heard_at = self._ticked_at = time.monotonic()
        self._failures, self._log_renewed = 0, True
        self._wires.subscribe(welcome.shards)
        known = positions_to_follow(welcome, identity, self._own_heads())
        self.last_error = ""
        self.shards = []
        self._acks_due.clear()
        for number in range(welcome.shards):
            position = known.get(number)
            shard = ShardLink(ShardFollower(position or 0), applied=position or 0, slots=slot_bitmap(welcome.slots, number))
            self.shards.append(shard)
            if position is None:
                shard.phase = "copying" if self.merge else "marking"
            else:
                # What is here already counts for the upstream as well.
                self._acks_due.add(number)
        copying = [number for number in range(welcome.shards) if number not in known]
        self._on_event("welcome", {"welcome": welcome, "copying": copying})
        if copying:
            self._on_event("copy", {"shards": copying})
        for number in copying:
            if not self.merge:
                self._walk(number, "mark", 0)
        for number, head in welcome.heads.items():
            self.shards[number].follower.head = max(self.shards[number].follower.head, head)

    def _refuse(self, reason: str) -> None:
        self._stop("refused", reason)
        self._on_event("refused", {"reason": reason})

    # --- following ----------------------------------------------------------------------------------
    def _drive(self, number: int, shard: ShardLink, now: float) -> None:
        if shard.phase == "copying":
            if self._applier.is_full:
                return
            for wanted in shard.window.wants(now, self._questions.patience_s):
                arguments = {"shard": number, "replica": self._identity().replica_id, "copy": shard.window.token, "number": wanted}
                # Only an instance with a node number remembers flushes; to others each would be a walk over the index for nothing.
                arguments["flushes"] = bool(self._hello["node"])
                self._questions.asked(self._wires.ask("slice", arguments), "slice", now, number, wanted)
        elif shard.phase in ("following", "sweeping") and not self._applier.is_full:
            position = shard.follower.wants(now, self._questions.patience_s)
            if position is not None:
                arguments = {"shard": number, "position": position, "most": shard.fetch_bytes}
                self._questions.asked(self._wires.ask("fetch", arguments), "fetch", now, number)
                # Until it is answered.
                shard.fetch_bytes = max(FETCH_BYTES_MIN, shard.fetch_bytes // 2)

    def _offer(self, number: int, frame: Frame, *, fetched: bool = False) -> None:
        shard = self.shards[number]
        if not frame.records:
            shard.heartbeats.append((frame.to_position, min(frame.sent_ms, time.time_ns() // 1_000_000), frame.last_stamp))
        if shard.phase in ("marking", "copying"):
            # The copy brings its own log with it.
            shard.follower.head = max(shard.follower.head, frame.to_position)
            return
        was = shard.follower.position
        for ready in shard.follower.offer(frame, fetched=fetched):
            try:
                self._apply(number, ready.records, ready.to_position, ready.last_stamp)
            except EngineError as error:
                # Damaged on the way: as if it had not come.
                self.last_error = f"shard {number}: a damaged frame is fetched again: {error}"
                shard.follower.position = was
                return
            was = ready.to_position
        self._note_current(shard)

    def _apply(self, number: int, records: bytes, position: int, stamp: int, *, own_too: bool = False) -> None:
        shard = self.shards[number]
        item = _Applying(position, stamp)
        generation = self._generation

        def done() -> None:
            item.done = True
            if generation == self._generation:
                self._advance(number)

        shard.applying.append(item)
        try:
            self._applier.records(records, done, own_too=own_too)
        except EngineError:
            shard.applying.remove(item)
            raise

    def _advance(self, number: int) -> None:
        shard = self.shards[number]
        while shard.applying and shard.applying[0].done:
            item = shard.applying.popleft()
            shard.applied = max(shard.applied, item.position)
            shard.copied_stamp = max(shard.copied_stamp, item.stamp)
        if shard.phase == "following":
            shard.applied_stamp = max(shard.applied_stamp, shard.copied_stamp)
            self._acks_due.add(number)
            self._note_current(shard)

    def _note_current(self, shard: ShardLink) -> None:
        if shard.phase != "following":
            return
        while shard.heartbeats and shard.heartbeats[0][0] <= shard.applied:
            _, shard.current_as_of_ms, stamp = shard.heartbeats.popleft()
            if stamp > shard.applied_stamp:
                shard.applied_stamp = stamp
                self._acks_due.add(self.shards.index(shard))

    def _send_acks(self) -> None:
        now = time.monotonic()
        silent_ms = (now - self._acked_at) * 1000
        # Also without news, so that the upstream knows that this replica lives.
        if (self._acks_due and (self._applier.idle or silent_ms > ACK_PAUSE_MS)) or silent_ms > ACK_PAUSE_MS_MAX:
            self._acked_at = now
            if silent_ms > ACK_PAUSE_MS_MAX:
                # All of it: an acknowledgement may have been lost.
                self._acks_due = {number for number, shard in enumerate(self.shards) if shard.phase == "following"}
            positions = {str(number): self.shards[number].applied for number in self._acks_due}
            self._acks_due.clear()
            self._wires.ask("ack", {"replica": self._identity().replica_id, "positions": positions})
            self._on_event("current", {})

    def flush(self) -> None:
        """Acknowledge at once what has just been applied."""
        if self.state == "following":
            self._send_acks()

    def _fetched(self, number: int, result: Any) -> None:
        asked = self.shards[number]
        asked.fetch_bytes = min(FETCH_BYTES_MAX, 4 * asked.fetch_bytes)
        if isinstance(result, ResponseError) and result.code == "GONE":
            shard = self.shards[number]
            shard.phase = "copying" if self.merge else "marking"
            shard.window = Window()
            self._on_event("copy", {"shards": [number]})
            if not self.merge:
                self._walk(number, "mark", 0)
            return
        if isinstance(result, Exception):
            return self.fail(str(result))
        if result["frame"] is not None:
            self._offer(number, Frame(*result["frame"]), fetched=True)

    # --- full copies --------------------------------------------------------------------------------
    def _walk(self, number: int, call: str, cursor: int) -> None:
        """A slice of marking or sweeping on every own worker, and the next, until all are through."""
        shard = self.shards[number]
        generation = self._generation
        cursors: list[int] = []

        def done() -> None:
            if generation != self._generation:
                return
            following = max(cursors)
            if following:
                self._walk(number, call, following)
            elif call == "mark":
                shard.phase = "copying"
                shard.window = Window()
            else:
                self._copied(number)

        def on_result(result: Any) -> None:
            cursors.append(int(result["cursor"]))
            shard.swept += int(result.get("deleted", 0))

        self._applier.everywhere(call, {"cursor": cursor, "slots": shard.slots}, done, on_result)

    def _sliced(self, number: int, slice_number: int, result: Any) -> None:
        shard = self.shards[number]
        if shard.phase != "copying":
            return
        if isinstance(result, ResponseError) and result.code in ("BUSY", "DONE"):
            # After the last one there is none; which is the last may not have come yet.
            if result.code == "BUSY":
                shard.window.again(slice_number)
            return
        if isinstance(result, Exception):
            # Also GONE: begin again, from the marks on.
            return self.fail(f"the copy of shard {number}: {result}")
        for ready in shard.window.offer(slice_number, result):
            self._take_slice(number, shard, ready)

    def _take_slice(self, number: int, shard: ShardLink, result: dict[str, Any]) -> None:
        shard.copied_entries_bytes += len(result["records"])
        self._apply(number, result["records"], 0, 0, own_too=True)
        self._apply(number, result["log"], result["position"], result["last_stamp"], own_too=True)
        if result["done"]:
            shard.follower.jump(result["position"])
            shard.phase = "sweeping"
            if self.merge:
                self._applier.everywhere("nothing", {}, lambda: self._copied(number))
            else:
                self._walk(number, "sweep", 0)

    def _copied(self, number: int) -> None:
        shard = self.shards[number]
        shard.phase = "following"
        self.copies += 1
        self._on_event("copied", {"shard": number, "bytes": shard.copied_entries_bytes, "deleted": shard.swept})
        self._advance(number)

    # --- what others ask ----------------------------------------------------------------------------
    @property
    def is_copying(self) -> bool:
        return any(shard.phase != "following" for shard in self.shards)

    @property
    def caught_up(self) -> bool:
        """Whether everything that the upstream is known to have written is applied."""
        return (
            self.state == "following"
            and not self.is_copying
            and all(not s.applying and s.applied >= s.follower.head for s in self.shards)
        )

    @property
    def current_as_of_ms(self) -> int:
        return min((shard.current_as_of_ms for shard in self.shards), default=0)

    def followed(self) -> Followed | None:
        """How far it has come, for the next time; None in the middle of a copy."""
        if self.welcome is None or self.is_copying or not self.shards:
            return None
        return Followed(self.welcome.history, {n: shard.applied for n, shard in enumerate(self.shards)})
