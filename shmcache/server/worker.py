"""One worker process: the only writer of its shard. `python -m shmcache.server.worker SETTINGS`."""

import fcntl
import os
import sys
import time
from typing import Any, Final

import posix_ipc

from .. import _engine
from ..errors import ShmcacheError
from ..limits import PREDECESSOR_WAIT_S
from ..protocol.directory import Directory
from ..protocol.names import REGION_KINDS, region_name
from ..protocol.slots import slot_bitmap, slot_ranges
from . import exit_codes
from .child import report, start_child
from .logs import configure_logs, logger
from .preparing import was_decided
from .restoring import begin_restoring, restore_shard
from .serving import Service

_LOCK_PAUSE_S: Final = 0.005


def _lock(fd: int, name: str) -> None:
    """Become the only writer; a predecessor that is just dying gets a moment."""
    until = time.monotonic() + PREDECESSOR_WAIT_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise _engine.EngineError(f"{name} is still owned by another process") from None
            time.sleep(_LOCK_PAUSE_S)


def _open_regions(settings: dict[str, Any]) -> list[int]:
    """Descriptors of the shard's regions, new and empty ones if it starts cold; the data region is locked."""
    names = [region_name(settings["instance"], settings["shard"], kind) for kind in REGION_KINDS]
    fds = []
    for name, kind in zip(names, REGION_KINDS, strict=True):
        if settings["create"]:
            try:
                posix_ipc.unlink_shared_memory(name)
            except posix_ipc.ExistentialError:
                pass
        memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX if settings["create"] else 0, mode=0o600)
        if settings["create"] and settings["gid"] >= 0:
            os.fchown(memory.fd, -1, settings["gid"])
            # Clients write access marks and log positions; the data only its owner.
            os.fchmod(memory.fd, 0o640 if kind == "data" else 0o660)
        fds.append(memory.fd)
    _lock(fds[0], names[0])
    return fds


def _own(settings: dict[str, Any], fds: list[int], log: Any) -> _engine.Owner:
    memory = settings["memory"]
    if settings["create"]:
        owner = _engine.Owner.create(
            *fds,
            memory_bytes=memory["memory_bytes"],
            shard=settings["shard"],
            shards=settings["shards"],
            log_bytes=settings["log_bytes"],
            policy=memory["policy"],
        )
    else:
        owner = _engine.Owner.attach(*fds, was_decided(settings, fds[0], log))
    if settings["apply_options"]:
        owner.configure(**memory)
    # The region does not keep these.
    owner.configure(**settings["compact"])
    if settings["node"]:
        owner.configure(node=settings["node"], tombstone_life_ms=settings["tombstone_life_ms"])
    return owner


def main() -> int:
    """Own the shard and serve it until SIGTERM; returns the exit code."""
    settings, stop = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="worker", instance=settings["instance"], shard=settings["shard"], pid=os.getpid())
    directory = Directory.open(settings["instance"])
    slots = directory.snapshot().slots
    try:
        begin_restoring(settings)
        fds = _open_regions(settings)
        owner = _own(settings, fds, log)
        if settings["create"] and settings["replica_of"]:
            # Before the relay says so: what is read from disk is a state of the primary, and must stay one.
            owner.configure(replica=True)
            owner.set_primary(settings["replica_of"])
        loaded = restore_shard(owner, settings, slots, log)
    except (_engine.EngineError, ShmcacheError, posix_ipc.Error, OSError) as error:
        report(settings, error=f"shard {settings['shard']}: {error}", kind=type(error).__name__)
        return exit_codes.START_FAILED
    # The data descriptor stays open: it holds the lock.
    for fd in fds[1:]:
        os.close(fd)
    if settings["shards"] > 1:
        owner.set_slots(slot_bitmap(slot_ranges(slots), settings["shard"]))
    service = Service(owner, directory, settings, log)
    service.bind()
    if settings["core"] is not None:
        # After the sockets: the I/O thread of ZeroMQ shall be free to run beside this one.
        os.sched_setaffinity(0, {settings["core"]})
    recovery = owner.recovery
    if loaded is not None:
        recovery |= {"keys": owner.stats()["keys"]}
    report(settings, ready=True, generation=owner.generation, recovery=recovery)
    log.debug("worker ready", **recovery)
    service.run(stop)
    service.close()
    owner.close()
    return exit_codes.STOPPED


if __name__ == "__main__":
    sys.exit(main())
