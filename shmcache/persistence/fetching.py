"""A data folder's content from an archive: what a start on a new host begins with.

Everything comes into the folder `fetching` first, several objects at a time; what has arrived and is sound has its name there, what has not ends with
`.part` and is gone on with. Only when all is there it is moved to where it belongs. `plan.json` says what belongs to it; a start that finds it goes on.
"""

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ArchiveError, ConfigError, DamagedFile
from ..limits import ARCHIVE_FETCHES_AT_ONCE, ARCHIVE_PART_BYTES, ARCHIVE_RETRIES, ARCHIVE_SAY_S
from .archive import Archive, NoSuchObject, file_crc32
from .archiving import numbers_in, segment_name, snapshot_name
from .files import Files
from .recovery import FETCHING
from .segments import open_segment, scan, segment_numbers
from .snapshots import MANIFEST, Manifest, snapshot_numbers

_PLAN: Final = "plan.json"
_PART: Final = ".part"
_HEADER_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fetched."""

    url: str
    until_ms: int
    sizes: dict[str, int]
    manifest: str
    """The snapshot's, as it is in the archive; empty: there is none."""

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def is_empty(folder: Path) -> bool:
    """Whether a data folder holds nothing that a start would read."""
    return not snapshot_numbers(folder) and not segment_numbers(folder)


def unfinished(folder: Path) -> str:
    """From where a restore was begun that has not been finished; empty: none."""
    plan = _read_plan(folder)
    return plan.url if plan else ""


