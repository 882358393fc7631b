"""The keeper process: tails the write logs into the append-only file, and makes snapshots. `python -m shmcache.server.keeper SETTINGS`.

    admin   ROUTER at ipc://   operators on this host: save, status
    bell    rung by workers after a write while the keeper sleeps

All reading of the logs is in one place, so that a snapshot and the append-only file see the same frames: where a snapshot ends, a frame ends.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import zmq

from .. import _engine
from ..errors import DamagedFile, InstanceNotFound, ProtocolError, ShmcacheError
from ..limits import FRAME_BYTES_MAX, KEEPER_POLL_MS, PERSISTENCE_RETRY_MS
from ..persistence.appending import Appender
from ..persistence.files import OS_FILES
from ..persistence.recovery import prepare_folder
from ..persistence.retention import retire
from ..persistence.snapshots import (
    Manifest,
    read_manifest,
    remove_unfinished,
    snapshot_numbers,
)
from ..persistence.walking import Walk
from ..protocol import codec, frames
from ..protocol.attach import open_reader, open_tailer
from ..protocol.directory import Directory
from ..protocol.doorbell import Doorbell, Ringer
from ..protocol.persistence import PersistenceRegion, State, Word
from ..protocol.replication import ReplicationRegion
from . import exit_codes
from .child import StopFlag, report, start_child
from .keeping_libraries import KeptLibraries
from .logs import configure_logs, logger
from .paths import bell_path, remove_socket
from .restoring import open_cipher
from .selecting import Selector
from .sockets import limit_router, listen
from .stats import process_stats

if TYPE_CHECKING:
    from .archiving import KeeperArchive

NAME: Final = "keeper"
"""Of its tailers, by which workers know whom to wake (protocol/doorbell)."""
_START_S_MAX: Final = 600.0
_NICE: Final = 10
"""Of the thread that compresses: the work of others goes before."""

Reply = Callable[[Any], None]


class Keeper:
    """The keeper of one instance."""

    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._settings, self._log = settings, log
        self._folder = Path(settings["data_dir"])
        self._cipher = open_cipher(settings["data_key_file"])
        self._directory = Directory.open(settings["instance"])
        self._region = PersistenceRegion.open(settings["instance"], writable=True)
        self._context = zmq.Context(io_threads=1)
        self._admin = self._context.socket(zmq.ROUTER)
        limit_router(self._admin, settings["message_bytes"])
        self._selector = Selector()
        self._bell = Doorbell(bell_path(settings["folder"], settings["instance"], NAME), settings["gid"])
        self._ringer = Ringer()
        self._walk: Walk | None = None
        self._walk_is_base = False
        self._waiting: list[Reply] = []
        self._next_snapshot = 0.0
        self._retry_at = 0.0
        self._records_since = 0
        self._last: Manifest | None = None
        self._archive: KeeperArchive | None = None
        self.last_error = ""
        self.overtaken = 0

    # --- the beginning ------------------------------------------------------------------------------
    def start(self, stop: StopFlag) -> bool:
        """Wait for the workers, then take up what is on disk. False if a stop was asked for meanwhile.

        Raises DamagedFile, OSError.
        """
        listen(self._admin, self._settings["endpoint"], self._settings["gid"])
        until = time.monotonic() + _START_S_MAX
        while True:
            snapshot = self._directory.snapshot()
            # Served once is enough: at a stop the workers are on their way out, and what they wrote is still to be read.
            if all(record.generation for record in snapshot.shards):
                break
            if stop.set:
                return False
            if time.monotonic() > until:
                raise InstanceNotFound("not all workers have come up")
            time.sleep(0.01)
        self._snapshot = snapshot
        self._shards = len(snapshot.shards)
        self._reader = open_reader(snapshot)
        prepare_folder(self._folder)
        for name in remove_unfinished(self._folder):
            self._log.warning("what a crash left of a snapshot is removed", snapshot=name)
        numbers = snapshot_numbers(self._folder)
        self._last = read_manifest(self._folder, numbers[-1]) if numbers else None
        self._libraries = KeptLibraries(self._settings, self._cipher, self._log)
        self._region.store(Word.SNAPSHOTTING, 0)
        folder, name = self._settings["folder"], self._settings["instance"]
        self._worker_bells = [str(bell_path(folder, name, f"w{shard}")) for shard in range(self._shards)]
        self._aof: Appender | None = None
        starts: dict[int, int] | None = {}
        if self._settings["aof"] == "off":
            self._region.store(Word.STATE, State.OFF)
        else:
            self._aof = Appender(
                OS_FILES,
                self._folder,
                self._region,
                self._shards,
                policy=self._settings["aof"],
                segment_bytes=self._settings["aof_segment_bytes"],
                cipher=self._cipher,
                log=self._log,
                made_durable=self._ring_workers,
            )
            starts = self._aof.begin()
        if self._settings["archive"]:
            # Its library is only loaded where it is needed.
            from .archiving import KeeperArchive

            self._archive = KeeperArchive(self._settings, self._log)
        self._tailers: list[_engine.LogTailer] = []
        if starts is None or not self._open_tailers(starts):
            self._rebase("what is on disk does not lead to the data in memory")
        self._selector.add(self._admin, self._on_call)
        self._selector.add_bell(self._bell.fileno(), self._bell.silence)
        self._schedule()
        return True

    def _open_tailers(self, starts: dict[int, int]) -> bool:
        """Read each log from where it says, else from its end. False if one of these places is gone."""
        for tailer in self._tailers:
            tailer.close()
        self._tailers = []
        for shard, record in enumerate(self._snapshot.shards):
            position = starts.get(shard)
            try:
                tailer = open_tailer(record.log_name, NAME, position)
            except (_engine.Overtaken, _engine.EngineError):
                return False
            self._tailers.append(tailer)
            # To ask for position 0 means "the oldest there is".
            if position is not None and tailer.position != position:
                return False
        return True

    # --- the loop -----------------------------------------------------------------------------------
    def run(self, stop: StopFlag) -> None:
        """Keep until `stop` is set, then what is in the logs by then."""
        while not stop.set:
            busy = self._turn()
            may_sleep = not busy and all([tailer.prepare_wait() for tailer in self._tailers])
            self._selector.run(KEEPER_POLL_MS if may_sleep else 0)
        # The workers have ended before: this is all there is.
        while self._aof is not None and self._aof.takes and self._drain():
            pass
        self._libraries.keep(time.monotonic())
        if self._aof is not None:
            self._aof.end()
        if self._archive is not None:
            self._archive.end()

    def _turn(self) -> bool:
        """One look at everything; True if there is more to do at once."""
        now = time.monotonic()
        busy = self._drain()
        self._libraries.step(now)
        if self._aof is not None:
            self._aof.step(now)
            if not self._aof.is_based and self._walk is None and now >= self._retry_at:
                self._rebase(self._aof.last_error)
        walk = self._walk
        if walk is not None:
            busy |= walk.shard >= 0 and walk.step(self._tailers[walk.shard].position)
            if walk.done or walk.error is not None:
                self._finish_snapshot()
        elif now >= self._next_snapshot or 0 < self._settings["snapshot_after_writes"] <= self._records_since:
            self._begin_snapshot("scheduled")
        if self._archive is not None:
            self._archive.step(now, self._aof, self._last.number if self._last else 0)
        return busy

    def _drain(self) -> bool:
        """Hand on what is new in the logs, a frame of each at most. True if there was something."""
        found = False
        aof, walk = self._aof, self._walk
        if aof is not None and not aof.takes and not aof.needs_base:
            # The disk is full: what the rings have is kept there.
            return False
        for shard, tailer in enumerate(self._tailers):
            try:
                frame = tailer.poll_frame(FRAME_BYTES_MAX, self._reader, shard)
            except _engine.Busy:
                continue
            except (_engine.Overtaken, _engine.EngineError) as error:
                self._overtaken(shard, error)
                return True
            if frame is None:
                continue
            found = True
            self._records_since += frame.last_seq - frame.first_seq + 1
            if walk is not None:
                walk.log(shard, frame)
            if aof is not None and aof.takes:
                aof.append(shard, frame)
                if not aof.takes:
                    break
        return found

    def _overtaken(self, shard: int, error: Exception) -> None:
        """Writes were faster than the disk, by more than a ring."""
        self.overtaken += 1
        self._log.error("the log of a shard was not read in time", shard=shard, reason=str(error))
        if self._walk is not None:
            self._drop_walk(f"the log of shard {shard} was faster than the snapshot")
        if self._aof is None:
            self._open_tailers({})
        else:
            self._rebase(f"the log of shard {shard} has a gap")

    def _ring_workers(self) -> None:
        for path in self._worker_bells:
            self._ringer.ring(path)

    # --- snapshots ----------------------------------------------------------------------------------
    def _rebase(self, reason: str) -> None:
        """Begin the append-only file anew, with a snapshot that it leads on from."""
        assert self._aof is not None
        self._retry_at = time.monotonic() + PERSISTENCE_RETRY_MS / 1000
        if self._walk is not None:
            self._drop_walk("the append-only file begins anew")
        self._open_tailers({})
        self._log.info("the append-only file begins anew, with a snapshot", reason=reason)
        try:
            segment = self._aof.rebase({shard: tailer.position for shard, tailer in enumerate(self._tailers)})
        except OSError as error:
            return self._snapshot_failed(error)
        self._start_walk(segment, is_base=True)

    def _begin_snapshot(self, reason: str) -> None:
        self._log.info("snapshot begins", reason=reason)
        segment = 0
        if self._aof is not None:
            segment = self._aof.rotate()
            if not segment:
                return self._snapshot_failed(OSError(self._aof.last_error or "the append-only file takes nothing at present"))
        else:
            self._open_tailers({})
        self._start_walk(segment, is_base=False)

    def _start_walk(self, segment: int, *, is_base: bool) -> None:
        numbers = snapshot_numbers(self._folder)
        number = max(numbers[-1] if numbers else 0, self._last.number if self._last else 0) + 1
        fields = {
            "instance": self._settings["instance"],
            "lineage": self._region.word(Word.LINEAGE),
            "release": version("shmcache"),
            "replication": self._replication(),
            "key": self._cipher.key_id if self._cipher else "",
            "libraries": self._libraries.for_manifest(),
        }
        try:
            self._walk = Walk(
                OS_FILES,
                self._folder,
                number,
                self._reader,
                self._shards,
                level=self._settings["snapshot_level"],
                cipher=self._cipher,
                first_segment=segment,
                fields=fields,
                prepare=lambda: os.setpriority(os.PRIO_PROCESS, 0, _NICE),
            )
        except OSError as error:
            return self._snapshot_failed(error)
        self._walk_is_base = is_base
        self._records_since = 0
        self._region.store(Word.SNAPSHOTTING, number)

    def _replication(self) -> dict[str, Any]:
        """Whose logs the positions in a snapshot are, for a replica that begins with it."""
        try:
            region = ReplicationRegion.open(self._settings["instance"])
        except ShmcacheError:
            return {}
        identity = region.identity()
        region.close()
        return {"history": identity.history, "epoch": identity.epoch, "role": identity.role} if identity else {}

    def _finish_snapshot(self) -> None:
        walk = self._walk
        assert walk is not None
        if walk.error is not None:
            return self._drop_walk(str(walk.error))
        walk.close()
        self._walk, self._last, self.last_error = None, walk.manifest, ""
        self._region.store(Word.SNAPSHOTTING, 0)
        assert self._last is not None
        self._region.store(Word.LAST_SNAPSHOT_MS, self._last.ended_ms)
        self._schedule()
        if self._aof is not None and self._walk_is_base:
            self._aof.based()
        self._log.info(
            "snapshot made", number=walk.number, bytes=self._last.bytes, keys=self._last.keys,
            seconds=round(time.monotonic() - walk.began, 3),
        )  # fmt: skip
        self._retire()
        self._answer_waiting({"number": self._last.number, "bytes": self._last.bytes, "keys": self._last.keys})

    def _schedule(self) -> None:
        every = self._settings["snapshot_every_ms"] / 1000
        self._next_snapshot = time.monotonic() + every if every else float("inf")

    def _drop_walk(self, reason: str) -> None:
        walk, self._walk = self._walk, None
        assert walk is not None
        walk.close()
        self._snapshot_failed(OSError(reason))

    def _snapshot_failed(self, error: OSError) -> None:
        self.last_error = str(error)
        self._region.store(Word.SNAPSHOTTING, 0)
        self._log.error("snapshot failed", reason=self.last_error)
        self._retry_at = time.monotonic() + PERSISTENCE_RETRY_MS / 1000
        self._next_snapshot = max(self._next_snapshot, self._retry_at)
        self._records_since = 0
        self._answer_waiting(ShmcacheError(f"snapshot failed: {self.last_error}"))

    def _retire(self) -> None:
        """Remove snapshots beyond those that are kept, and the log that no kept one needs."""
        try:
            may_remove = self._archive.may_retire if self._archive is not None else None
            retire(OS_FILES, self._folder, self._settings["snapshot_keep"], may_remove)
        except (OSError, DamagedFile) as error:
            self._log.warning("old snapshots and logs could not be removed", reason=str(error))

    # --- operators ----------------------------------------------------------------------------------
    def _answer_waiting(self, result: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            reply(result)

    def _on_call(self, message: list[bytes]) -> None:
        if len(message) < 3:
            return
        route = message[:-2]
        try:
            header = frames.unpack_header(message[-2])
            call, arguments = codec.decode_control(message[-1])
        except ProtocolError as error:
            return self._send([*route, frames.pack_header(frames.ERROR), codec.encode_error("PROTOCOL", str(error))])

        def reply(result: Any) -> None:
            if isinstance(result, Exception):
                head = frames.pack_header(frames.ERROR, 0, 0, header.request_id)
                return self._send([*route, head, codec.encode_error("ERR", str(result))])
            self._send([*route, frames.pack_header(0, 0, 0, header.request_id), codec.encode_results([result])])

        match call:
            case "save":
                if self._walk is None:
                    self._begin_snapshot("asked for")
                    if self._walk is None:
                        return reply(ShmcacheError(f"snapshot failed: {self.last_error}"))
                if arguments.get("wait", True):
                    return self._waiting.append(reply)
                reply({"number": self._walk.number})
            case "status":
                reply(self.status())
            case _:
                reply(ProtocolError(f"unknown control call {call!r}"))

    def _send(self, message: list[bytes]) -> None:
        try:
            self._admin.send_multipart(message, zmq.NOBLOCK)
            self._selector.used(self._admin)
        except zmq.ZMQError:
            pass

    def status(self) -> dict[str, Any]:
        """For operators: what is on disk, what is being done."""
        walk = self._walk
        infos = [self._reader.shard_info(shard) for shard in range(self._shards)]
        total, used = sum(info["keys"] for info in infos), sum(info["used_bytes"] for info in infos)
        making = None
        if walk is not None:
            # How much it will be in the end is an estimate: records in place of entries.
            seconds = time.monotonic() - walk.began
            making = {"number": walk.number, "shard": walk.shard, "bytes": walk.walked_bytes, "expected_bytes": used, "seconds": seconds}
        last = self._last
        return {
            "instance": self._settings["instance"],
            "data_dir": str(self._folder),
            "keys": total,
            "aof": self._aof.status() if self._aof is not None else None,
            "snapshots": snapshot_numbers(self._folder),
            "last_snapshot": {"number": last.number, "ended_ms": last.ended_ms, "bytes": last.bytes, "keys": last.keys} if last else None,
            "making": making,
            "archive": self._archive.status() if self._archive is not None else None,
            "records_since_snapshot": self._records_since,
            "overtaken": self.overtaken,
            "last_error": self.last_error or self._libraries.last_error,
            "process": process_stats(),
        }

    def close(self) -> None:
        """Stop listening."""
        if self._walk is not None:
            self._walk.close()
        self._selector.close()
        self._bell.close()
        self._ringer.close()
        self._context.destroy(linger=200)
        remove_socket(self._settings["endpoint"])


def main() -> int:
    """Keep until SIGTERM; returns the exit code."""
    settings, stop = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="keeper", instance=settings["instance"], pid=os.getpid())
    try:
        keeper = Keeper(settings, log)
        if not keeper.start(stop):
            return exit_codes.STOPPED
    except (ShmcacheError, _engine.EngineError, OSError) as error:
        report(settings, error=f"keeper: {error}", kind=type(error).__name__)
        return exit_codes.START_FAILED
    report(settings, ready=True)
    log.debug("keeper ready")
    keeper.run(stop)
    keeper.close()
    return exit_codes.STOPPED


if __name__ == "__main__":
    sys.exit(main())
