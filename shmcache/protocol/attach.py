"""Mapping an instance's regions by the names in its directory."""

import os

import posix_ipc

from .._engine import EngineError, LogTailer, Reader
from .._engine import LayoutMismatch as EngineLayoutMismatch
from ..errors import InstanceNotFound, LayoutMismatch, Unavailable
from .directory import DirectorySnapshot


def open_reader(snapshot: DirectorySnapshot, decode: bool = False) -> Reader:
    """Map all shards. Raises InstanceNotFound (not created yet, or gone), LayoutMismatch, Unavailable."""
    fds: list[int] = []
    try:
        for record in snapshot.shards:
            fds.append(posix_ipc.SharedMemory(record.data_name, read_only=True).fd)
            fds.append(posix_ipc.SharedMemory(record.hints_name).fd)
        return Reader(list(zip(fds[::2], fds[1::2], strict=True)), snapshot.slots, decode)
    except posix_ipc.ExistentialError:
        raise InstanceNotFound(f"instance {snapshot.instance!r} has no regions (yet)") from None
    except PermissionError:
        raise InstanceNotFound(
            f"no permission to map the regions of instance {snapshot.instance!r}"
        ) from None
    except EngineLayoutMismatch as error:
        raise LayoutMismatch(str(error)) from error
    except EngineError as error:
        raise Unavailable(f"instance {snapshot.instance!r}: {error}") from error
    finally:
        for fd in fds:
            os.close(fd)


def open_tailer(log_name: str, name: str, position: int | None) -> LogTailer:
    """Register as a reader of a write log: from its end (None), its oldest record (0) or a position.

    Raises InstanceNotFound; Overtaken if the position is gone; EngineError.
    """
    try:
        memory = posix_ipc.SharedMemory(log_name)
    except posix_ipc.ExistentialError:
        raise InstanceNotFound(f"the log {log_name} is gone") from None
    try:
        return LogTailer(memory.fd, name, position)
    finally:
        memory.close_fd()
