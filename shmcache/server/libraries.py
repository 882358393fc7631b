"""The libraries of functions of an instance: one file beside its sockets, in which all its processes look.

Shard 0 writes it, on a replica the relay, each time as a whole and by rename; a start from disk writes it before any of them is there. Workers look before
each call whether it is another one, the keeper and relays of replicas do so now and then.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import msgpack

from ..errors import ConfigError
from ..limits import LIBRARIES_BYTES_MAX, LIBRARIES_MAX

NONE: Final = msgpack.packb([])
"""What stands for no libraries."""
Version = tuple[int, ...]


def check(data: bytes) -> list[bytes]:
    """The libraries' texts. Raises ValueError if these bytes are none."""
    try:
        texts = msgpack.unpackb(data)
    except Exception as error:
        raise ValueError(f"not libraries: {error!r}") from None
    if type(texts) is not list or len(texts) > LIBRARIES_MAX or not all(type(text) is bytes for text in texts):
        raise ValueError("not a list of libraries")
    if sum(map(len, texts)) > LIBRARIES_BYTES_MAX:
        raise ValueError(f"libraries of more than {LIBRARIES_BYTES_MAX} bytes")
    return texts


class LibrariesFile:
    """`version` tells whether it is another one than before: None if there is none."""

    def __init__(self, folder: Path | str, instance: str, gid: int) -> None:
        self.path = Path(folder, f"{instance}.functions")
        self._gid = gid

    def version(self) -> Version | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def read(self) -> bytes:
        """`NONE` if there is no file. Raises OSError."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return NONE

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        fresh = self.path.with_suffix(f".functions.{os.getpid()}")
        try:
            fresh.write_bytes(data)
            if self._gid >= 0:
                os.chown(fresh, -1, self._gid)
            fresh.chmod(0o640 if self._gid >= 0 else 0o600)
            fresh.rename(self.path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Watched:
    """The file as one process has seen it last."""

    def __init__(self, file: LibrariesFile) -> None:
        self.file = file
        self._seen: Version | None = ()
        self.data = NONE
        self.digest = ""

    def look(self) -> bool:
        """Whether it is another one than at the last look. Raises OSError."""
        version = self.file.version()
        if version == self._seen:
            return False
        data = self.file.read()
        self._seen = version
        if data == self.data and self.digest:
            return False
        self.data, self.digest = data, digest_of(data)
        return True

    def keep(self, data: Any) -> int:
        """Take what another instance has sent; how many libraries. Raises ConfigError, OSError."""
        try:
            count = len(check(data))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"what came as libraries is not: {error}") from None
        self.file.write(data)
        return count


def digest_of(data: bytes) -> str:
    """By which two instances see that they have the same libraries."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
