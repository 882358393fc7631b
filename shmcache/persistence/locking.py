"""Whose a data folder is: the supervisor that works in it holds a lock on a file in it, which dies with its process."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import ConfigError

FILE: Final = "lock"
_NAME_BYTES_MAX: Final = 200
_TRIES: Final = 10
_PAUSE_S: Final = 0.02
"""Somebody who asks whose it is (`holder_of`) holds the lock for a moment."""


def hold_folder(folder: Path, who: str) -> int:
    """Make the folder if need be and lock it for this process; the descriptor holds the lock until it is closed. Raises ConfigError, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if left:
                time.sleep(_PAUSE_S)
                continue
            holder = os.read(fd, _NAME_BYTES_MAX).decode("utf-8", "replace")
            os.close(fd)
            raise ConfigError(f"the data folder {folder} is in use by {holder or 'another process'}: stop that first") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{who} (pid {os.getpid()})".encode(), 0)
    return fd


@contextlib.contextmanager
def folder_held(folder: Path, who: str) -> Iterator[None]:
    """The same for a while. Raises ConfigError, OSError."""
    fd = hold_folder(folder, who)
    try:
        yield
    finally:
        os.close(fd)


def holder_of(folder: Path) -> str:
    """Who works in the folder at present; empty: nobody. Raises OSError."""
    try:
        fd = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(fd, _NAME_BYTES_MAX).decode("utf-8", "replace") or "another process"
    finally:
        os.close(fd)
    return ""
