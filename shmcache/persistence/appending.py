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
from ..errors import ConfigError, DamagedFile
from ..limits import PERSISTENCE_RETRY_MS, SYNC_MS, UNSYNCED_BYTES_MAX
from ..protocol.persistence import PersistenceRegion, Row, State, Word
from .blocks import BlockWriter, Cipher
from .files import Files
from .recovery import NOWHERE, close_open_segments, find_restore
from .segments import SegmentMeta, SegmentWriter, is_suspect, mark_suspect, segment_numbers
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
        self._next: tuple[int, dict[int, int], str] | None = None
        """Number, positions and predecessor of the segment that is to be begun when there is space again."""
        self._dirty = False
        self._due = self._retry_at = 0.0
        self._syncing: Future[tuple[int, dict[int, int]]] | None = None
        self._pool = ThreadPoolExecutor(1, "sync")
        self.last_error = ""
        self.syncs = self.bytes = 0

    # --- the beginning ------------------------------------------------------------------------------
    def begin(self) -> dict[int, int] | None:
        """Where to read the logs from (shard -> position) to go on with what is on the disk; None: nothing there leads to these
        data, or the disk does not take it: begin with `rebase`.
        """
        if self._region.state in (State.BASING, State.FAILED):
            # The keeper before this one knew that what is on the disk leads nowhere.
            return None
        try:
            scan = close_open_segments(self._files, self._folder, self._cipher, self._log)
            restore = find_restore(self._folder, cipher=self._cipher)
        except (DamagedFile, ConfigError) as error:
            # The data in memory are whole: a new beginning makes the damage harmless.
            self._log.error("what is on disk is damaged, the data in memory are not", reason=str(error))
            self.last_error = str(error)
            return None
        except OSError as error:
            self._say_trouble(error)
            return None
        lineage, continues = self._region.word(Word.LINEAGE), self._region.word(Word.CONTINUES)
        bases = {shard: self._region.row(shard, Row.BASE) for shard in range(self._shards)}
        if scan is None:
            if NOWHERE in bases.values() or snapshot_numbers(self._folder) or segment_numbers(self._folder):
                return None
            return self._start(1, False, bases, "")
        number = scan.meta.number
        if restore is None or restore.segments[-1:] != (number,) or is_suspect(self._folder, number):
            return None
        if scan.meta.lineage == lineage:
            return self._start(number + 1, True, scan.positions, scan.file_id.hex())
        if continues == number and NOWHERE not in bases.values():
            return self._start(number + 1, True, bases, scan.file_id.hex())
        return None

    def _start(self, number: int, continues: bool, starts: dict[int, int], follows: str) -> dict[int, int] | None:
        try:
            self._open(number, continues, starts, follows)
        except OSError as error:
            self._say_trouble(error)
            return None
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
        # Number 1 begins with nothing: it needs no snapshot.
        number = numbers[-1] + 1 if numbers else 2
        try:
            self._open(number, False, starts, "")
        except OSError as error:
            self._say_trouble(error)
            raise
        return number

    def based(self) -> None:
        """The snapshot that it leads on from is on the disk."""
        if self._writer is None:
            # It failed meanwhile, and needs another one.
            return
        self._is_based = True
        if self._stuck is None:
            self.last_error = ""
            self._region.store(Word.STATE, State.GOOD)
        self._dirty = True
        self._due = 0.0

    def _open(self, number: int, continues: bool, starts: dict[int, int], follows: str) -> None:
        meta = SegmentMeta(number, self._region.word(Word.LINEAGE), continues, starts, follows=follows)
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

    @property
    def has_records(self) -> bool:
        """Whether anything was written to the segment."""
        return self._writer is not None and self._writer.frames > 0

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
        if self._writer is not None:
            mark_suspect(self._files, self._folder, self._writer.meta.number)
        self._is_based, self._stuck = False, None
        self._abandon()
        self._region.store(Word.STATE, State.FAILED)

    def _say_trouble(self, error: OSError) -> None:
        """Nothing is written to at present, and the next try is `rebase`."""
        self._log.error("the append-only file cannot be begun", reason=str(error))
        self.last_error = str(error)
        self._region.store(Word.STATE, State.FULL if error.errno in NO_SPACE else State.FAILED)

    @property
    def needs_base(self) -> bool:
        """Whether it waits for `rebase`, and takes nothing before."""
        return self._writer is None and self._next is None

    @property
    def is_based(self) -> bool:
        """Whether what it takes becomes durable. If not, a snapshot for it is being made, or `rebase` is to be called."""
        return self._is_based

    def step(self, now: float) -> None:
        """What is due: try again what did not fit, sync, begin the next segment. `now`: monotonic seconds."""
        if now >= self._retry_at and (self._stuck is not None or self._next is not None):
            self._retry_at = now + PERSISTENCE_RETRY_MS / 1000
            self._try_again()
        if self._writer is None:
            return
        if self._syncing is not None and self._syncing.done():
            self._synced()
            if self._writer is None:
                return
        if self._dirty and self._policy == "always":
            self.sync()
        elif self._syncing is None and self._wants_sync(now):
            self._due = now + SYNC_MS / 1000
            self._dirty = False
            writer, size, positions = self._writer, self._writer.size, self.positions
            self._syncing = self._pool.submit(lambda: (writer.file.sync(), (size, positions))[1])
        is_long = self._writer is not None and self._stuck is None and self._writer.size >= self._segment_bytes
        if is_long and now >= self._retry_at and not self.rotate():
            self._retry_at = now + PERSISTENCE_RETRY_MS / 1000

    def _try_again(self) -> None:
        """What there was no space for."""
        if self._stuck is not None:
            stuck, self._stuck = self._stuck, None
            self.append(*stuck)
        else:
            self._begin_next()
        if self._stuck is None and self._writer is not None:
            self._log.info("there is space again: the append-only file goes on")
            self.last_error = ""
            self._region.store(Word.STATE, State.GOOD if self._is_based else State.BASING)

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
        if not self._end_writer():
            return 0
        self._begin_next()
        return self.segment

    def _end_writer(self) -> bool:
        """End the segment. False: it failed, or there was no space to say so, and it goes on."""
        writer = self._writer
        assert writer is not None
        self.sync()
        if self._writer is None:
            return False
        try:
            writer.write_end()
        except OSError as error:
            try:
                writer.rewind()
            except OSError as second:
                self._fail(second)
                return False
            self.last_error = str(error)
            if error.errno not in NO_SPACE:
                self._fail(error)
            return False
        try:
            writer.sync()
        except OSError as error:
            self._fail(error)
            return False
        writer.file.close()
        self._next = writer.meta.number + 1, dict(writer.positions), writer.blocks.file_id.hex()
        self._writer = None
        return True

    def _begin_next(self) -> None:
        """The segment after one that is whole. If there is no space for it, it is tried again."""
        assert self._next is not None
        (number, starts, follows), self._next = self._next, None
        try:
            self._open(number, True, starts, follows)
        except OSError as error:
            if error.errno not in NO_SPACE:
                return self._fail(error)
            self._next = number, starts, follows
            self._say_trouble(error)

    def end(self) -> None:
        """At an ordered stop: everything is durable, the segment whole."""
        self._settle()
        if self._writer is not None and self._stuck is None:
            self._end_writer()
        self._pool.shutdown()

    def _abandon(self) -> None:
        if self._syncing is not None:
            with contextlib.suppress(OSError):
                self._syncing.result()
            self._syncing = None
        self._next = None
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

