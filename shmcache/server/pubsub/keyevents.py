"""Messages about keys, made of the write log: keyspace and key events as in Redis, and invalidations.

`events_of` decides; `LogEvents` reads the logs of the instance's shards.
"""

import contextlib
from typing import Any, Final

import posix_ipc

from ..._engine import EVENTS, PART_PREFIX, EngineError, LogRecord, LogTailer, Overtaken, decode_records
from ...limits import CHANNEL_NAME_BYTES_MAX
from ...protocol.channels import END, INVALIDATE_CHANNEL
from ...protocol.directory import DirectorySnapshot

POLL_BYTES_MAX: Final = 1 << 18
"""Of one shard's log in one turn, so that messages do not wait for a flood of writes."""
_OF_EFFECTS: Final = {
    "expire_at": ("g", "expire"),
    "flush": ("g", "flush"),
    "expired": ("x", "expired"),
    "evicted": ("e", "evicted"),
}
"""Kinds of records that mean one event, whichever command wrote them: class letter and name."""
_REMOVALS: Final = frozenset(
    ["hdel", "lpop", "rpop", "lrem", "ltrim", "srem", "spop", "zrem", "zpopmin", "zpopmax", "zremrangebyrank", "zremrangebyscore", "zremrangebylex"]
)
"""Events of commands that take elements; when it was the last one, the key's deletion is an event of its own."""


def _names(record: LogRecord) -> list[tuple[str, str]]:
    """(class letter, event) of each thing that a record says."""
    if record.kind in _OF_EFFECTS:
        return [_OF_EFFECTS[record.kind]]
    event = record.event
    if record.kind == "delete":
        if event == "rename":
            return [("g", "rename_from")]
        taken = [(EVENTS[event], event)] if event in _REMOVALS else []
        return [*taken, ("g", "del")]
    if record.kind not in ("set", "set_ref", "changed"):
        return []
    if event == "rename":
        return [("g", "rename_to")]
    names = [(EVENTS[event], event)] if event else [("$", "set")]
    return names + [("g", "expire")] * bool(event == "set" and record.expiry_ms)


def events_of(record: LogRecord, letters: str) -> list[tuple[bytes, bytes]]:
    """(channel, payload) of each message about one record, for the letters of `notify`.

    A flush concerns all keys: its payload, where a key's name would stand, is empty. Of a large collection the root tells, not its parts.
    """
    key = record.key
    if key.startswith(PART_PREFIX):
        return []
    messages = []
    names = _names(record)
    for letter, event in names:
        if letter in letters or "A" in letters:
            name = event.encode()
            if "K" in letters and record.kind != "flush":
                messages.append((b"__keyspace@0__:" + key, name))
            if "E" in letters:
                messages.append((b"__keyevent@0__:" + name, key))
    if "I" in letters and names and record.kind != "expire_at":
        messages.append((INVALIDATE_CHANNEL, key))
    # A key that cannot be a channel's name has no keyspace channel.
    return [m for m in messages if len(m[0]) <= CHANNEL_NAME_BYTES_MAX and END not in m[0]]


def messages_of(records: list[LogRecord], letters: str) -> list[tuple[bytes, bytes]]:
    """Those of whole groups, in order. A renamed key is written before the old one is deleted, but told of after it."""
    messages: list[tuple[bytes, bytes]] = []
    renamed: list[tuple[bytes, bytes]] = []
    for record in records:
        found = events_of(record, letters)
        if record.event == "rename" and record.kind != "delete" and found:
            renamed = found
            continue
        messages += found
        if renamed and record.kind == "delete" and not record.key.startswith(PART_PREFIX):
            messages += renamed
            renamed = []
    return messages + renamed


class LogEvents:
    """The write logs of all shards, from the moment on at which each was first seen."""

    def __init__(self, letters: str, log: Any) -> None:
        self.letters, self._log = letters, log
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
                if "I" in self.letters:
                    messages.append((INVALIDATE_CHANNEL, b""))
                continue
            if data:
                messages += messages_of(decode_records(data), self.letters)
        return messages

    def close(self) -> None:
        for tailer in self._tailers.values():
            tailer.close()
