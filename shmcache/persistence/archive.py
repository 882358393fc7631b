"""An object store, as the few calls that the archive needs: s3://, gs://, az://, file:// through `obstore`.

Names in an archive are those in the data folder:

    snapshots/0000000007/shard-0000.snap
    snapshots/0000000007/manifest.json      uploaded last: without it there is no snapshot
    log/0000000012.aof                      ended segments only

Credentials, region and endpoint come from the variables that the store's other tools read (AWS_*, GOOGLE_*, AZURE_*).
"""

import datetime
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from ..errors import ArchiveError, ConfigError
from ..limits import ARCHIVE_PART_BYTES, ARCHIVE_PARTS_AT_ONCE, ARCHIVE_TIMEOUT_S

_TEXT_MAX: Final = 300
_CODES: Final = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "access denied",
    "InvalidAccessKeyId": "the store does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
}


class NoSuchObject(ArchiveError):
    """The archive has no object of that name."""


class Archive:
    """One archive. Threads may share it. Errors are ArchiveError, and OSError of local files."""

    def __init__(self, url: str, *, retries: int, create: bool = False) -> None:
        """Nothing is connected to yet. `create`: make the folder of a file:// URL. Raises ConfigError, ArchiveError."""
        self.url = url.rstrip("/")
        try:
            if url.startswith("file://"):
                self._store: obstore.store.ObjectStore = LocalStore(url.removeprefix("file://"), mkdir=create)
            else:
                plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
                self._store = from_url(
                    self.url,
                    client_options={"timeout": datetime.timedelta(seconds=ARCHIVE_TIMEOUT_S)} | ({"allow_http": True} if plain else {}),
                    retry_config={"max_retries": retries, "retry_timeout": datetime.timedelta(seconds=ARCHIVE_TIMEOUT_S)},
                )
        except BaseError as error:
            if url.startswith("file://"):
                raise ArchiveError(f"{self.url}: there is no such folder") from None
            raise ConfigError(f"archive: {self.url}: {_text(error)}") from None

    @contextmanager
    def _saying(self, name: str) -> Iterator[None]:
        where = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except FileNotFoundError as error:
            found = _text(error)
            if found == _CODES["NoSuchBucket"]:
                raise ArchiveError(f"{self.url}: {found}") from None
            raise NoSuchObject(f"{where}: there is no such object") from None
        except (BaseError, PermissionError) as error:
            raise ArchiveError(f"{where}: {_text(error)}") from None

    def list(self, folder: str = "") -> dict[str, int]:
        """Names under a folder, and their sizes."""
        with self._saying(folder):
            found: dict[str, int] = {}
            for page in obstore.list(self._store, prefix=folder or None):
                found |= {item["path"]: item["size"] for item in page}
            return found

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """An object, or a part of it that it has."""
        with self._saying(name):
            if size is None:
                return bytes(obstore.get(self._store, name).bytes())
            return bytes(obstore.get_range(self._store, name, start=start, length=size))

    def size(self, name: str) -> int:
        with self._saying(name):
            return int(obstore.head(self._store, name)["size"])

    def put(self, name: str, data: bytes) -> None:
        with self._saying(name):
            obstore.put(self._store, name, data)

    def put_file(self, name: str, path: Path) -> None:
        """In parts, several at a time; it is there when all are. Raises also FileNotFoundError if the local file is gone."""
        with path.open("rb") as file, self._saying(name):
            obstore.put(self._store, name, file, chunk_size=ARCHIVE_PART_BYTES, max_concurrency=ARCHIVE_PARTS_AT_ONCE)

    def crc32(self, name: str) -> int:
        """Of the object as it is read back."""
        crc, size = 0, self.size(name)
        # In parts: the time of a request has a limit.
        for at in range(0, size, ARCHIVE_PART_BYTES):
            crc = zlib.crc32(self.read(name, at, min(ARCHIVE_PART_BYTES, size - at)), crc)
        return crc

    def delete(self, name: str) -> None:
        """Nothing happens if it is not there."""
        try:
            with self._saying(name):
                obstore.delete(self._store, name)
        except NoSuchObject:
            pass


def file_crc32(path: Path) -> int:
    """Of a local file."""
    crc = 0
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            crc = zlib.crc32(data, crc)
    return crc


def _text(error: BaseException) -> str:
    """One line of an error that may be a page."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if code and code[1] in _CODES:
        return _CODES[code[1]]
    lines = text.split("\n\n")[0].splitlines()
    return (lines[0] if lines else type(error).__name__)[:_TEXT_MAX]
