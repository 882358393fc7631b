"""Replies that wait for acknowledgements: which may go out, which have waited too long. No I/O, no clock."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..limits import HELD_REPLIES_MAX
from ..protocol.needs import Ack, needed


@dataclass(frozen=True, slots=True)
class Held:
    """One reply. `position`: what replicas must have applied; `until`: monotonic seconds; `release(k, n)` sends it, acknowledged by k where n
    were asked for."""

    position: int
    ack: Ack
    until: float
    release: Callable[[int, int], None]


@dataclass(slots=True)
class Holding:
    """The replies that one worker holds back."""

    _held: deque[Held] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_full(self) -> bool:
        return len(self._held) >= HELD_REPLIES_MAX

    def add(self, held: Held) -> None:
        self._held.append(held)

    def review(self, acks: Sequence[int], replicas: int, now: float) -> None:
        """Release what is acknowledged or has waited long enough. `acks`: the positions of all replicas; `replicas`: how many count."""
        left: deque[Held] = deque()
        for held in self._held:
            have = sum(position >= held.position for position in acks)
            wanted = needed(held.ack, replicas)
            if have >= wanted or now >= held.until:
                held.release(have, wanted)
            else:
                left.append(held)
        self._held = left
