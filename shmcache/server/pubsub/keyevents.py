"""Messages about keys, made of the write log: keyspace and key events as in Redis, and invalidations.

`events_of` decides; `LogEvents` reads the logs of the instance's shards.
"""

import contextlib
from typing import Any, Final

import posix_ipc

from ..._engine import EngineError, LogRecord, LogTailer, Overtaken, decode_records
from ...limits import CHANNEL_NAME_BYTES_MAX
from ...protocol.channels import END, INVALIDATE_CHANNEL
from ...protocol.directory import DirectorySnapshot

POLL_BYTES_MAX: Final = 1 << 18
"""Of one shard's log in one turn, so that messages do not wait for a flood of writes."""
_EVENTS: Final = {
    "set": ("$", b"set"),
    "set_ref": ("$", b"set"),
    "delete": ("g", b"del"),
    "expire_at": ("g", b"expire"),
    "flush": ("g", b"flush"),
    "expired": ("x", b"expired"),
    "evicted": ("e", b"evicted"),
}
"""Kind of record -> class letter and name of the event."""
_CHANGES: Final = frozenset(_EVENTS) - {"expire_at"}
"""What makes a copy of the value wrong."""


def events_of(record: LogRecord, letters: str) -> list[tuple[bytes, bytes]]:
    """(channel, payload) of each message about one record, for the letters of `notify`.

    A flush concerns all keys: its payload, where a key's name would stand, is empty.
    """
    found = _EVENTS.get(record.kind)
    if found is None:
        return []
    letter, event = found
    key = record.key
    messages = []
    if letter in letters or "A" in letters:
        if "K" in letters and record.kind != "flush":
            messages.append((b"__keyspace@0__:" + key, event))
        if "E" in letters:
            messages.append((b"__keyevent@0__:" + event, key))
    if "I" in letters and record.kind in _CHANGES:
        messages.append((INVALIDATE_CHANNEL, key))
    # A key that cannot be a channel's name has no keyspace channel.
    return [m for m in messages if len(m[0]) <= CHANNEL_NAME_BYTES_MAX and END not in m[0]]


class LogEvents:
    """The write logs of all shards, from the moment on at which each was first seen."""

    def __init__(self, letters: str, log: Any) -> None:
        self._letters, self._log = letters, log
        self._tailers: dict[int, LogTailer] = {}
        self.missed_bytes = 0

    def follow(self, snapshot: DirectorySnapshot) -> None:
        """Open the logs that are there by now."""
        for record in snapshot.shards:
            if record.shard in self._tailers or record.state != "serving":
                continue
            with contextlib.suppress(posix_ipc.ExistentialError, EngineError, PermissionError):
                memory = posix_ipc.SharedMemory(record.log_name)
                try:
                    self._tailers[record.shard] = LogTailer(memory.fd, "hub", None)
                finally:
                    memory.close_fd()

    def poll(self) -> list[tuple[bytes, bytes]]:
        """Messages about what was written since the last call."""
        messages: list[tuple[bytes, bytes]] = []
        for shard, tailer in self._tailers.items():
            try:
                data = tailer.poll(POLL_BYTES_MAX)
            except Overtaken:
                missed = tailer.resume_at_oldest()
                self.missed_bytes += missed
                self._log.warning("write log overtook the key events", shard=shard, missed_bytes=missed)
                # What was missed may have changed any key: whoever keeps copies must drop them all.
                if "I" in self._letters:
                    messages.append((INVALIDATE_CHANNEL, b""))
                continue
            if data:
                for record in decode_records(data):
                    messages += events_of(record, self._letters)
        return messages

    def close(self) -> None:
        for tailer in self._tailers.values():
            tailer.close()
