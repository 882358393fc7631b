"""A file system of its own, small, for what happens when the disk is full: a tmpfs in a temporary folder."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.owners import is_alive, own_mark, root_or_skip
from tests.support.programs import program_or_skip

_NAME = "shmc-disk-"
_CHUNK_BYTES = 65_536
_COMMAND_S_MAX = 20.0


class SmallDisk:
    """`folder` is its root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all space but `leave_bytes` and less than a page."""
        page_bytes = os.statvfs(self.folder).f_frsize
        with self._filler.open("ab", buffering=0) as file:
            while (size := min(_CHUNK_BYTES, self.free_bytes - leave_bytes) // page_bytes * page_bytes) > 0:
                file.write(bytes(size))

    def free(self) -> None:
        """Give back what `fill` has taken."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(size_bytes: int = 4 << 20) -> Iterator[SmallDisk]:
    """Mounted; unmounted at the end even if files are still open there."""
    root_or_skip("file systems of a test's own")
    mount = program_or_skip("mount")
    sweep()
    with tempfile.TemporaryDirectory(prefix=_NAME) as folder:
        source = f"{_NAME}{own_mark()}"
        _run(mount, "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", source, folder)
        try:
            yield SmallDisk(Path(folder))
        finally:
            _unmount(folder)


def sweep() -> list[str]:
    """Unmount and remove what a killed test left; returns the folders."""
    left = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, folder, *_ = line.split()
        if source.startswith(_NAME) and not is_alive(source.removeprefix(_NAME)):
            _unmount(folder)
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
            left.append(folder)
    return left


def _unmount(folder: str) -> None:
    # Lazy: what a process still has open must not keep the folder from going.
    _run(program_or_skip("umount"), "--lazy", folder)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S_MAX)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
