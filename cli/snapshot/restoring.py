"""Back to an earlier snapshot: what is newer in the data folder is moved aside, never deleted, so that the next cold start finds that snapshot.

The order keeps every moment of it sound, should it be interrupted: first newer snapshots go, newest first; then the chosen one's manifest says that
no log follows; then the log behind it goes, newest first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shmcache.errors import ConfigError
from shmcache.persistence.blocks import Cipher
from shmcache.persistence.files import OS_FILES
from shmcache.persistence.libraries import NAME as LIBRARIES
from shmcache.persistence.segments import FOLDER as LOG
from shmcache.persistence.segments import segment_numbers, segment_path
from shmcache.persistence.snapshots import FOLDER as SNAPSHOTS
from shmcache.persistence.snapshots import (
    MANIFEST,
    Manifest,
    read_manifest,
    snapshot_folder,
    snapshot_numbers,
    verify_shard,
)

ASIDE: Final = "aside"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was done. `aside`: where everything newer is now, None if there was nothing."""

    manifest: Manifest
    aside: Path | None
    snapshots: tuple[int, ...]
    segments: tuple[int, ...]


def prepare(folder: Path, number: int, progress: Callable[[float], None], cipher: Cipher | None = None) -> Prepared:
    """Make the next cold start begin with this snapshot and nothing behind it. The caller holds the folder.

    The snapshot is checked before anything is touched. Raises ConfigError, DamagedFile, OSError.
    """
    manifest = read_manifest(folder, number)
    done = 0

    def read(size: int) -> None:
        nonlocal done
        done += size
        progress(done)

    for shard in manifest.shards:
        verify_shard(snapshot_folder(folder, number) / shard.file, shard, cipher, read)
    newer = [n for n in snapshot_numbers(folder) if n > number]
    firsts = [first for n in (number, *newer) if (first := read_manifest(folder, n).first_segment)]
    segments = [n for n in segment_numbers(folder) if firsts and n >= min(firsts)]
    has_libraries = (folder / LIBRARIES).exists()
    if not newer and not segments and not manifest.first_segment and not has_libraries:
        return Prepared(manifest, None, (), ())
    aside = _new_aside(folder)
    for n in reversed(newer):
        _move(snapshot_folder(folder, n), aside / SNAPSHOTS)
    if manifest.first_segment:
        _without_log(folder, manifest, aside)
    for n in reversed(segments):
        _move_segment(folder, n, aside)
    if has_libraries:
        # They may be newer; the snapshot has its own.
        _move(folder / LIBRARIES, aside)
    return Prepared(manifest, aside, tuple(newer), tuple(segments))


def _new_aside(folder: Path) -> Path:
    """A folder for what is taken out of the data folder, with places for snapshots and for the log. Raises ConfigError, OSError."""
    (folder / ASIDE).mkdir(mode=0o700, exist_ok=True)
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for again in range(1_000):
        path = folder / ASIDE / (f"{name}-{again}" if again else name)
        if not path.exists():
            OS_FILES.make_folder(path)
            OS_FILES.make_folder(path / SNAPSHOTS)
            OS_FILES.make_folder(path / LOG)
            OS_FILES.sync_folder(path)
            OS_FILES.sync_folder(folder / ASIDE)
            return path
    raise ConfigError(f"{folder / ASIDE} is full of folders of this second")


def _move_segment(folder: Path, number: int, aside: Path) -> None:
    """With what was kept beside it. Raises OSError."""
    for path in sorted((folder / LOG).glob(f"{segment_path(folder, number).stem}.*")):
        _move(path, aside / LOG)


def _move(path: Path, to: Path) -> None:
    OS_FILES.rename(path, to / path.name)
    # The new name is on the disk before the old one may be gone.
    OS_FILES.sync_folder(to)
    OS_FILES.sync_folder(path.parent)


def _without_log(folder: Path, manifest: Manifest, aside: Path) -> None:
    """Let the manifest say that no log follows; the manifest as it was is kept aside."""
    path = snapshot_folder(folder, manifest.number)
    kept = aside / SNAPSHOTS / path.name
    OS_FILES.make_folder(kept)
    for target, data in ((kept / MANIFEST, (path / MANIFEST).read_bytes()), (path / "manifest.new", replace(manifest, first_segment=0).dump())):
        target.unlink(missing_ok=True)
        file = OS_FILES.create(target)
        try:
            file.write(data)
            file.sync()
        finally:
            file.close()
    OS_FILES.sync_folder(kept)
    OS_FILES.rename(path / "manifest.new", path / MANIFEST)
    OS_FILES.sync_folder(path)
