"""Copies finished snapshots and ended log segments to the archive, in a thread of the keeper.

What is there already is not sent again, so that a killed keeper's successor goes on: an object of the same size that begins with the same bytes (every file
begins with a random id) is the same file, as stores show no object before all of it is there. An object of other data is never overwritten.
The segment that a snapshot begins with goes before its manifest: what the archive shows can be restored at any time.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ArchiveError, ConfigError, DamagedFile
from ..limits import ARCHIVE_RETRY_S, ARCHIVE_RETRY_S_MAX
from .archive import Archive, file_crc32
from .segments import FOLDER as LOG_FOLDER
from .segments import segment_path
from .snapshots import FOLDER as SNAPSHOT_FOLDER
from .snapshots import MANIFEST, Manifest, read_manifest, snapshot_folder

_COMPARED_BYTES: Final = 64 << 10
"""Of the beginning of two files: more than any header that differs only behind it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the archive is to have, in order."""

    segments: tuple[int, ...] = ()
    """Ended ones."""
    snapshots: tuple[int, ...] = ()
    """Finished ones."""


def segment_name(number: int) -> str:
    """In the archive."""
    return f"{LOG_FOLDER}/{segment_path(Path(), number).name}"


def snapshot_name(number: int, file: str = MANIFEST) -> str:
    """In the archive."""
    return f"{SNAPSHOT_FOLDER}/{number:010d}/{file}"


def numbers_in(names: dict[str, int]) -> tuple[list[int], list[int], list[int]]:
    """Snapshots with a manifest, snapshots with any file, segments: their numbers in order."""
    manifests, anything, segments = set(), set(), set()
    for name in names:
        match name.split("/"):
            case ["snapshots", number, file] if number.isdigit():
                anything.add(int(number))
                if file == MANIFEST:
                    manifests.add(int(number))
            case ["log", file] if file.endswith(".aof") and file[:-4].isdigit():
                segments.add(int(file[:-4]))
    return sorted(manifests), sorted(anything), sorted(segments)


class Archiver:
    """The thread, and what it has done. Its errors are in `status`; they stop nothing else."""

    def __init__(
        self, folder: Path, url: str, *, keep: int, verify: bool, log: Any, prepare: Callable[[], None] = lambda: None
    ) -> None:
        """`keep`: snapshots; `verify`: read everything back; `prepare` is called first, in the thread."""
        self._folder, self._url, self._keep, self._verify, self._log, self._prepare = folder, url, keep, verify, log, prepare
        self._archive: Archive | None = None
        self._there: dict[str, int] = {}
        self._segments: frozenset[int] = frozenset()
        self._snapshots: dict[int, Manifest] = {}
        """Archived, or known to be."""
        self._wanted, self._is_new, self._stopping = Wanted(), False, False
        self._condition = threading.Condition()
        self._working = False
        self._doing = ""
        self.uploaded = self.uploaded_bytes = self.skipped = self.failures = self.last_ms = 0
        self.last_error = ""
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()

    # --- for the keeper -----------------------------------------------------------------------------
    def offer(self, wanted: Wanted) -> None:
        """This is what is on disk now."""
        with self._condition:
            self._wanted, self._is_new = wanted, True
            self._condition.notify_all()

    def has_segment(self, number: int) -> bool:
        return number in self._segments

    def stop(self, patience_s: float) -> None:
        """Let it finish what was offered, for a while."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(patience_s)

    def status(self) -> dict[str, Any]:
        wanted = self._wanted
        segments = [number for number in wanted.segments if number not in self._segments]
        return {
            "url": self._url,
            "state": "waiting" if self.last_error else "archiving" if self._working or self._is_new else "idle",
            "doing": self._doing,
            "snapshot": max(self._snapshots, default=0),
            "segment": max(self._segments, default=0),
            "segments_pending": len(segments),
            "uploaded": self.uploaded,
            "uploaded_bytes": self.uploaded_bytes,
            "skipped": self.skipped,
            "failures": self.failures,
            "last_archived_ms": self.last_ms,
            "last_error": self.last_error,
        }

    # --- the thread ---------------------------------------------------------------------------------
    def _run(self) -> None:
        self._prepare()
        pause = ARCHIVE_RETRY_S
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._is_new or self._stopping)
                if not self._is_new:
                    return
                wanted, self._is_new, self._working = self._wanted, False, True
            try:
                self._carry_out(wanted)
                if self.last_error:
                    self._log.info("the archive takes files again", url=self._url)
                self.last_error, pause = "", ARCHIVE_RETRY_S
            except Exception as error:
                # Whatever it is, the data are on disk and the instance serves.
                if str(error) != self.last_error:
                    known = isinstance(error, (ArchiveError, ConfigError, DamagedFile, OSError))
                    self._log.warning("the archive does not take files; tried again", reason=str(error), exc_info=not known)
                self.last_error = str(error) or type(error).__name__
                self.failures += 1
                # What is there is looked up anew.
                self._archive = None
                with self._condition:
                    self._is_new = True
                    if self._condition.wait_for(lambda: self._stopping, pause):
                        return
                pause = min(2 * pause, ARCHIVE_RETRY_S_MAX)
            finally:
                self._working, self._doing = False, ""

    def _carry_out(self, wanted: Wanted) -> None:
        if self._archive is None:
            archive = Archive(self._url, retries=1, create=True)
            self._there = archive.list()
            self._archive = archive
        for number in wanted.segments:
            if number not in self._segments:
                self._send_segment(self._archive, number)
        for number in wanted.snapshots[-self._keep :]:
            if number not in self._snapshots:
                self._send_snapshot(self._archive, number)
        self._retire(self._archive)

    def _send_segment(self, archive: Archive, number: int) -> None:
        try:
            self._send(archive, segment_name(number), segment_path(self._folder, number), may_replace=False)
        except FileNotFoundError:
            # A snapshot has retired it meanwhile.
            return
        self._segments |= {number}
        self.last_ms = time.time_ns() // 1_000_000

    def _send_snapshot(self, archive: Archive, number: int) -> None:
        try:
            manifest = read_manifest(self._folder, number)
            if manifest.first_segment and manifest.first_segment not in self._segments:
                # It has not ended yet; the next offer has it.
                return
            is_there = snapshot_name(number) in self._there
            path = snapshot_folder(self._folder, number)
            for part in manifest.shards:
                self._send(archive, snapshot_name(number, part.file), path / part.file, may_replace=not is_there, crc32=part.crc32)
            self._send(archive, snapshot_name(number), path / MANIFEST, may_replace=False)
        except (FileNotFoundError, ConfigError):
            return
        self._snapshots = self._snapshots | {number: manifest}
        self.last_ms = time.time_ns() // 1_000_000
        self._log.info("snapshot archived", number=number, bytes=manifest.bytes, url=self._url)

    def _send(self, archive: Archive, name: str, path: Path, *, may_replace: bool, crc32: int | None = None) -> None:
        """One file, if it is not there. Raises ArchiveError, OSError."""
        self._doing = name
        size = path.stat().st_size
        there = self._there.get(name)
        if there is not None:
            compared = min(there, size, _COMPARED_BYTES)
            with path.open("rb") as file:
                is_same = archive.read(name, 0, compared) == file.read(compared) if compared else there == size
            if is_same and there == size:
                self.skipped += 1
                return
            if not is_same and not may_replace:
                raise ArchiveError(
                    f"{archive.url}/{name} is of other data and is not replaced: another instance, or an earlier life of this one, "
                    "archives there: give every one a prefix of its own, or begin with --restore"
                )
        archive.put_file(name, path)
        found = archive.size(name)
        if found != size:
            raise ArchiveError(f"{archive.url}/{name} has {found} bytes after its upload, {size} were sent")
        if self._verify and archive.crc32(name) != (file_crc32(path) if crc32 is None else crc32):
            archive.delete(name)
            self._there.pop(name, None)
            raise ArchiveError(f"{archive.url}/{name} is not what was sent: wrong checksum; it is sent again")
        self._there[name] = size
        self.uploaded += 1
        self.uploaded_bytes += size

    def _retire(self, archive: Archive) -> None:
        """Remove snapshots beyond those that are kept, and the log that no kept one needs."""
        finished, anything, segments = numbers_in(self._there)
        if not self._snapshots or len(finished) <= self._keep:
            return
        kept = finished[-self._keep :]
        for number in [number for number in anything if number < kept[0]]:
            # The manifest first, so that no half of one is ever taken for one.
            names = sorted((name for name in self._there if name.startswith(snapshot_name(number, ""))), key=lambda name: not name.endswith(MANIFEST))
            self._delete(archive, names)
        manifests = [self._snapshots.get(number) or Manifest.parse(archive.read(snapshot_name(number)), snapshot_name(number)) for number in kept]
        self._snapshots = dict(zip(kept, manifests, strict=True)) | {n: m for n, m in self._snapshots.items() if n > kept[-1]}
        firsts = [manifest.first_segment for manifest in manifests if manifest.first_segment]
        self._delete(archive, [segment_name(number) for number in segments if firsts and number < min(firsts)])

    def _delete(self, archive: Archive, names: list[str]) -> None:
        for name in names:
            archive.delete(name)
            self._there.pop(name, None)
