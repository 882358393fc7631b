"""The calls to the operating system that durability hangs on, and nothing else of it: tests put a disk in their place that loses and tears
what was not synced (tests/support/torn_disk.py).
"""

import os
import shutil
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """A file that is only appended to. Errors are OSError."""

    def write(self, data: bytes) -> None:
        """Append all of it, or raise: then some of it may be there."""

    def sync(self) -> None:
        """Everything written so far survives a power cut. After an error nobody knows what does: the file must not be used any more."""

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Files(Protocol):
    """A file system."""

    def create(self, path: Path) -> File:
        """A new, empty file. Raises FileExistsError."""

    def open(self, path: Path) -> File:
        """One that is there, to be written on at its end."""

    def rename(self, path: Path, to: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def make_folder(self, path: Path) -> None: ...

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with all that is in it, as far as that can be done: raises nothing."""

    def sync_folder(self, path: Path) -> None:
        """Names in it survive a power cut: those created, renamed, removed so far."""


class OsFile:
    """A file of the operating system."""

    def __init__(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsFiles:
    """The file system of the operating system."""

    def create(self, path: Path) -> File:
        return OsFile(path, os.O_CREAT | os.O_EXCL)

    def open(self, path: Path) -> File:
        return OsFile(path, 0)

    def rename(self, path: Path, to: Path) -> None:
        os.rename(path, to)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def make_folder(self, path: Path) -> None:
        os.mkdir(path, 0o700)

    def remove_tree(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def sync_folder(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


OS_FILES = OsFiles()
