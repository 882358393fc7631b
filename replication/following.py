"""How one shard's log of an upstream is followed: what to apply, what to ask for. Pure decisions, no I/O, no clock of its own.

Frames come in order, or with gaps, twice, late, damaged. What is handed on is one unbroken sequence from `position`:

    offer(frame)  ->  frames to apply now, in order
    wants(now)    ->  the position from which the upstream must be asked, if there is a gap
    gone()        ->  the upstream's ring no longer has what is missing: only a full copy helps
"""

from dataclasses import dataclass, field

from shmcache.limits import FETCH_RETRY_MS, PENDING_BYTES_MAX

from .frames import Frame


@dataclass(slots=True)
class Counts:
    """What happened to the frames of one shard."""

    gaps: int = 0
    duplicates: int = 0
    fetched: int = 0
    dropped: int = 0
    """Set aside during a gap, and given up for want of room: fetched later."""


@dataclass(slots=True)
class ShardFollower:
    """One shard of the upstream. `position`: everything before it has been handed on."""

    position: int
    head: int = 0
    """The log's end, as far as the upstream has told."""
    counts: Counts = field(default_factory=Counts)
    _pending: dict[int, Frame] = field(default_factory=dict)
    _pending_bytes: int = 0
    _asked_at: float | None = None

    @property
    def has_gap(self) -> bool:
        """Whether something is known to be missing."""
        return self.head > self.position

    @property
    def lag_bytes(self) -> int:
        return max(0, self.head - self.position)

    def offer(self, frame: Frame, *, fetched: bool = False) -> list[Frame]:
        """Take a frame in; returns what can be applied now, in order. A frame that overlaps what was applied is applied whole:
        its records change nothing a second time.
        """
        self.head = max(self.head, frame.to_position)
        if not frame.records and frame.from_position == frame.to_position:
            return []
        if fetched:
            self.counts.fetched += 1
            self._asked_at = None
        if frame.to_position <= self.position:
            self.counts.duplicates += 1
            return []
        if frame.from_position > self.position:
            self._set_aside(frame)
            return []
        ready = [frame]
        self.position = frame.to_position
        while (following := self._next_pending()) is not None:
            ready.append(following)
            self.position = following.to_position
        return ready

    def wants(self, now: float, patience_s: float = FETCH_RETRY_MS / 1000) -> int | None:
        """Where to ask from, if something is missing and was not asked for less than `patience_s` ago (`now` in monotonic seconds)."""
        if not self.has_gap:
            return None
        if self._asked_at is not None and now - self._asked_at < patience_s:
            return None
        if self._asked_at is None:
            self.counts.gaps += 1
        self._asked_at = now
        return self.position

    def ask_again(self) -> None:
        """What was asked for will not be answered any more."""
        if self._asked_at is not None:
            self._asked_at = float("-inf")

    def jump(self, position: int) -> None:
        """Go on from there: a full copy ended at this position."""
        self.position = position
        self.head = max(self.head, position)
        self._asked_at = None
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0

    def _set_aside(self, frame: Frame) -> None:
        if self._pending_bytes + len(frame.records) > PENDING_BYTES_MAX:
            self.counts.dropped += 1
            return
        if frame.from_position not in self._pending:
            self._pending[frame.from_position] = frame
            self._pending_bytes += len(frame.records)

    def _next_pending(self) -> Frame | None:
        """The frame that continues at `position`; those that lie before it are forgotten."""
        frame = self._pending.pop(self.position, None)
        if frame is None and self._pending:
            overlapping = [at for at in self._pending if at < self.position]
            for at in overlapping:
                old = self._pending.pop(at)
                if old.to_position > self.position and frame is None:
                    frame = old
                else:
                    self._pending_bytes -= len(old.records)
        if frame is not None:
            self._pending_bytes -= len(frame.records)
        return frame
