"""The append-only file as it is being written: which segment, what is durable, what to do when the disk does not take it.

Decides and writes; when it is called, and with which frames, is the keeper's business (shmcache/server/keeper.py).
"""

import contextlib
import errno
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from .._engine import LogFrame
from ..limits import PERSISTENCE_RETRY_MS, SYNC_MS, UNSYNCED_BYTES_MAX
from ..protocol.persistence import PersistenceRegion, Row, State, Word
from .blocks import BlockWriter, Cipher
from .files import Files
from .recovery import NOWHERE, close_open_segments
from .segments import SegmentMeta, SegmentWriter, segment_numbers
from .snapshots import snapshot_numbers

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Appender:
    """The append-only file of an instance."""

    def __init__(
        self,
        files: Files,
        folder: Path,
        region: PersistenceRegion,
        shards: int,
        *,
        policy: str,
        segment_bytes: int,
        cipher: Cipher | None,
        log: Any,
        made_durable: Callable[[], None],
    ) -> None:
        """`policy`: no, everysec or always. `made_durable` is called when more is on the disk."""
        self._files, self._folder, self._region, self._shards = files, folder, region, shards
        self._policy, self._segment_bytes, self._cipher, self._log = policy, segment_bytes, cipher, log
        self._made_durable = made_durable
        self._writer: SegmentWriter | None = None
        self._stuck: tuple[int, LogFrame] | None = None
        """What could not be written: it comes first when there is space again."""
        self._is_based = False
        """Whether what is written leads from something on the disk; if not, nothing is durable."""
        self._dirty = False
        self._due = 0.0
        self._syncing: Future[tuple[int, dict[int, int]]] | None = None
        self._pool = ThreadPoolExecutor(1, "sync")
        self.last_error = ""
        self.syncs = self.bytes = 0

    # --- the beginning ------------------------------------------------------------------------------
    def begin(self) -> dict[int, int] | None:
        """Where to read the logs from (shard -> position) to go on with what is on the disk; None: nothing there leads to these
        data, begin with `rebase`. Raises DamagedFile, OSError.
        """
        scan = close_open_segments(self._files, self._folder, self._cipher, self._log)
        lineage, continues = self._region.word(Word.LINEAGE), self._region.word(Word.CONTINUES)
        bases = {shard: self._region.row(shard, Row.BASE) for shard in range(self._shards)}
        if scan is not None and scan.meta.lineage == lineage:
            return self._start(scan.meta.number + 1, True, scan.positions)
        if NOWHERE in bases.values():
            return None
        if scan is not None and continues == scan.meta.number:
            return self._start(scan.meta.number + 1, True, bases)
        if scan is None and not snapshot_numbers(self._folder):
            return self._start(1, False, bases)
        return None

    def _start(self, number: int, continues: bool, starts: dict[int, int]) -> dict[int, int]:
        self._open(number, continues, starts)
        self._is_based = True
        self._publish(starts)
        self._region.store(Word.STATE, State.GOOD)
        return starts

    def rebase(self, starts: dict[int, int]) -> int:
        """Begin a segment that nothing leads to, for a snapshot that begins after this; returns its number. Raises OSError."""
        self._is_based, self._stuck = False, None
        self._abandon()
        if self._region.state not in (State.FULL, State.FAILED):
            self._region.store(Word.STATE, State.BASING)
        numbers = segment_numbers(self._folder)
        number = numbers[-1] + 1 if numbers else 1
        self._open(number, False, starts)
        return number

    def based(self) -> None:
        """The snapshot that it leads on from is on the disk."""
        self._is_based = True
        self.last_error = ""
        self._region.store(Word.STATE, State.GOOD)
        self._dirty = True
        self._due = 0.0

    def _open(self, number: int, continues: bool, starts: dict[int, int]) -> None:
        meta = SegmentMeta(number, self._region.word(Word.LINEAGE), continues, starts)
        self._writer = SegmentWriter.create(self._files, self._folder, meta, BlockWriter(secrets.token_bytes(16), 0, self._cipher))

    # --- frames -------------------------------------------------------------------------------------
    @property
    def takes(self) -> bool:
        """Whether the next frame may be given to it."""
        return self._stuck is None and self._writer is not None

    @property
    def positions(self) -> dict[int, int]:
        return dict(self._writer.positions) if self._writer is not None else {}

    @property
    def segment(self) -> int:
        return self._writer.meta.number if self._writer is not None else 0

    def append(self, shard: int, frame: LogFrame) -> None:
        """Write one frame. It is kept if the disk is full. While `takes`."""
        assert self._writer is not None
        assert self._stuck is None
        try:
            self._writer.append(shard, frame)
        except OSError as error:
            return self._not_written(shard, frame, error)
        self.bytes += len(frame.records)
        self._region.store_row(shard, Row.LOGGED, frame.to_position)
        self._dirty = True

    def _not_written(self, shard: int, frame: LogFrame, error: OSError) -> None:
        assert self._writer is not None
        try:
            self._writer.rewind()
        except OSError as second:
            return self._fail(second)
        if error.errno not in NO_SPACE:
            return self._fail(error)
        self._stuck = shard, frame
        if self._region.state != State.FULL:
            self._log.error("the disk is full: the append-only file stands still", reason=str(error))
        self.last_error = str(error)
        self._region.store(Word.STATE, State.FULL)

    def _fail(self, error: OSError) -> None:
        """Nobody knows what is on the disk of this segment any more: it is never written to or synced again."""
        self._log.error("the append-only file failed: only a new snapshot makes anything durable again", reason=str(error))
        self.last_error = str(error)
        self._is_based, self._stuck = False, None
        self._abandon()
        self._region.store(Word.STATE, State.FAILED)

    @property
    def needs_base(self) -> bool:
        """Whether it waits for `rebase`."""
        return self._writer is None

    def step(self, now: float) -> None:
        """What is due: try again what did not fit, sync, begin the next segment. `now`: monotonic seconds."""
        if self._writer is None:
            return
        if self._stuck is not None:
            if now < self._due:
                return
            self._due = now + PERSISTENCE_RETRY_MS / 1000
            stuck, self._stuck = self._stuck, None
            self.append(*stuck)
            if self._stuck is not None or self._writer is None:
                return
            self._log.info("there is space again: the append-only file goes on")
            self._region.store(Word.STATE, State.GOOD if self._is_based else State.BASING)
        if self._syncing is not None and self._syncing.done():
            self._synced()
        if self._dirty and self._policy == "always":
            self.sync()
        elif self._syncing is None and self._wants_sync(now):
            self._due = now + SYNC_MS / 1000
            self._dirty = False
            writer, size, positions = self._writer, self._writer.size, self.positions
            self._syncing = self._pool.submit(lambda: (writer.file.sync(), (size, positions))[1])
        if self._writer is not None and self._writer.size >= self._segment_bytes:
            self.rotate()

    def _wants_sync(self, now: float) -> bool:
        """Whether a sync beside everything else is due: by time, or because so much is unsynced that the next one which has to be waited for, at
        the end of the segment, would take long: the rings fill meanwhile.
        """
        if not self._dirty or self._writer is None:
            return False
        return (self._policy == "everysec" and now >= self._due) or self._writer.size - self._writer.synced >= UNSYNCED_BYTES_MAX

    def _synced(self) -> None:
        assert self._syncing is not None
        future, self._syncing = self._syncing, None
        try:
            size, positions = future.result()
        except OSError as error:
            return self._fail(error)
        if self._writer is not None:
            self._writer.synced = max(self._writer.synced, size)
            self._publish(positions)

    def sync(self) -> None:
        """Make everything durable that was appended."""
        if self._writer is None:
            return
        self._settle()
        try:
            if self._writer is not None:
                self._writer.sync()
        except OSError as error:
            return self._fail(error)
        self._dirty = False
        self._publish(self.positions)

    def _publish(self, positions: dict[int, int]) -> None:
        self.syncs += 1
        if not self._is_based:
            return
        for shard, position in positions.items():
            self._region.store_row(shard, Row.DURABLE, position)
        self._made_durable()

    def _settle(self) -> None:
        """Wait for a sync that is under way."""
        if self._syncing is not None:
            with contextlib.suppress(OSError):
                self._syncing.result()
            self._synced()

    def rotate(self) -> int:
        """End the segment and begin the next; returns the number of the one that is written now (0: it failed)."""
        self._settle()
        if self._writer is None or self._stuck is not None:
            return 0
        writer, number = self._writer, self._writer.meta.number + 1
        try:
            writer.end()
            self._publish(writer.positions)
            self._open(number, True, dict(writer.positions))
        except OSError as error:
            # Also without space for a new file: there is nothing to go on with then.
            self._fail(error)
            return 0
        self._dirty = False
        return number

    def end(self) -> None:
        """At an ordered stop: everything is durable, the segment whole."""
        self._settle()
        if self._writer is not None and self._stuck is None:
            try:
                self._writer.end()
                self._publish(self._writer.positions)
            except OSError as error:
                self._fail(error)
        self._pool.shutdown()

    def _abandon(self) -> None:
        if self._syncing is not None:
            with contextlib.suppress(OSError):
                self._syncing.result()
            self._syncing = None
        if self._writer is not None:
            self._writer.file.close()
            self._writer = None

    def status(self) -> dict[str, Any]:
        return {
            "policy": self._policy,
            "state": self._region.state.name.lower(),
            "segment": self.segment,
            "segment_bytes": self._writer.size if self._writer is not None else 0,
            "bytes": self.bytes,
            "syncs": self.syncs,
            "last_error": self.last_error,
        }

