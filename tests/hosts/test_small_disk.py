"""A small disk gets full, is freed again, and goes away."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import small_disk as module
from tests.support.small_disk import small_disk

ROOT = Path(__file__).resolve().parents[2]


def test_full_disk_refuses_and_freed_disk_takes():
    """ENOSPC for the byte that has no room, also in a file that was open before."""
    with small_disk(1 << 20) as disk, (disk.folder / "log").open("ab", buffering=0) as log:
        log.write(b"before")
        disk.fill()
        assert disk.free_bytes == 0
        # The file's first page has room for the rest of it.
        log.write(bytes(100_000))
        with pytest.raises(OSError) as raised:
            log.write(bytes(100_000))
        assert raised.value.errno == errno.ENOSPC
        disk.free()
        log.write(bytes(100_000))
        folder = disk.folder
    assert not folder.exists()


def test_some_space_can_be_left():
    with small_disk(1 << 20) as disk:
        disk.fill(leave_bytes=100_000)
        assert 100_000 <= disk.free_bytes < 110_000


def test_disk_goes_though_a_file_is_open():
    """An instance that still runs does not keep it."""
    with small_disk() as disk:
        file = (disk.folder / "open").open("wb")
        folder = disk.folder
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    file.close()


def test_sweep_removes_what_a_killed_process_left():
    """And nothing else."""
    code = (
        "import os\nfrom tests.support.small_disk import small_disk\n"
        "with small_disk() as disk:\n    print(disk.folder, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    with small_disk() as living:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert done.returncode == -signal.SIGKILL
        left = done.stdout.strip()
        assert os.path.ismount(left)
        assert module.sweep() == [left]
        assert not os.path.exists(left)
        assert os.path.ismount(living.folder)
