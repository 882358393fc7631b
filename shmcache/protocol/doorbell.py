"""Doorbells: how one process of an instance wakes another that sleeps, without a message.

A doorbell is a unix datagram socket. Ringing one costs its caller a system call and never blocks: when it is not
heard in time, the sleeper still wakes up by its own timeout.
"""

import contextlib
import os
import socket
from pathlib import Path


class Doorbell:
    """The sleeper's end; its descriptor goes into a poller."""

    def __init__(self, path: Path, gid: int = -1) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        if gid >= 0:
            os.chown(path, -1, gid)
            path.chmod(0o620)

    def fileno(self) -> int:
        return self._socket.fileno()

    def silence(self) -> None:
        """Take note of all rings so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


class Ringer:
    """The waker's end."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def ring(self, path: str) -> None:
        """Wake whoever sleeps at `path`; nothing happens if nobody does."""
        with contextlib.suppress(OSError):
            self._socket.sendto(b"\0", path)

    def close(self) -> None:
        self._socket.close()
