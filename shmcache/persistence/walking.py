"""A snapshot as it is being made: the index is walked in slices beside everything else, and a thread compresses and writes them.

What makes a shard's file one state, although writes go on, is told at `shmcache.replication.shipping.Copy`: a slice has all effects up to a log position
`applied`; the log follows up to there; the next slice is read when the data have all of the log that was written to the file.
"""

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._engine import Busy, LogFrame, Reader
from ..limits import SNAPSHOT_BLOCK_BYTES, SNAPSHOT_QUEUE_BLOCKS, SNAPSHOT_SLICE_BYTES
from .blocks import Cipher
from .files import Files
from .snapshots import Manifest, ShardFile, ShardWriter, SnapshotWriter

Task = Callable[[], None]


class WriterThread:
    """Carries out tasks in order; after the first that fails only the failure."""

    def __init__(self, prepare: Callable[[], None] = lambda: None) -> None:
        """`prepare` is called first, in the thread."""
        self._tasks: queue.Queue[Task | None] = queue.Queue(SNAPSHOT_QUEUE_BLOCKS)
        self.error: BaseException | None = None
        self._prepare = prepare
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._prepare()
        while (task := self._tasks.get()) is not None:
            if self.error is None:
                try:
                    task()
                except BaseException as error:
                    self.error = error

    @property
    def is_full(self) -> bool:
        return self._tasks.full()

    def put(self, task: Task) -> None:
        """Waits while the queue is full."""
        self._tasks.put(task)

    def stop(self) -> None:
        """After what is queued."""
        self._tasks.put(None)
        self._thread.join()


class Walk:
    """One snapshot, from the first slice to its manifest. `done` and `error` say how it ended."""

    def __init__(
        self,
        files: Files,
        folder: Path,
        number: int,
        reader: Reader,
        shards: int,
        *,
        level: int,
        cipher: Cipher | None,
        first_segment: int,
        fields: dict[str, Any],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """`fields` of the manifest: its instance, lineage, release, key.

        Raises OSError.
        """
        self.number, self.base_of = number, first_segment
        self._snapshot = SnapshotWriter(files, folder, number, level=level, cipher=cipher)
        self._reader, self._shards, self._fields = reader, shards, fields
        self._thread = WriterThread(prepare)
        self._shard = -1
        self._writer: ShardWriter | None = None
        self._cursor = self._applied = 0
        self._slice_is_last = False
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._files: list[ShardFile] = []
        self.done = False
        self.manifest: Manifest | None = None
        self.began = time.monotonic()
        self.walked_bytes = 0
        self._next_shard()

    @property
    def shard(self) -> int:
        """Whose log it needs at present; -1: none."""
        return self._shard

    @property
    def error(self) -> BaseException | None:
        return self._thread.error

    def _next_shard(self) -> None:
        self._shard += 1
        self._cursor = self._applied = 0
        self._slice_is_last = False
        if self._shard == self._shards:
            self._shard = -1
            self._thread.put(self._write_manifest)
            return
        shard = self._shard
        self._thread.put(lambda: self._open(shard))

    # In the thread: the writer of a shard is its alone.
    def _open(self, shard: int) -> None:
        self._writer = self._snapshot.shard(shard)

    def _write_slices(self, records: bytes) -> None:
        assert self._writer is not None
        self._writer.slices(records)

    def _write_log(self, frame: LogFrame) -> None:
        assert self._writer is not None
        self._writer.log(frame)

    def _close_shard(self, end: int, last_stamp: int, keys: int) -> None:
        assert self._writer is not None
        self._files.append(self._writer.finish(end, last_stamp, keys))
        self._writer = None

    def _write_manifest(self) -> None:
        ended_ms = time.time_ns() // 1_000_000
        manifest = Manifest(
            number=self.number,
            began_ms=self._snapshot.began_ms,
            ended_ms=ended_ms,
            shards=tuple(self._files),
            first_segment=self.base_of,
            **self._fields,
        )
        self._snapshot.finish(manifest)
        self.manifest = manifest
        self.done = True

    # --- in the keeper's loop -----------------------------------------------------------------------
    def log(self, shard: int, frame: LogFrame) -> None:
        """What a shard's log has, in order. Waits if the disk is slower than the log."""
        if shard != self._shard or (self._cursor == 0 and not self._slice_is_last):
            return
        self._flush()
        self._thread.put(lambda: self._write_log(frame))

    def step(self, position: int) -> bool:
        """Go on with a slice, if it is time; True if one was read. `position`: up to where the log of `shard` was given to `log`."""
        if self._shard < 0 or self._thread.error is not None or self._thread.is_full or position < self._applied:
            return False
        if self._slice_is_last:
            self._flush()
            info = self._reader.shard_info(self._shard)
            stamp, keys = info["last_stamp"], info["keys"]
            self._thread.put(lambda: self._close_shard(position, stamp, keys))
            self._next_shard()
            return True
        try:
            if self._cursor == 0:
                # What it remembers of flushes, among two-way peers: an older write that comes late stays deleted.
                self._add(self._reader.flush_records(self._shard))
            cursor, applied, records = self._reader.sync_slice(self._shard, self._cursor, SNAPSHOT_SLICE_BYTES)
        except Busy:
            return False
        if applied < position:
            # The owner is between a log record and its effect (or was killed there): the slice may lack it.
            return False
        self._cursor, self._applied, self._slice_is_last = cursor, applied, cursor == 0
        self._add(records)
        self.walked_bytes += len(records)
        if self._buffered >= SNAPSHOT_BLOCK_BYTES:
            self._flush()
        return True

    def _add(self, records: bytes) -> None:
        self._buffer.append(records)
        self._buffered += len(records)

    def _flush(self) -> None:
        if self._buffered:
            records = b"".join(self._buffer)
            self._buffer, self._buffered = [], 0
            self._thread.put(lambda: self._write_slices(records))

    def close(self) -> None:
        """End the thread, and remove what is not finished."""
        self._thread.stop()
        if not self.done:
            if self._writer is not None:
                self._writer.abandon()
            self._snapshot.abandon()