def _read_plan(folder: Path) -> Plan | None:
    try:
        return Plan(**json.loads((folder / FETCHING / _PLAN).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DamagedFile(str(folder / FETCHING / _PLAN), 0, f"not a plan: {error}") from None


def _make_plan(archive: Archive, until_ms: int) -> Plan:
    """The newest snapshot (from before `until_ms`) and all log from there. Raises ArchiveError, ConfigError, DamagedFile."""
    names = archive.list()
    finished, _, segments = numbers_in(names)
    manifest, text, oldest_ms = None, b"", 0
    for number in reversed(finished):
        text = archive.read(snapshot_name(number))
        manifest = Manifest.parse(text, f"{archive.url}/{snapshot_name(number)}")
        oldest_ms = manifest.last_ms
        if not until_ms or manifest.last_ms <= until_ms:
            break
        manifest = None
    if manifest is None and segments[:1] != [1]:
        if not finished:
            raise ArchiveError(f"{archive.url}: there is no snapshot")
        raise ConfigError(f"no snapshot in {archive.url} is from before that time: the oldest has data up to {oldest_ms} (unix ms)")
    first = manifest.first_segment if manifest else 1
    wanted = [number for number in segments if number >= first] if first else []
    expected = list(range(first, wanted[-1] + 1)) if wanted else [first] if first else []
    for number in expected:
        if number not in wanted:
            raise ArchiveError(f"{archive.url}/{segment_name(number)}: this segment of the log is missing")
    needed = {segment_name(number): names[segment_name(number)] for number in wanted}
    if manifest is not None:
        for part in manifest.shards:
            name = snapshot_name(manifest.number, part.file)
            if name not in names:
                raise ArchiveError(f"{archive.url}/{name}: this file of the snapshot is missing")
            if names[name] != part.bytes:
                raise DamagedFile(f"{archive.url}/{name}", min(names[name], part.bytes), f"{names[name]} bytes, the manifest says {part.bytes}")
            needed[name] = part.bytes
    return Plan(archive.url, until_ms, needed, text.decode() if manifest else "")


class Fetching:
    """One restore from an archive."""

    def __init__(self, url: str, folder: Path, files: Files, log: Any, until_ms: int = 0) -> None:
        """Raises ArchiveError, ConfigError."""
        self._archive = Archive(url, retries=ARCHIVE_RETRIES)
        self._folder, self._into, self._files, self._log, self._until_ms = folder, folder / FETCHING, files, log, until_ms
        self._lock = threading.Lock()
        self._failed = threading.Event()
        self._fetched = 0
        self._began = time.monotonic()

    def run(self) -> Plan:
        """Raises ArchiveError, ConfigError, DamagedFile, OSError; done again, it goes on."""
        plan = _read_plan(self._folder)
        if plan is not None and (plan.url, plan.until_ms) != (self._archive.url, self._until_ms):
            raise ConfigError(
                f"restore: one from {plan.url} is not finished (until {plan.until_ms}): finish it with the same options, or remove {self._into}"
            )
        is_resumed = plan is not None
        plan = plan or self._begin()
        self._log.info("restore from the archive", url=plan.url, objects=len(plan.sizes), bytes=plan.bytes, resumed=is_resumed)
        try:
            self._fetch_all(plan)
        except (NoSuchObject, DamagedFile):
            # The archive may have retired it since the plan was made, or somebody has put a whole one there.
            fresh = _make_plan(self._archive, self._until_ms)
            if fresh == plan:
                raise
            plan = fresh
            self._write_plan(plan)
            self._fetch_all(plan)
        self._move(plan)
        seconds = time.monotonic() - self._began
        self._log.info("restored from the archive", bytes=plan.bytes, seconds=round(seconds, 1), bytes_per_s=int(self._fetched / max(seconds, 1e-3)))
        return plan

    def _begin(self) -> Plan:
        plan = _make_plan(self._archive, self._until_ms)
        shutil.rmtree(self._into, ignore_errors=True)
        self._into.mkdir(mode=0o700)
        self._write_plan(plan)
        return plan

    def _write_plan(self, plan: Plan) -> None:
        _write(self._into / (_PLAN + _PART), json.dumps(asdict(plan)).encode())
        os.replace(self._into / (_PLAN + _PART), self._into / _PLAN)
        self._files.sync_folder(self._into)

    # --- fetching -----------------------------------------------------------------------------------
    def _fetch_all(self, plan: Plan) -> None:
        manifest = Manifest.parse(plan.manifest.encode(), f"{plan.url}: manifest") if plan.manifest else None
        checksums = {snapshot_name(manifest.number, part.file): part.crc32 for part in manifest.shards} if manifest else {}
        for name in plan.sizes:
            (self._into / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        missing = [name for name in plan.sizes if not (self._into / name).exists() and not (self._folder / name).exists()]
        self._fetched, self._failed = 0, threading.Event()
        total = sum(plan.sizes[name] for name in missing)

        def one(name: str) -> None:
            try:
                self._fetch(name, plan.sizes, checksums.get(name))
            except BaseException:
                self._failed.set()
                raise

        with ThreadPoolExecutor(ARCHIVE_FETCHES_AT_ONCE, "fetch") as pool:
            jobs = [pool.submit(one, name) for name in missing]
            said = time.monotonic()
            while not all(job.done() for job in jobs) and not self._failed.wait(0.05):
                if time.monotonic() - said >= ARCHIVE_SAY_S:
                    said = time.monotonic()
                    rate = self._fetched / (said - self._began)
                    left = round((total - self._fetched) / rate) if rate else None
                    self._log.info("fetching", bytes=self._fetched, of=total, bytes_per_s=int(rate), seconds_left=left)
            errors = [error for job in jobs if (error := job.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, _GivenUp)):
            raise error
        if manifest is not None:
            path = self._into / snapshot_name(manifest.number)
            if not (self._folder / snapshot_name(manifest.number)).exists():
                _write(path, plan.manifest.encode())

    def _fetch(self, name: str, sizes: dict[str, int], crc32: int | None) -> None:
        path = self._into / name
        part = path.with_name(path.name + _PART)
        had = part.stat().st_size if part.exists() else 0
        self._load(name, part, sizes[name])
        try:
            self._check(name, part, sizes, crc32)
        except DamagedFile:
            if not had:
                part.unlink()
                raise
            # What an earlier start left may be what is wrong.
            part.unlink()
            self._load(name, part, sizes[name])
            self._check(name, part, sizes, crc32)
        os.replace(part, path)

    def _load(self, name: str, part: Path, size: int) -> None:
        with open(part, "ab", opener=_private) as file:
            if file.tell() > size:
                file.truncate(0)
                file.seek(0)
            at = file.tell()
            with self._lock:
                self._fetched += at
            while at < size:
                if self._failed.is_set():
                    raise _GivenUp(f"{name}: given up because of another object")
                data = self._archive.read(name, at, min(ARCHIVE_PART_BYTES, size - at))
                if not data:
                    raise DamagedFile(f"{self._archive.url}/{name}", at, f"it ends here, {size} bytes were listed")
                file.write(data)
                at += len(data)
                with self._lock:
                    self._fetched += len(data)
            file.flush()
            os.fsync(file.fileno())

    def _check(self, name: str, path: Path, sizes: dict[str, int], crc32: int | None) -> None:
        where = f"{self._archive.url}/{name}"
        if crc32 is not None:
            if file_crc32(path) != crc32:
                raise DamagedFile(where, 0, "its checksum is not the one in the manifest")
            return
        try:
            found = scan(path)
        except DamagedFile as damage:
            raise DamagedFile(where, damage.offset, damage.what) from None
        if not found.is_whole and not self._is_abandoned(found.meta.number, sizes):
            raise DamagedFile(where, found.end, found.torn.what if found.torn else "the segment does not say that it ends here")

    def _is_abandoned(self, number: int, sizes: dict[str, int]) -> bool:
        """Whether a segment was given up, as its disk had failed: what follows it does not go on from it then."""
        following = segment_name(number + 1)
        if following not in sizes:
            return False
        header = self._into / (following + ".header")
        _write(header, self._archive.read(following, 0, min(_HEADER_BYTES, sizes[following])))
        with open_segment(header) as (meta, _):
            return not meta.continues

    # --- moving -------------------------------------------------------------------------------------
    def _move(self, plan: Plan) -> None:
        """To where it belongs. The snapshot goes whole; a start in between goes on, because the plan is still there."""
        folders = {str(Path(name).parent) for name in plan.sizes if not name.startswith("log/")}
        for source in sorted(folders):
            if (self._into / source).exists() and not (self._folder / source / MANIFEST).exists():
                self._files.sync_folder(self._into / source)
                shutil.rmtree(self._folder / source, ignore_errors=True)
                self._files.rename(self._into / source, self._folder / source)
        for name in plan.sizes:
            if name.startswith("log/") and (self._into / name).exists():
                self._files.rename(self._into / name, self._folder / name)
        for parent in ("snapshots", "log"):
            self._files.sync_folder(self._folder / parent)
        self._files.unlink(self._into / _PLAN)
        self._files.sync_folder(self._into)
        shutil.rmtree(self._into, ignore_errors=True)


class _GivenUp(ArchiveError):
    """Another object's error is the one to tell."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


