"""What clients did and saw, as events in files that outlive the `kill -9` of who writes them.

Each key has one writer, which writes the versions 1, 2, 3, ... of it and goes on after an unknown outcome
with the next one, so that any value says which write it is from. tests/support/history_checks.py says what a
correct cache may have shown.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

Operation = Literal["read", "write", "delete", "incr"]
Outcome = Literal["ok", "fail", "unknown"]
NEVER_NS = 1 << 63
"""Completion of an operation whose process died in it."""
_DIGEST_CHARACTERS = 16


@dataclasses.dataclass(frozen=True)
class Event:
    """One operation of one client. Times are of the machine's monotonic clock, which all processes share."""

    process: str
    session: str
    """A session does one operation after the other."""
    operation: Operation
    key: str
    value: int | None
    """Version written, deleted at or seen (None: the key was not there); for incr the result, if it came."""
    outcome: Outcome
    """fail: certainly not executed. An error that says "local only" or "no answer" is unknown."""
    invoked_ns: int
    completed_ns: int
    node: str = ""
    """Where it was sent: the primary ("") or a replica. A replica whose state was replaced (a full sync after
    it had lost a failover) is another node: name it so, e.g. "b.2".
    """
    ack: int = 0
    """Replicas whose acknowledgement the write waited for."""
    stamp: int | None = None
    """Of a write: the one it got. Of a read: the one it demanded to see at least."""
    amount: int = 1
    """Of an incr."""


class Call:
    """An operation under way; whoever made it fills in how it ended. Until then it is unknown."""

    def __init__(self, value: int | None, stamp: int | None) -> None:
        self.value, self.stamp = value, stamp
        self.outcome: Outcome = "unknown"

    def ok(self, value: int | None = None, stamp: int | None = None) -> None:
        """It was executed: the version that a read saw or the result of an incr; the stamp of a write."""
        self.outcome = "ok"
        self.value = self.value if value is None else value
        self.stamp = self.stamp if stamp is None else stamp

    def fail(self) -> None:
        """It was certainly not executed."""
        self.outcome = "fail"


class Recorder:
    """Appends the events of one process to a file: a line before each operation and one after it. For one
    thread; several take a recorder each.
    """

    def __init__(self, path: Path, process: str) -> None:
        self.process = process
        self._number = 0
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @contextlib.contextmanager
    def operation(
        self,
        operation: Operation,
        key: str,
        *,
        session: str,
        value: int | None = None,
        stamp: int | None = None,
        node: str = "",
        ack: int = 0,
        amount: int = 1,
    ) -> Iterator[Call]:
        """Around the call of the cache. Call `ok` or `fail` inside; an exception leaves it unknown and goes
        on.
        """
        self._number += 1
        number = self._number
        begun = {
            "process": self.process, "number": number, "session": session, "operation": operation,
            "key": key, "value": value, "stamp": stamp, "node": node, "ack": ack, "amount": amount,
        }  # fmt: skip
        self._write(begun | {"invoked_ns": time.monotonic_ns()})
        call = Call(value, stamp)
        try:
            yield call
        finally:
            ended = {"value": call.value, "stamp": call.stamp, "outcome": call.outcome}
            self._write({"number": number, "completed_ns": time.monotonic_ns()} | ended)

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: dict[str, object]) -> None:
        # One write(2) per line: a kill leaves whole lines.
        os.write(self._file, json.dumps(line).encode() + b"\n")


def load(paths: Iterable[Path]) -> list[Event]:
    """All events of recorders' files (one recorder per file), by invocation. Operations without an end are
    unknown.
    """
    events = []
    for path in paths:
        begun: dict[int, dict[str, object]] = {}
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            unended = {"outcome": "unknown", "completed_ns": NEVER_NS}
            begun.setdefault(entry.pop("number"), unended).update(entry)
        events += [Event(**entry) for entry in begun.values()]  # type: ignore[arg-type]
    return sorted(events, key=lambda event: event.invoked_ns)


def versioned(key: str, version: int, size: int = 0) -> bytes:
    """The value of a version: says key and version, and every byte of it can be checked. At least `size`
    long.
    """
    head = f"{key}:{version}:".encode()
    digest = hashlib.sha256(head).hexdigest()[:_DIGEST_CHARACTERS].encode()
    return head + digest * max(1, -(-(size - len(head)) // _DIGEST_CHARACTERS))


def version_of(key: str, value: bytes | None) -> int | None:
    """Version of a value that was read; AssertionError if it is not exactly what was written there."""
    if value is None:
        return None
    name, _, rest = value.partition(b":")
    version = rest.partition(b":")[0]
    assert name == key.encode(), f"{key} holds a value of another key: {value[:80]!r}"
    assert version.isdigit(), f"{key} holds what nobody wrote: {value[:80]!r}"
    assert value == versioned(key, int(version), len(value)), f"{key} holds a damaged value: {value[:80]!r}"
    return int(version)
