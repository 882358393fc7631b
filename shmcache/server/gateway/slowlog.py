"""SLOWLOG: the latest commands that took long. No I/O."""

import time
from collections import deque
from typing import Any

from ...limits import RESP_SLOWLOG_ENTRIES_MAX, RESP_SLOWLOG_WORD_BYTES_MAX, RESP_SLOWLOG_WORDS_MAX


class SlowLog:
    """Newest first."""

    def __init__(self) -> None:
        self.threshold_us = 10_000
        """Negative: nothing is noted."""
        self._entries: deque[list[Any]] = deque(maxlen=128)
        self._next = 0

    @property
    def length_max(self) -> int:
        return self._entries.maxlen or 0

    @length_max.setter
    def length_max(self, most: int) -> None:
        self._entries = deque(self._entries, maxlen=min(most, RESP_SLOWLOG_ENTRIES_MAX))

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, seconds: float, args: list[Any], peer: str, name: bytes) -> None:
        """Remember a command if it took long enough."""
        took_us = int(seconds * 1e6)
        if 0 <= self.threshold_us <= took_us:
            self._entries.appendleft([self._next, int(time.time()), took_us, _shortened(args), peer.encode(), name])
            self._next += 1

    def newest(self, most: int) -> list[list[Any]]:
        """-1: all."""
        return list(self._entries)[: most if most >= 0 else None]

    def clear(self) -> None:
        self._entries.clear()


def _shortened(args: list[Any]) -> list[bytes]:
    words = [part if isinstance(part, bytes) else str(part).encode() for part in args[:RESP_SLOWLOG_WORDS_MAX]]
    if len(args) > RESP_SLOWLOG_WORDS_MAX:
        words[-1] = b"... (%d more arguments)" % (len(args) - RESP_SLOWLOG_WORDS_MAX + 1)
    most = RESP_SLOWLOG_WORD_BYTES_MAX
    return [word if len(word) <= most else b"%b... (%d more bytes)" % (word[:most], len(word) - most) for word in words]
