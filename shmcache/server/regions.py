"""The objects of instances in /dev/shm: what is there, whether it is in use, and how it is removed."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import posix_ipc

from .. import _engine
from ..errors import ConfigError, InstanceExists, LayoutMismatch, NoSpace
from ..protocol.directory import _retire
from ..protocol.names import (
    REGION_KINDS,
    RegionKind,
    directory_name,
    instance_of,
    region_name,
    replication_name,
)

SHM: Final = Path("/dev/shm")
_BEGINNING: Final = struct.Struct("<8sQ")
"""Magic and layout version of hints and log."""


@dataclass(frozen=True, slots=True)
class ShmObject:
    """One object of an instance in /dev/shm."""

    name: str
    """POSIX name, with the leading slash."""
    instance: str
    size_bytes: int
    """Address space."""
    allocated_bytes: int
    """Memory taken."""
    in_use: bool
    """Whether the process that owns it (supervisor or worker) holds its lock."""


@contextlib.contextmanager
def opened(name: str, *, writable: bool = False) -> Iterator[int]:
    """Descriptor of an object, closed at the end. Raises posix_ipc.ExistentialError."""
    memory = posix_ipc.SharedMemory(name, read_only=not writable)
    try:
        yield memory.fd
    finally:
        memory.close_fd()


def is_locked(fd: int) -> bool:
    """Whether another process holds the lock of the object open as `fd`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def list_objects(instance: str | None = None) -> list[ShmObject]:
    """All objects of all instances, or of one, by name. Objects that vanish meanwhile are left out."""
    found = []
    for path in sorted(SHM.glob("shmcache.*")):
        owner = instance_of(path.name)
        if owner is None or (instance is not None and owner != instance):
            continue
        with contextlib.suppress(posix_ipc.ExistentialError, PermissionError), opened("/" + path.name) as fd:
            status = os.fstat(fd)
            in_use = not path.name.endswith((".hints", ".log", ".replication", ".persistence")) and is_locked(fd)
            found.append(ShmObject("/" + path.name, owner, status.st_size, status.st_blocks * 512, in_use))
    return found


def supervisor_alive(instance: str) -> bool:
    """Whether a supervisor holds the instance's directory."""
    try:
        with opened(directory_name(instance)) as fd:
            return is_locked(fd)
    except posix_ipc.ExistentialError:
        return False


def remove_regions(instance: str) -> int:
    """Retire and unlink the regions (not the directory) of an instance; returns the bytes of memory given
    back.
    """
    freed = 0
    for item in list_objects(instance):
        if item.name == directory_name(instance):
            continue
        with contextlib.suppress(posix_ipc.ExistentialError):
            if item.name.endswith(".data"):
                with opened(item.name, writable=True) as fd, contextlib.suppress(_engine.EngineError):
                    _engine.retire_region(fd)
            posix_ipc.unlink_shared_memory(item.name)
            freed += item.allocated_bytes
    return freed


def purge(instance: str) -> int:
    """Remove everything of a stopped instance; returns the bytes given back. Raises InstanceExists if it
    runs.
    """
    if supervisor_alive(instance):
        raise InstanceExists(f"instance {instance!r} is running: stop it first")
    freed = remove_regions(instance)
    with contextlib.suppress(posix_ipc.ExistentialError):
        with opened(directory_name(instance), writable=True) as fd:
            freed += os.fstat(fd).st_blocks * 512
            _retire(fd)
        posix_ipc.unlink_shared_memory(directory_name(instance))
    return freed


def had_relay(instance: str, warm: bool) -> bool:
    """Whether a relay kept a role for the data that are there. What it kept for data that are gone is removed."""
    name = replication_name(instance)
    if not warm:
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(name)
        return False
    with contextlib.suppress(posix_ipc.ExistentialError), opened(name):
        return True
    return False


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an earlier run left of one shard."""

    shard: int
    kinds: frozenset[RegionKind]
    info: dict[str, Any] | None
    """`_engine.region_info`; None if the data region was never formatted."""


def leftovers(instance: str) -> list[Leftover]:
    """The shards of which something is left. Raises LayoutMismatch naming the first region that is of
    another release.
    """
    kinds: dict[int, set[RegionKind]] = {}
    for item in list_objects(instance):
        _, _, *rest = item.name.split(".")
        if len(rest) == 2:
            kinds.setdefault(int(rest[0]), set()).add(rest[1])  # type: ignore[arg-type]
    found = []
    for shard, present in sorted(kinds.items()):
        info = None
        for kind in sorted(present):
            name = region_name(instance, shard, kind)
            with opened(name) as fd:
                try:
                    info = _look_at(fd, kind) or info
                except _engine.EngineError as error:
                    raise LayoutMismatch(
                        f"the region {name} that an earlier run left cannot be used ({error}): "
                        "start with --cold to remove it and begin empty"
                    ) from None
        found.append(Leftover(shard, frozenset(present), info))
    return found


def _look_at(fd: int, kind: RegionKind) -> dict[str, Any] | None:
    """What a data region says of itself; None of others, and of one that a crash left before it was anyone's. Raises EngineError."""
    magic, layout = _BEGINNING.unpack(os.pread(fd, _BEGINNING.size, 0).ljust(_BEGINNING.size, b"\0"))
    # The engine writes its magic last.
    if not magic.strip(b"\0"):
        return None
    if kind == "data":
        return dict(_engine.region_info(fd))
    if layout != _engine.LAYOUT_VERSION:
        raise _engine.LayoutMismatch(f"layout version {layout}, this release needs {_engine.LAYOUT_VERSION}")
    return None


def adoptable(found: list[Leftover], workers: int) -> frozenset[int]:
    """Shards that start warm. Raises ConfigError when what is there does not fit this number of workers."""
    formatted = [item for item in found if item.info is not None]
    for item in formatted:
        assert item.info is not None
        if item.info["shards"] != workers:
            raise ConfigError(
                f"workers: an earlier run left {item.info['shards']} shard(s) in /dev/shm, now there are "
                f"{workers} workers: start with --workers {item.info['shards']}, "
                "or with --cold to begin empty"
            )
        if item.kinds != frozenset(REGION_KINDS):
            missing = ", ".join(sorted(set(REGION_KINDS) - item.kinds))
            raise ConfigError(
                f"shard {item.shard} has lost its region(s) {missing}: start with --cold to begin empty"
            )
    return frozenset(item.shard for item in formatted)


def check_space(needed_bytes: int, total_bytes: int, free_bytes: int) -> str | None:
    """A warning if the configured memory does not fit at present. Raises NoSpace if it never can."""
    # Here, because a worker, which does without, would start a tenth of a second later.
    from ..config import format_size

    if needed_bytes > total_bytes:
        raise NoSpace(
            f"memory: {format_size(needed_bytes)} (with logs) do not fit into /dev/shm, which is "
            f"{format_size(total_bytes)} in all: lower --memory, or enlarge it "
            "(mount -o remount,size=... /dev/shm; "
            "docker run --shm-size=...)"
        )
    if needed_bytes > free_bytes:
        return (
            f"only {format_size(free_bytes)} of /dev/shm are free, {format_size(needed_bytes)} are configured"
        )
    return None


def needed_bytes(memory_bytes: int, log_bytes: int, workers: int) -> int:
    """What the regions of an instance take when they are full."""
    return memory_bytes + workers * log_bytes
