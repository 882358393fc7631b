"""Who may connect: the list of public keys, read again when its files change."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..limits import ALLOWED_RELOAD_S, DENIAL_LOG_S
from .curve import load_allowed

Signature = tuple[tuple[str, int, int, int], ...]


def _signature(path: Path) -> Signature:
    """Changes whenever a file of the list does: names, times, sizes, inodes."""
    files = [path, *sorted(path.glob("*.pub"))] if path.is_dir() else [path]
    stats = [(file.name, os.stat(file)) for file in files]
    return tuple((name, found.st_mtime_ns, found.st_size, found.st_ino) for name, found in stats)


class AllowList:
    """The answer to "may this key connect?", which the authenticator asks once per handshake.

    Nothing is raised here after the start: an error would end the authenticator, and lock out everyone.
    """

    def __init__(self, path: str, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError."""
        self._path, self._log, self._clock = Path(path), log, clock
        self._keys = load_allowed(self._path)
        self._seen: Signature | None = _signature(self._path)
        self._look_at = clock() + ALLOWED_RELOAD_S
        self._log_at = -1.0
        self.denied = 0

    def __len__(self) -> int:
        return len(self._keys)

    def callback(self, domain: str, key: bytes) -> bool:
        """As the authenticator of pyzmq calls it: whether `key`, in Z85, may connect."""
        try:
            self._refresh()
        except Exception:
            self._log.exception("the list of allowed keys cannot be looked at", path=str(self._path))
        if key in self._keys:
            return True
        self.denied += 1
        if self._clock() >= self._log_at:
            self._log_at = self._clock() + DENIAL_LOG_S
            self._log.warning("unknown key refused", key=key.decode(), denied=self.denied)
        return False

    def _refresh(self) -> None:
        if self._clock() < self._look_at:
            return
        self._look_at = self._clock() + ALLOWED_RELOAD_S
        try:
            signature = _signature(self._path)
        except FileNotFoundError:
            # Whoever takes the whole list away means it.
            signature, self._keys = (), {}
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._keys = load_allowed(self._path) if signature else {}
            self._log.info("allowed keys read again", keys=len(self._keys))
        except ConfigError as error:
            self._log.error("allowed keys not changed", reason=str(error))
