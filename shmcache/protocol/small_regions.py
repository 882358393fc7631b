"""Opening and making the small regions of an instance (directory, replication, persistence), which Python itself reads: by name, held to magic and layout version."""

import contextlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

import posix_ipc

from ..errors import InstanceNotFound, LayoutMismatch, NoSpace

_START: Final = struct.Struct("<8sI")
"""All begin with a magic and a layout version."""


@contextlib.contextmanager
def opened(name: str, instance: str, absent: str, *, writable: bool = False) -> Iterator[int]:
    """A descriptor of the object. Raises InstanceNotFound: `absent` says why there may be none."""
    try:
        memory = posix_ipc.SharedMemory(name, read_only=not writable)
    except posix_ipc.ExistentialError:
        raise InstanceNotFound(absent) from None
    except PermissionError:
        raise InstanceNotFound(f"no permission to use instance {instance!r}") from None
    try:
        yield memory.fd
    finally:
        memory.close_fd()


@contextlib.contextmanager
def taken(name: str, magic: bytes, size_bytes: int, gid: int, whose: str, form: Callable[[mmap.mmap], None]) -> Iterator[int]:
    """A descriptor of the object to write in, as it was left or new: `form` fills in what a new one begins with, but for the magic. Raises NoSpace."""
    memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREAT, mode=0o600)
    try:
        if gid >= 0:
            os.fchown(memory.fd, -1, gid)
            os.fchmod(memory.fd, 0o640)
        if os.pread(memory.fd, len(magic), 0) != magic:
            try:
                os.posix_fallocate(memory.fd, 0, size_bytes)
            except OSError as error:
                raise NoSpace(f"no room for {whose}: {error.strerror}") from None
            with mmap.mmap(memory.fd, size_bytes) as region:
                form(region)
                # The magic comes last: before it the region is nobody's.
                region[: len(magic)] = magic
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
