"""The sending side: an instance's own logs as published frames, and as answers to those who missed some."""

import time
from collections.abc import Callable
from typing import Any

from shmcache._engine import Busy, LogTailer, Overtaken, Reader
from shmcache.errors import ResponseError
from shmcache.limits import (
    FETCH_BYTES_MAX,
    FETCH_BYTES_MIN,
    FRAME_BYTES_MAX,
    HEARTBEAT_MS,
    SLICE_BYTES_MAX,
    SLICES_IN_FLIGHT,
)
from shmcache.protocol.attach import open_reader, open_tailer
from shmcache.protocol.directory import DirectorySnapshot

from .frames import Encoder, Frame

TAILER_NAME = "relay"
"""By which workers know whom to wake (protocol/doorbell)."""


class OwnLogs:
    """The write logs and the data of this instance, read only."""

    def __init__(self, snapshot: DirectorySnapshot) -> None:
        self.snapshot = snapshot
        self.reader: Reader = open_reader(snapshot)

    @property
    def shards(self) -> int:
        return len(self.snapshot.shards)

    def tailer(self, shard: int, name: str, position: int | None) -> LogTailer:
        return open_tailer(self.snapshot.shards[shard].log_name, name, position)

    def frame(self, tailer: LogTailer, shard: int, most: int, history: int, epoch: int) -> Frame | None:
        """What is new to a tailer. None also while a large value is being changed. Raises Overtaken."""
        try:
            found = tailer.poll_frame(most, self.reader, shard)
        except Busy:
            return None
        if found is None:
            return None
        now_ms = time.time_ns() // 1_000_000
        return Frame(
            shard, epoch, history, found.from_position, found.to_position, found.first_seq, found.last_seq, found.last_stamp,
            now_ms, found.records,
        )  # fmt: skip


