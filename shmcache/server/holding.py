"""Replies that wait for acknowledgements: which may go out, which have waited too long. No I/O, no clock."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..limits import HELD_REPLIES_MAX
from ..protocol.needs import Ack, needed


@dataclass(frozen=True, slots=True)
class Held:
    """One reply. `position`: what replicas must have applied, and the disk; `until`: monotonic seconds; `release(k, n, is_durable)` sends it,
    acknowledged by k where n were asked for."""

    position: int
    ack: Ack
    until: float
    release: Callable[[int, int, bool], None]
    durable_until: float = 0.0
    """How long it waits for the disk, monotonic seconds; 0: it does not."""


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

    def review(self, acks: Sequence[int], replicas: int, now: float, durable: int = 0, *, is_broken: bool = False) -> None:
        """Release what is acknowledged and on the disk, or has waited long enough. `acks`: the positions of all replicas; `replicas`: how
        many count; `durable`: the position on the disk, which `is_broken` if that will not grow.
        """
        left: deque[Held] = deque()
        for held in self._held:
            have = sum(position >= held.position for position in acks)
            wanted = needed(held.ack, replicas)
            is_durable = not held.durable_until or durable >= held.position
            if have < wanted:
                is_over = now >= held.until
            else:
                is_over = is_durable or is_broken or now >= held.durable_until
            if is_over:
                held.release(have, wanted, is_durable)
            else:
                left.append(held)
        self._held = left
