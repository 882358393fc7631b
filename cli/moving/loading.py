"""Records into an instance, in batches."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from shmcache._engine import MAX_KEY_BYTES, MAX_VALUE_BYTES
from shmcache.errors import ResponseError, ShmcacheError, Unavailable
from shmcache.limits import IMPORT_BATCH_BYTES, IMPORT_BATCH_COMMANDS, MOVED_PAGE_ELEMENTS

from .elements import COLLECTIONS, write_command
from .stream import Record


class ImportFailed(ShmcacheError):
    """The instance did not take a record; names the place that it came from."""


class ImportInterrupted(Unavailable):
    """The instance does not answer any more; names the place up to which it has everything."""


@dataclass(slots=True)
class Counts:
    """What became of the records."""

    written: int = 0
    kept: int = 0
    """There already, and left as they were."""
    expired: int = 0
    other: Counter[str] = field(default_factory=Counter)
    """Type -> how many: values that cannot be stored (yet)."""

    def to_json(self) -> dict[str, Any]:
        return {"written": self.written, "kept": self.kept, "expired": self.expired, "other_types": dict(self.other)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Counts":
        """As `to_json` gave it, or an empty dict."""
        numbers = {name: int(data.get(name, 0)) for name in ("written", "kept", "expired")}
        return cls(**numbers, other=Counter({str(kind): int(count) for kind, count in data.get("other_types", {}).items()}))

    def text(self) -> str:
        """One line for people."""
        words = [f"{self.written:,} keys written"]
        words += [f"{self.kept:,} were there and stay as they are"] if self.kept else []
        words += [f"{self.expired:,} had expired"] if self.expired else []
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.other.items()))
        words += [f"NOT copied: {kinds} (there is no place for them)"] if kinds else []
        return "; ".join(words)


class Loader:
    """Collects records and writes them when there are enough. `flush` at the end."""

    def __init__(self, client: Any, *, keep: bool, timeout: float) -> None:
        """`keep`: keys that are there already stay."""
        self._client, self._keep, self._timeout = client, keep, timeout
        self._batch: list[tuple[str, Record]] = []
        self._bytes = 0
        self.counts = Counts()
        self._skipped: bytes | None = None
        """The collection whose pages are left out."""
        self._last_written = "nothing"

    def add(self, place: str, record: Record) -> None:
        """`place`: what an error names, as `line 7`. Raises ImportFailed, ImportInterrupted."""
        if record.type in COLLECTIONS and record.value is not None:
            return self._add_page(place, record)
        if record.type != "string":
            self.counts.other[record.type] += 1
            return
        if 0 < record.expires_ms <= time.time_ns() // 1_000_000:
            self.counts.expired += 1
            return
        if len(record.key) > MAX_KEY_BYTES or len(record.value) > MAX_VALUE_BYTES:
            self.counts.other["string over the limits"] += 1
            return
        size = len(record.key) + len(record.value)
        if self._batch and self._bytes + size > IMPORT_BATCH_BYTES:
            self.flush()
        self._batch.append((place, record))
        self._bytes += size
        if len(self._batch) >= IMPORT_BATCH_COMMANDS:
            self.flush()

    def _add_page(self, place: str, record: Record) -> None:
        """Elements of a collection. The first page replaces what there was, so that a page that is written twice does no harm."""
        expired = 0 < record.expires_ms <= time.time_ns() // 1_000_000
        if record.append and self._skipped == record.key:
            return
        self.flush()
        commands: list[tuple[Any, ...]] = []
        if not record.append:
            self._skipped = None
            if len(record.key) > MAX_KEY_BYTES:
                self.counts.other[f"{record.type} over the limits"] += 1
            elif expired:
                self.counts.expired += 1
            elif self._keep and self._run(place, [("EXISTS", record.key)])[0]:
                self.counts.kept += 1
            else:
                commands.append(("DEL", record.key))
                self.counts.written += 1
            if not commands:
                self._skipped = record.key
                return
        for at in range(0, len(record.value), MOVED_PAGE_ELEMENTS):
            try:
                commands.append(write_command(record.key, record.type, record.value[at : at + MOVED_PAGE_ELEMENTS]))
            except ValueError as error:
                raise ImportFailed(f"{place}, key {record.key[:80]!r}: {error}") from None
        if record.expires_ms:
            commands.append(("PEXPIREAT", record.key, record.expires_ms))
        self._run(place, commands)
        self._last_written = place

    def _run(self, place: str, commands: list[tuple[Any, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            results: list[Any] = pipeline.execute(raise_on_error=False, timeout=self._timeout)
        except ShmcacheError as error:
            raise ImportInterrupted(f"written up to {self._last_written}, then: {error}") from error
        for result in results:
            if isinstance(result, ResponseError):
                raise ImportFailed(f"{place}, key {commands[0][1][:80]!r}: {result}")
            if isinstance(result, Exception):
                raise ImportInterrupted(f"{place}, key {commands[0][1][:80]!r}: {result}")
        return results

    def flush(self) -> None:
        """Write what was collected. Raises ImportFailed, ImportInterrupted."""
        batch, self._batch, self._bytes = self._batch, [], 0
        if not batch:
            return
        pipeline = self._client.pipeline(transaction=False)
        for _, record in batch:
            pipeline.set(record.key, record.value, pxat=record.expires_ms or None, nx=self._keep)
        try:
            results = pipeline.execute(raise_on_error=False, timeout=self._timeout)
        except ResponseError as error:
            raise ImportFailed(f"{batch[0][0]} to {batch[-1][0]}: {error}") from None
        except ShmcacheError as error:
            raise ImportInterrupted(f"written up to {self._last_written}, then: {error}") from error
        for (place, record), result in zip(batch, results, strict=True):
            if isinstance(result, Exception) and not isinstance(result, ResponseError):
                raise ImportInterrupted(f"{place}, key {record.key[:80]!r}: {result}")
            if isinstance(result, Exception):
                raise ImportFailed(f"{place}, key {record.key[:80]!r}: {result}")
            if result is None:
                self.counts.kept += 1
            else:
                self.counts.written += 1
        self._last_written = batch[-1][0]