class Publisher:
    """Publishes what is new in each log, and heartbeats."""

    def __init__(self, logs: OwnLogs, publish: Callable[[list[bytes]], None], *, compress: bool) -> None:
        self._logs, self._publish, self._encoder = logs, publish, Encoder(compress)
        self._tailers = [logs.tailer(shard, TAILER_NAME, None) for shard in range(logs.shards)]
        self._last_seqs = [0] * logs.shards
        self._last_stamps = [0] * logs.shards
        self._told: dict[int, tuple[int, int]] = {}
        self._heartbeat_due = 0.0
        self._attended = False
        self.records = self.bytes = self.frames = self.overtaken = 0

    def log_ends(self) -> dict[int, int]:
        """The end of each log, published or not."""
        return {shard: tailer.position + tailer.lag_bytes for shard, tailer in enumerate(self._tailers)}

    def log_seqs(self) -> dict[int, int]:
        """The sequence number of each log's last record."""
        return {shard: tailer.head_seq for shard, tailer in enumerate(self._tailers)}

    def oldest(self) -> dict[int, int]:
        """The oldest position that each ring still has."""
        return {shard: tailer.first_position for shard, tailer in enumerate(self._tailers)}

    def attend(self, followed: bool) -> None:
        """Whether anyone follows. While nobody does, nothing is published and no owner rings: a replica at the end of a chain, or a primary
        without one, pays for none of it. Who begins to follow is told the logs' ends first, and finds what it then lacks in the rings.
        """
        if followed and not self._attended:
            for shard, tailer in enumerate(self._tailers):
                tailer.close()
                self._tailers[shard] = self._logs.tailer(shard, TAILER_NAME, None)
        self._attended = followed

    def step(self, history: int, epoch: int, now: float) -> bool:
        """Publish what is there, a frame of each log at most. True if there may be more."""
        if not self._attended:
            return False
        more = False
        for shard, tailer in enumerate(self._tailers):
            try:
                frame = self._logs.frame(tailer, shard, FRAME_BYTES_MAX, history, epoch)
            except Overtaken:
                # The ring lapped this process: replicas see the gap and ask for a full copy, as they must.
                tailer.resume_at_oldest()
                self.overtaken += 1
                more = True
                continue
            if frame is not None:
                more = True
                self.frames += 1
                self.records += frame.last_seq - frame.first_seq + 1
                self.bytes += len(frame.records)
                self._last_seqs[shard] = frame.last_seq
                self._last_stamps[shard] = max(self._last_stamps[shard], frame.last_stamp)
                self._publish(self._encoder.encode(frame))
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + HEARTBEAT_MS / 1000
            self._heartbeat(history, epoch)
        return more

    def _heartbeat(self, history: int, epoch: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        for shard, tailer in enumerate(self._tailers):
            at = tailer.position
            position, stamp = self._told.get(shard, (0, 0))
            if at >= position:
                self._last_stamps[shard] = max(self._last_stamps[shard], stamp)
            frame = Frame(shard, epoch, history, at, at, 0, self._last_seqs[shard], self._last_stamps[shard], now_ms, b"")
            self._publish(self._encoder.encode(frame))

    def tell(self, shard: int, position: int, stamp: int) -> None:
        """A worker says that its log up to `position` has everything up to `stamp`. Followers are told so, too: what they copied had no stamps."""
        self._told[shard] = position, stamp

    def may_sleep(self) -> bool:
        """Ask all owners to ring at their next write. False if something was written meanwhile."""
        return not self._attended or all([tailer.prepare_wait() for tailer in self._tailers])

    def close(self) -> None:
        for tailer in self._tailers:
            tailer.close()


def fetch(logs: OwnLogs, shard: int, position: int, most: int, history: int, epoch: int) -> dict[str, Any]:
    """The part of a log that begins at `position`, about `most` bytes. Raises ResponseError GONE if the ring does not have it any more."""
    try:
        tailer = logs.tailer(shard, "fetch", position)
    except Overtaken:
        raise ResponseError("GONE", f"the log of shard {shard} no longer has position {position}") from None
    try:
        frame = logs.frame(tailer, shard, min(max(most, FETCH_BYTES_MIN), FETCH_BYTES_MAX), history, epoch)
    except Overtaken:
        raise ResponseError("GONE", f"the log of shard {shard} no longer has position {position}") from None
    finally:
        tailer.close()
    return {"frame": list(frame) if frame is not None else None}


class Copy:
    """A full copy of one shard for one replica: slices of the index, each followed by the log that had been written when it was read.

    What makes it right, at whatever speed either side goes: a slice has every effect up to `applied`, a position that was read before
    the slice was. The log follows up to there, and the next slice is read only when the data have all of the log that was sent. So a replica that
    applies everything in this order never applies a slice after a log record that the slice does not know: nothing that was deleted comes
    back. Records that the slice has already are older or equal by stamp, and change nothing.
    """

    def __init__(self, logs: OwnLogs, shard: int, token: int, *, flushes: bool) -> None:
        """`flushes`: also what the shard remembers of flushes, for those that remember it too (two-way peers). Others mark and sweep."""
        self._logs, self.shard, self.token, self._flushes = logs, shard, token, flushes
        self._next = 0
        self._kept: dict[int, dict[str, Any]] = {}
        """The latest slices by number: an answer may get lost."""
        self._cursor = 0
        self.done = False
        self._tailer: LogTailer | None = None
        self.used_at = time.monotonic()

    def slice(self, number: int, history: int, epoch: int) -> dict[str, Any]:
        """A slice by its number, also once more. Raises ResponseError: GONE if writes overtook it, BUSY to ask again, DONE after the last."""
        self.used_at = time.monotonic()
        if number >= self._next + SLICES_IN_FLIGHT:
            raise ResponseError("GONE", f"slice {number} of shard {self.shard} is far ahead")
        while self._next <= number:
            if self.done:
                raise ResponseError("DONE", "this copy is complete")
            self._kept[self._next] = self._read(history, epoch)
            self._next += 1
            self._kept.pop(self._next - 1 - SLICES_IN_FLIGHT, None)
        if number not in self._kept:
            raise ResponseError("GONE", f"slice {number} of shard {self.shard} was sent long ago")
        return self._kept[number]

    def _read(self, history: int, epoch: int) -> dict[str, Any]:
        if self._tailer is None:
            # From the log's end before the first slice is read.
            self._tailer = self._logs.tailer(self.shard, "copy", None)
        try:
            cursor, applied, records = self._logs.reader.sync_slice(self.shard, self._cursor, SLICE_BYTES_MAX)
        except Busy:
            raise ResponseError("BUSY", f"shard {self.shard} is being repaired") from None
        if applied < self._tailer.position:
            # The owner is between a log record and its effect (or was killed there): the slice may lack it.
            raise ResponseError("BUSY", f"shard {self.shard} is about to apply its log")
        if self._flushes and self._cursor == 0:
            # The log may not have them any more. In front: it costs less to drop everything first.
            records = self._logs.reader.flush_records(self.shard) + records
        log = []
        try:
            while self._tailer.position < applied:
                most = min(FRAME_BYTES_MAX, applied - self._tailer.position)
                frame = self._logs.frame(self._tailer, self.shard, most, history, epoch)
                if frame is None:
                    break
                log.append(frame)
        except Overtaken:
            raise ResponseError("GONE", f"writes to shard {self.shard} were faster than its copy") from None
        position = self._tailer.position
        self._cursor, self.done = cursor, cursor == 0
        if self.done:
            self.close()
        return {
            "records": records,
            "done": self.done,
            "log": b"".join(frame.records for frame in log),
            "position": position,
            "last_stamp": max((frame.last_stamp for frame in log), default=0),
        }

    def close(self) -> None:
        """No further slice is read."""
        if self._tailer is not None:
            self._tailer.close()
            self._tailer = None
