"""Opening the small regions of an instance, directory and replication, which Python itself reads: by name, held to magic and layout version."""

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final

import posix_ipc

from ..errors import InstanceNotFound, LayoutMismatch

_START: Final = struct.Struct("<8sI")
"""Both begin with a magic and a layout version."""


@contextlib.contextmanager
def opened_read_only(name: str, instance: str, absent: str) -> Iterator[int]:
    """A descriptor of the object. Raises InstanceNotFound: `absent` says why there may be none."""
    try:
        memory = posix_ipc.SharedMemory(name, read_only=True)
    except posix_ipc.ExistentialError:
        raise InstanceNotFound(absent) from None
    except PermissionError:
        raise InstanceNotFound(f"no permission to use instance {instance!r}") from None
    try:
        yield memory.fd
    finally:
        memory.close_fd()


def mapped(fd: int, magic: bytes, layout: int, least_bytes: int, whose: str, advice: str, *, writable: bool = False) -> mmap.mmap:
    """All of an open object. Raises InstanceNotFound if it is shorter than `least_bytes`, LayoutMismatch; `whose` begins the messages."""
    size = os.fstat(fd).st_size
    if size < least_bytes:
        raise InstanceNotFound(f"{whose} is not ready")
    region = mmap.mmap(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
    found_magic, found = _START.unpack_from(region)
    if found_magic != magic or found != layout:
        region.close()
        raise LayoutMismatch(f"{whose} has layout version {found}, this release needs {layout}: {advice}")
    return region
