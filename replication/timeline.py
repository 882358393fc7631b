"""When a log had grown how far: turns a position that a replica has acknowledged into records and time that it is behind.

Only clocks and positions of this host are compared. The samples are bounded: when there are too many, some are given up so that the gaps between
them are in proportion to their age. So the time that somebody is behind is known to some milliseconds or a few percent, however long it is.
"""

from bisect import bisect_right
from typing import Final

from shmcache.limits import TIMELINE_SAMPLES_MAX

_GAP: Final = 1 / 64
"""Of a sample's age, to its newer neighbour: 64 * ln(age / 5 ms) samples, 1,450 for a year."""


class Timeline:
    """Of one log. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._seqs: list[int] = []
        self._times: list[float] = []

    def note(self, position: int, seq: int, now: float) -> None:
        """The log's end and the sequence number of its last record at this moment."""
        if self._positions and position <= self._positions[-1]:
            return
        self._positions.append(position)
        self._seqs.append(seq)
        self._times.append(now)
        if len(self._positions) > TIMELINE_SAMPLES_MAX:
            self._thin(now)

    def _thin(self, now: float) -> None:
        kept = [len(self._times) - 1]
        for at in range(len(self._times) - 2, -1, -1):
            if self._times[kept[-1]] - self._times[at] >= (now - self._times[at]) * _GAP:
                kept.append(at)
        # The bound holds whatever the times are: room for as many again, the oldest go first.
        kept = kept[: TIMELINE_SAMPLES_MAX * 3 // 4][::-1]
        self._positions = [self._positions[at] for at in kept]
        self._seqs = [self._seqs[at] for at in kept]
        self._times = [self._times[at] for at in kept]

    def behind(self, position: int, now: float) -> tuple[int, int]:
        """(Records, ms) that somebody is behind who has everything up to `position`.

        Records between two samples are in proportion to the bytes. Time counts from when the first record that is missing was seen; one
        that was there before the first sample has been missing at least since then.
        """
        at = bisect_right(self._positions, position)
        if at == len(self._positions):
            return 0, 0
        before = (self._positions[at - 1], self._seqs[at - 1]) if at else (0, 0)
        part = (position - before[0]) / (self._positions[at] - before[0])
        seq = before[1] + int(part * (self._seqs[at] - before[1]))
        return max(1, self._seqs[-1] - seq), int((now - self._times[at]) * 1000)
