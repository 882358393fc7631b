"""A planned change of roles that loses no write: stop writes, wait for the replica, hand over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .acks import Follower


@dataclass(slots=True)
class Switchover:
    """One that is under way. `until`: monotonic seconds, when it is given up."""

    target: Follower
    until: float
    reply: Callable[[Any], None]
    stopped: bool = False
    """No worker takes writes any more."""
    asked: bool = False
    """The replica was told to take the role: from here on only it knows who is the primary."""

    def writes_have_stopped(self) -> None:
        self.stopped = True

    def ready_to_hand_over(self, heads: dict[int, int]) -> bool:
        """Whether the replica has everything and is to be asked now."""
        if not self.stopped or self.asked:
            return False
        return all(self.target.positions.get(shard, 0) >= head for shard, head in heads.items())
