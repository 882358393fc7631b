"""Records out of a running instance, whose memory is read directly, or out of a data folder, by reading it as a start does."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shmcache import Client, _engine
from shmcache.errors import CommandFailed, ConfigError, DamagedFile, Unavailable
from shmcache.limits import SNAPSHOT_SLICE_BYTES
from shmcache.persistence.blocks import Cipher
from shmcache.persistence.recovery import Restore, find_restore, load
from shmcache.persistence.segments import open_segment, segment_path
from shmcache.persistence.snapshots import read_manifest
from shmcache.protocol.attach import open_reader
from shmcache.protocol.directory import Directory, even_slots

from .elements import COLLECTIONS, Ask, read_pages
from .stream import Record

_BUSY_PAUSE_S = 0.001
_BUSY_S_MAX = 10.0


def collection(ask: Ask, key: bytes, kind: str, expires_ms: int) -> Iterator[Record]:
    """The pages of a collection; none if it was deleted, or has become something else, meanwhile."""
    try:
        for number, page in enumerate(read_pages(ask, key, kind)):
            yield Record(key, kind, page, expires_ms, number > 0)
    except (CommandFailed, _engine.CommandError):
        # It is of another kind by now: a newer state than the one that was met.
        return


def entries(reader: _engine.Reader, shard: int, ask: Ask) -> Iterator[Record]:
    """The living keys of a shard. One that is moved while the index grows may come twice, the newer state last. `ask` answers for collections."""
    cursor, patience = 0, time.monotonic() + _BUSY_S_MAX
    while True:
        try:
            cursor, _, records = reader.sync_slice(shard, cursor, SNAPSHOT_SLICE_BYTES)
        except _engine.Busy:
            if time.monotonic() > patience:
                raise Unavailable(f"shard {shard} has no owner, and a write of its last one is half done") from None
            time.sleep(_BUSY_PAUSE_S)
            continue
        except _engine.Retired:
            raise Unavailable("the instance was restarted meanwhile: its memory is another now") from None
        patience = time.monotonic() + _BUSY_S_MAX
        now_ms = time.time_ns() // 1_000_000
        for record in _engine.decode_records(records):
            if record.kind == "set" and not 0 < record.expiry_ms <= now_ms:
                assert record.value is not None
                if record.type in COLLECTIONS:
                    yield from collection(ask, record.key, record.type, record.expiry_ms)
                elif record.type == "string":
                    yield Record(record.key, "string", record.value, record.expiry_ms)
        if not cursor:
            return


class LiveSource:
    """An instance of this host. Raises InstanceNotFound, LayoutMismatch, Unavailable."""

    def __init__(self, name: str) -> None:
        directory = Directory.open(name)
        snapshot = directory.snapshot()
        directory.close()
        self._reader, self._shards = open_reader(snapshot), len(snapshot.shards)
        self._client = Client(f"shm://{name}")
        self.about = f"instance {name}"
        self.keys = sum(self._reader.shard_info(shard)["keys"] for shard in range(self._shards))

    def __iter__(self) -> Iterator[Record]:
        for shard in range(self._shards):
            yield from entries(self._reader, shard, self._client.execute_command)


class FolderSource:
    """A data folder: one snapshot as it is, or all of the newest state. Raises ConfigError, DamagedFile, OSError.

    Each shard is read into an engine of its own on anonymous memory, the way a worker reads it, so that what comes out is what a start would serve.
    """

    def __init__(self, folder: Path, number: int | None = None, cipher: Cipher | None = None) -> None:
        restore = Restore(folder, read_manifest(folder, number), ()) if number else find_restore(folder, cipher=cipher)
        if restore is None:
            raise ConfigError(f"there is nothing in {folder}")
        self._restore, self._cipher = restore, cipher
        snapshot = restore.snapshot
        if snapshot is not None:
            self._shards, self.keys = len(snapshot.shards), snapshot.keys
        else:
            with open_segment(segment_path(folder, restore.segments[0]), cipher) as (meta, _):
                self._shards, self.keys = len(meta.starts), 0
        self.about = f"snapshot {snapshot.number}" if snapshot else "the log"
        if restore.segments:
            self.about += f" and segments up to {restore.segments[-1]}"
        raw = sum(part.raw_bytes for part in snapshot.shards) if snapshot else 0
        self._memory = 2 * (raw + sum(segment_path(folder, n).stat().st_size for n in restore.segments)) + (64 << 20)

    def __iter__(self) -> Iterator[Record]:
        slots = even_slots(self._shards)
        for shard in range(self._shards):
            with _engine_of_own(self._memory) as (owner, reader):
                try:
                    load(self._restore, shard, self._shards, slots, owner.apply, self._cipher)
                except _engine.EngineError as error:
                    raise DamagedFile(str(self._restore.folder), 0, f"shard {shard} cannot be read: {error}") from None
                yield from entries(reader, 0, owner.command)


@contextlib.contextmanager
def _engine_of_own(memory_bytes: int) -> Iterator[tuple[_engine.Owner, _engine.Reader]]:
    fds = [os.memfd_create(f"shmcache-export-{kind}", os.MFD_CLOEXEC) for kind in ("data", "hints", "log")]
    owner = None
    try:
        owner = _engine.Owner.create(*fds, memory_bytes=memory_bytes)
        # A replica neither expires nor evicts, and may take more than it was given.
        owner.configure(replica=True)
        yield owner, _engine.Reader([(fds[0], fds[1])], bytes(2 * _engine.SLOT_COUNT))
    finally:
        if owner is not None:
            owner.close()
        for fd in fds:
            os.close(fd)
