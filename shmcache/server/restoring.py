"""Where the data of a start come from: the regions in /dev/shm, else the disk, else nowhere. The supervisor's part and a worker's."""

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import posix_ipc

from .. import _engine
from ..errors import ConfigError, InstanceNotFound, LayoutMismatch, ShmcacheError
from ..limits import SYNC_MS
from ..persistence.blocks import Cipher
from ..persistence.files import OS_FILES
from ..persistence.libraries import NAME as LIBRARIES
from ..persistence.recovery import (
    FETCHING,
    NOWHERE,
    Loaded,
    Restore,
    check_keys,
    close_open_segments,
    find_restore,
    followed_from,
    load,
    prepare_folder,
)
from ..persistence.snapshots import read_manifest
from ..protocol.names import persistence_name
from ..protocol.persistence import PersistenceRegion, Row, State, Word
from ..protocol.replication import Followed, ReplicationRegion, new_identity
from .regions import adoptable, leftovers, remove_regions

if TYPE_CHECKING:
    # A worker needs neither, and starts a tenth of a second earlier without.
    from ..config import Config
    from .plan import Plan

_SAY_S: Final = 5 * SYNC_MS / 1000
"""How often a worker that reads from disk says how far it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the data of a start come from."""

    warm: frozenset[int]
    restore: Restore | None = None
    followed: Followed | None = None
    """Of data from an archive: the logs that they are a state of, and at which positions."""

    def begins_as_replica(self, config: "Config") -> bool:
        """Whether no write must come in between the data and the log that is followed: no full copy would undo it."""
        return self.followed is not None and bool(config.replication.replica_of)

    def settings(self) -> dict[str, Any] | None:
        """For the workers, as JSON can carry it."""
        if self.restore is None:
            return None
        number = self.restore.snapshot.number if self.restore.snapshot else 0
        return {"snapshot": number, "segments": list(self.restore.segments), "until_ms": self.restore.until_ms}

    def text(self, keys: int) -> str:
        """For the line that says that the instance is ready."""
        if self.warm:
            return f"warm with {keys} keys"
        if self.restore is None:
            return "empty"
        source = f"snapshot {self.restore.snapshot.number}" if self.restore.snapshot else "the append-only file"
        return f"{keys} keys read from {source}"


def open_cipher(key_file: str) -> Cipher | None:
    """The keys of the data on disk, if there are any. Raises ConfigError."""
    if not key_file:
        return None
    from ..persistence.encryption import load_cipher

    return load_cipher(key_file)


def find_data(config: "Config", plan: "Plan", log: Any) -> Found:
    """Look at what an earlier run left in /dev/shm and on disk; what is of no use in /dev/shm is removed.

    Raises ConfigError, LayoutMismatch, DamagedFile, OSError.
    """
    if config.instance.cold and (freed := remove_regions(plan.instance)):
        log.info("cold start: regions of an earlier run removed", freed_bytes=freed)
    folder = Path(config.persistence.data_dir) if config.persistence.data_dir else None
    if folder is None:
        warm = adoptable(leftovers(plan.instance), plan.workers)
        if warm and _is_half_restored(plan.instance):
            raise ConfigError(
                "data_dir: an earlier start ended while it read its data from disk, what is in /dev/shm is not all of them: "
                "give the --data-dir of then, or --cold to begin empty"
            )
        return Found(warm)
    cipher = open_cipher(config.persistence.data_key_file)
    prepare_folder(folder)
    check_keys(folder, cipher)
    warm, trouble = _usable(plan)
    until_ms = config.persistence.until
    if warm and until_ms:
        raise ConfigError("until: there are data in /dev/shm: give --cold to begin with those of that time instead")
    if warm:
        return Found(warm)
    if _fetch(config, folder, log):
        check_keys(folder, cipher)
    scan = close_open_segments(OS_FILES, folder, cipher, log)
    restore = find_restore(folder, until_ms, cipher)
    if trouble is not None:
        if restore is None:
            # Nothing else has what may be in there.
            raise trouble
        log.warning("what is in /dev/shm cannot be used, the data are read from disk instead", reason=str(trouble))
    remove_regions(plan.instance)
    if restore is None:
        log.info("nothing on disk: an empty start", data_dir=str(folder))
    else:
        log.info(
            "data are read from disk", snapshot=restore.snapshot.number if restore.snapshot else None, segments=len(restore.segments),
            until_ms=until_ms, log_ends_ms=scan.last_ms if scan is not None else None,
        )  # fmt: skip
    return Found(frozenset(), restore, followed_from(restore, scan) if restore else None)


def _fetch(config: "Config", folder: Path, log: Any) -> bool:
    """Fill an empty data folder from the archive, if one is given; whether it did. Raises ArchiveError, ConfigError, DamagedFile, OSError."""
    url = config.persistence.restore
    if not url and not (folder / FETCHING).exists():
        return False
    # Most starts need neither this nor the library behind it.
    from ..persistence.fetching import Fetching, is_empty, unfinished

    begun = unfinished(folder)
    if begun and not url:
        raise ConfigError(f"restore: one from {begun} into {folder} is not finished: give --restore {begun} again, or empty the folder")
    if url and (begun or is_empty(folder)):
        Fetching(url, folder, OS_FILES, log, config.persistence.until).run()
        # Of whatever was here before; those of the archive are in its snapshot.
        (folder / LIBRARIES).unlink(missing_ok=True)
        return True
    if url:
        log.info("the data folder has data: nothing is fetched from the archive", data_dir=str(folder), restore=url)
    return False


