"""The keeper's side of the archive: when a segment is ended for it, what it is told, what stays on disk for its sake."""

import os
from pathlib import Path
from typing import Any, Final

from ..limits import ARCHIVE_HELD_SEGMENTS_MAX, ARCHIVE_STOP_S
from ..persistence.appending import Appender
from ..persistence.archiving import Archiver, Wanted
from ..persistence.segments import segment_numbers
from ..persistence.snapshots import snapshot_numbers

_NICE: Final = 10
"""Of the thread that archives: the work of others goes before."""


class KeeperArchive:
    """What an instance with `--archive` does beside its snapshots and its log."""

    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._folder = Path(settings["data_dir"])
        self._every_s = settings["archive_every_ms"] / 1000
        self._archiver = Archiver(
            self._folder,
            settings["archive"],
            keep=settings["archive_keep"],
            verify=settings["archive_verify"],
            log=log,
            prepare=lambda: os.setpriority(os.PRIO_PROCESS, 0, _NICE),
        )
        self._seen: tuple[int, int] | None = None
        self._segment_since = 0.0

    def step(self, now: float, aof: Appender | None, snapshot: int) -> None:
        """End a segment that has been open for long enough, and say what is new. `snapshot`: the newest one."""
        segment = aof.segment if aof is not None else 0
        if (segment, snapshot) != self._seen:
            if self._seen is not None and snapshot != self._seen[1] and segment == self._seen[0] and aof is not None and aof.rotate():
                # The snapshot is restored with the segment that it begins with: that one shall not wait for its time.
                segment = aof.segment
            self._seen = segment, snapshot
            self._segment_since = now
            self._offer(segment)
        elif aof is not None and aof.takes and aof.has_records and now - self._segment_since >= self._every_s:
            aof.rotate()

    def _offer(self, open_segment: int) -> None:
        ended = tuple(number for number in segment_numbers(self._folder) if number != open_segment)
        self._archiver.offer(Wanted(ended, tuple(snapshot_numbers(self._folder))))

    def may_retire(self, number: int, numbers: list[int]) -> bool:
        """Whether a segment of `numbers` may go from the disk: it is archived, or too many are not."""
        return self._archiver.has_segment(number) or number <= numbers[-1] - ARCHIVE_HELD_SEGMENTS_MAX

    def end(self) -> None:
        """At an ordered stop, when the last segment has ended."""
        self._offer(0)
        self._archiver.stop(ARCHIVE_STOP_S)

    def status(self) -> dict[str, Any]:
        return self._archiver.status()
