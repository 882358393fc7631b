"""SLOWLOG: the latest commands that took long. No I/O.

The time is what the gateway waited for the shard's reply: that of the message which the command was part of. Those of which there is none (reads
out of shared memory, what the gateway answers itself) are noted if everything is to be noted (threshold 0).
"""

import time
from collections import deque
from typing import Any

import msgpack

from ...limits import RESP_SLOWLOG_ENTRIES_MAX, RESP_SLOWLOG_WORD_BYTES_MAX, RESP_SLOWLOG_WORDS_MAX

_INNER = frozenset({b"CHECKSTAMP", b"KEYSTAMP"})
"""Commands that the gateway adds."""


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

    def note_message(self, seconds: float, payload: bytes, clients: list[Any]) -> None:
        """The commands of one message to a shard. `clients`: the connections that they are of, as far as they are known."""
        try:
            commands = msgpack.unpackb(payload, raw=True)[-(self.length_max or 1) :]
        except Exception:
            return
        client = clients[0] if len(clients) == 1 else None
        for args in commands:
            if bytes(args[0]) not in _INNER:
                self.note(seconds, args, client.peer if client is not None else "", client.name if client is not None else b"")

    def newest(self, most: int) -> list[list[Any]]:
        """-1: all."""
        return list(self._entries)[: most if most >= 0 else None]

    def clear(self) -> None:
        self._entries.clear()


def _shortened(args: list[Any]) -> list[bytes]:
    if type(args[-1]) is dict:
        # As whom a script runs: the client did not say that.
        args = args[:-1]
    words = [part if isinstance(part, bytes) else str(part).encode() for part in args[:RESP_SLOWLOG_WORDS_MAX]]
    if len(args) > RESP_SLOWLOG_WORDS_MAX:
        words[-1] = b"... (%d more arguments)" % (len(args) - RESP_SLOWLOG_WORDS_MAX + 1)
    most = RESP_SLOWLOG_WORD_BYTES_MAX
    return [word if len(word) <= most else b"%b... (%d more bytes)" % (word[:most], len(word) - most) for word in words]