def restore_libraries(config: "Config", plan: "Plan", found: Found, log: Any) -> None:
    """The libraries of functions, where the data are kept on disk. Before any process starts. Raises DamagedFile, WrongKey, OSError."""
    if not config.persistence.data_dir:
        return
    # A worker, which imports this module, needs none of it.
    from .keeping_libraries import bring_back
    from .libraries import LibrariesFile

    file = LibrariesFile(plan.folder, plan.instance, plan.gid)
    cipher = open_cipher(config.persistence.data_key_file)
    bring_back(Path(config.persistence.data_dir), file, found.restore, cipher, log, is_warm=bool(found.warm))


def begin_as_replica(config: "Config", plan: "Plan", found: Found) -> None:
    """A replica that begins with its primary's snapshot asks for the log from there, not for a copy of everything. Before the relay starts."""
    if not found.begins_as_replica(config):
        return
    assert found.followed is not None
    region = ReplicationRegion.take(plan.instance, plan.workers, gid=plan.gid)
    identity = region.identity() or new_identity()
    region.store_identity(replace(identity, followed={config.replication.replica_of: found.followed}))
    region.close()


def _usable(plan: "Plan") -> tuple[frozenset[int], ShmcacheError | None]:
    """Shards whose regions can be used as they are: all of them or none, as the disk has the same or more; and why not, if there is something
    that cannot.
    """
    try:
        found = leftovers(plan.instance)
        warm = adoptable(found, plan.workers)
        if not warm:
            return warm, None
        if len(warm) < plan.workers:
            kept = ", ".join(map(str, sorted(warm)))
            raise ConfigError(f"only shard(s) {kept} of {plan.workers} are left in /dev/shm: start with --cold to begin empty")
        if _is_half_restored(plan.instance):
            raise ConfigError("an earlier start ended while it read its data from disk: start with --cold to begin empty")
        # Whose logs these are, and how they are followed, stands there.
        with contextlib.suppress(InstanceNotFound):
            ReplicationRegion.open(plan.instance).close()
    except (LayoutMismatch, ConfigError) as error:
        return frozenset(), error
    return warm, None


def _is_half_restored(instance: str) -> bool:
    """Whether an earlier start ended while it read from disk. Raises LayoutMismatch if that cannot be told."""
    try:
        region = PersistenceRegion.open(instance)
    except InstanceNotFound:
        return False
    try:
        return region.is_restoring
    finally:
        region.close()


def take_region(config: "Config", plan: "Plan", found: Found) -> None:
    """Make the persistence region, or take the one that belongs to the warm data, before any worker starts."""
    name = persistence_name(plan.instance)
    is_known = False
    with contextlib.suppress(posix_ipc.ExistentialError):
        if found.warm and config.persistence.data_dir:
            memory = posix_ipc.SharedMemory(name, read_only=True)
            memory.close_fd()
            is_known = True
        else:
            posix_ipc.unlink_shared_memory(name)
    if not config.persistence.data_dir:
        return
    region = PersistenceRegion.take(plan.instance, plan.workers, gid=plan.gid)
    try:
        aof = config.persistence.aof
        if found.warm and not is_known:
            for shard in range(plan.workers):
                region.store_row(shard, Row.BASE, NOWHERE)
        if not found.warm:
            region.store(Word.CONTINUES, found.restore.last_segment if found.restore else 0)
        region.store(Word.ALWAYS, int(aof == "always"))
        region.store(Word.REFUSES, int(aof != "off" and config.persistence.aof_on_error == "refuse"))
        if aof == "off":
            region.store(Word.STATE, State.OFF)
        elif not (found.warm and region.state in (State.BASING, State.FAILED)):
            # That what is on disk leads nowhere is still so for data that were found warm.
            region.store(Word.STATE, State.STARTING)
    finally:
        region.close()


def restore_shard(owner: _engine.Owner, settings: dict[str, Any], slots: bytes, log: Any) -> Loaded | None:
    """A worker's part: read its shard, if it is a new one and there is anything. Raises DamagedFile, OSError, EngineError."""
    if not settings["data_dir"] or not settings["create"]:
        return None
    region = PersistenceRegion.open(settings["instance"], writable=True)
    shard = settings["shard"]
    try:
        loaded = None
        if settings["restore"] is not None:
            loaded = _load(owner, settings, slots, log)
        region.store_row(shard, Row.BASE, owner.log_position)
        region.store_row(shard, Row.RESTORING, 0)
        return loaded
    finally:
        region.close()


def begin_restoring(settings: dict[str, Any]) -> None:
    """Before a worker makes its regions: until they have everything they are no data."""
    if settings["data_dir"] and settings["create"]:
        region = PersistenceRegion.open(settings["instance"], writable=True)
        region.store_row(settings["shard"], Row.RESTORING, 1)
        region.close()


def _load(owner: _engine.Owner, settings: dict[str, Any], slots: bytes, log: Any) -> Loaded:
    folder = Path(settings["data_dir"])
    found = settings["restore"]
    snapshot = read_manifest(folder, found["snapshot"]) if found["snapshot"] else None
    restore = Restore(folder, snapshot, tuple(found["segments"]), found["until_ms"])
    began = said = time.monotonic()

    def say(loaded: Loaded) -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= _SAY_S:
            said = now
            log.info("reading from disk", seconds=round(now - began, 1), **asdict(loaded))

    cipher = open_cipher(settings["data_key_file"])
    loaded = load(restore, settings["shard"], settings["shards"], slots, owner.apply, cipher, say)
    log.info("read from disk", seconds=round(time.monotonic() - began, 3), keys=owner.stats()["keys"], **asdict(loaded))
    return loaded
