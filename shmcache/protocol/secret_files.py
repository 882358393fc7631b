"""Files that hold a secret: nobody but their owner may use them."""

import os
import stat
from pathlib import Path

from ..errors import ConfigError


def check_private(what: str, path: Path | str, *, opened: int | None = None) -> None:
    """Raises ConfigError unless the file exists and only its owner may use it.

    `what`: how a message begins, e.g. `data_key_file:`. `opened`: its descriptor, for who goes on to read it.
    """
    try:
        mode = stat.S_IMODE(os.stat(path if opened is None else opened).st_mode)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"{what} {path} has mode {mode:04o}, so that others can use the secret: chmod 600 {path}")


def read_secret(what: str, path: Path | str, bytes_max: int) -> bytes:
    """What stands in the file, up to one byte more than `bytes_max`: the caller says what is too long. Raises ConfigError as `check_private`."""
    try:
        with open(path, "rb") as file:
            check_private(what, path, opened=file.fileno())
            return file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}") from None
