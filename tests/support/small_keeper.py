"""The keeper's loop (shmcache/server/keeper.py) without sockets, processes and clocks, over the real append-only file and snapshots."""

import threading
from typing import TYPE_CHECKING

from shmcache import _engine
from shmcache.limits import FRAME_BYTES_MAX
from shmcache.persistence.appending import Appender
from shmcache.persistence.recovery import prepare_folder
from shmcache.persistence.retention import retire
from shmcache.persistence.snapshots import remove_unfinished, snapshot_numbers
from shmcache.persistence.walking import Walk
from shmcache.protocol.persistence import Word

if TYPE_CHECKING:
    from tests.support.disk_lives import Life

_SEGMENT_BYTES = 6_000
_KEEP = 2


class SmallKeeper:
    """Of a `Life`. Everything that it does on the disk it does by the life's."""

    def __init__(self, life: "Life") -> None:
        self._life, self._files, self._folder = life, life.disk, life.folder
        self._shards = life.shards.count
        self._walk: Walk | None = None
        self._walk_is_base = False
        self._retry_at = 0.0
        self.tailers: list[_engine.LogTailer] = []
        prepare_folder(self._folder, self._files)
        remove_unfinished(self._folder, self._files)
        self.aof = Appender(
            self._files, self._folder, life.region, self._shards, policy=life.policy, segment_bytes=_SEGMENT_BYTES, cipher=None,
            log=life.log, made_durable=life.note,
        )  # fmt: skip
        starts = self.aof.begin()
        if starts is None or not self._open_tailers(starts):
            self._rebase()

    def _open_tailers(self, starts: dict[int, int]) -> bool:
        for tailer in self.tailers:
            tailer.close()
        self.tailers = []
        for shard, regions in enumerate(self._life.shards.regions):
            position = starts.get(shard)
            try:
                tailer = _engine.LogTailer(regions.log, "keeper", position)
            except (_engine.Overtaken, _engine.EngineError):
                return False
            self.tailers.append(tailer)
            if position is not None and tailer.position != position:
                return False
        return True

    def turn(self, now: float) -> None:
        """What is new in the logs, what is due; a snapshot goes on."""
        while self._drain():
            pass
        self.aof.step(now)
        if not self.aof.is_based and self._walk is None and now >= self._retry_at:
            self._rebase()
        walk = self._walk
        if walk is None:
            return
        if walk.shard >= 0:
            walk.step(self.tailers[walk.shard].position)
        self._wait(walk)
        if walk.error is not None:
            assert isinstance(walk.error, OSError), walk.error
            self._drop_walk()
        elif walk.done:
            walk.close()
            self._walk = None
            if self._walk_is_base:
                self.aof.based()
            try:
                retire(self._files, self._folder, _KEEP)
            except OSError as error:
                self._life.log.warning("old snapshots and logs could not be removed", reason=str(error))

    def _drain(self) -> bool:
        found = False
        if not self.aof.takes and not self.aof.needs_base:
            return False
        for shard, tailer in enumerate(self.tailers):
            try:
                frame = tailer.poll_frame(FRAME_BYTES_MAX, self._life.shards.reader, shard)
            except _engine.Overtaken:
                if self._walk is not None:
                    self._drop_walk()
                self._rebase()
                return True
            if frame is None:
                continue
            found = True
            if self._walk is not None:
                self._walk.log(shard, frame)
            if self.aof.takes:
                self.aof.append(shard, frame)
                if not self.aof.takes:
                    break
        return found

    def _wait(self, walk: Walk) -> None:
        """Until its thread has written what it was given, so that a run is the same each time."""
        if walk.error is None:
            written = threading.Event()
            walk._thread.put(written.set)
            while not written.wait(0.01) and walk.error is None:
                pass

    def snapshot(self) -> None:
        """By hand, if none is being made."""
        if self._walk is None and (segment := self.aof.rotate()):
            self._start_walk(segment, is_base=False)

    def _rebase(self) -> None:
        self._retry_at = self._life.now + 1
        if self._walk is not None:
            self._drop_walk()
        self._open_tailers({})
        try:
            segment = self.aof.rebase({shard: tailer.position for shard, tailer in enumerate(self.tailers)})
        except OSError:
            return
        self._start_walk(segment, is_base=True)

    def _start_walk(self, segment: int, *, is_base: bool) -> None:
        numbers = snapshot_numbers(self._folder)
        fields = {"instance": "test", "lineage": self._life.region.word(Word.LINEAGE)}
        self._walk_is_base = is_base
        try:
            self._walk = Walk(
                self._files, self._folder, (numbers[-1] if numbers else 0) + 1, self._life.shards.reader, self._shards, level=1,
                cipher=None, first_segment=segment, fields=fields,
            )  # fmt: skip
        except OSError:
            if is_base:
                self._retry_at = self._life.now + 1

    def _drop_walk(self) -> None:
        assert self._walk is not None
        self._walk.close()
        self._walk = None

    def kill(self) -> None:
        """As SIGKILL: nothing more is done on the disk."""
        if self._walk is not None:
            self._walk._thread.error = KeyboardInterrupt()
            self._walk._thread.stop()
            self._walk = None
        self.aof._abandon()
        self.aof._pool.shutdown()
        for tailer in self.tailers:
            tailer.close()
