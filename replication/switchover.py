"""A planned change of roles that loses no write: stop writes, wait for the replica, hand over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shmcache.limits import FETCH_RETRY_MS

from .acks import Follower


@dataclass(slots=True)
class Switchover:
    """One that is under way. `until`: monotonic seconds, when it is given up."""

    target: Follower
    until: float
    reply: Callable[[Any], None]
    stopped: bool = False
    """No worker takes writes any more."""
    asked_at: float | None = None
    """When the replica was last told to take the role: from the first time on only it knows who is the primary."""

    def writes_have_stopped(self) -> None:
        self.stopped = True

    def ready_to_hand_over(self, heads: dict[int, int], now: float) -> bool:
        """Whether the replica has everything and is to be asked now, again if it has not answered: the first may have been lost."""
        if not self.stopped or (self.asked_at is not None and now - self.asked_at < FETCH_RETRY_MS / 1000):
            return False
        return all(self.target.positions.get(shard, 0) >= head for shard, head in heads.items())
