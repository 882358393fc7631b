"""The monotonic clock of another host, so that a deadline can be told in it.

A time that is left does not shrink while a message waits on the wire: one that was sent into a partition would be executed when that heals, long
after its sender gave up and, perhaps, after later writes of it. A moment of the receiver's clock does not have that flaw, and needs no two wall
clocks to agree: an answer that said `theirs` has come at `ours`, so that at any later moment `ours + x` the other clock shows at least `theirs + x`. A
deadline computed so never is later than it was meant; it is early by the time which that answer was on its way.
"""

import time


class RemoteClock:
    """What is known of the clock of one host."""

    __slots__ = ("ahead_us",)

    def __init__(self) -> None:
        self.ahead_us: int | None = None
        """By how much it is ahead of the own one, at least; None: not known."""

    def learn(self, theirs_us: int) -> None:
        """An answer that has just come says what their clock showed. The newest one counts: their host may have started anew."""
        self.ahead_us = theirs_us - now_us()

    def forget(self) -> None:
        self.ahead_us = None


def now_us() -> int:
    """CLOCK_MONOTONIC of this host, microseconds."""
    return time.monotonic_ns() // 1000
