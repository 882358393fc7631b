"""A wall clock that a test moves, for whole process trees: a preloaded library shifts CLOCK_REALTIME.

A time namespace does not cover CLOCK_REALTIME. libfaketime does, but it intercepts far more (semaphores,
condition variables, file times) and reads a file at every call; this one adds a number from a shared page to
three functions. It reaches what asks libc: Python and Rust's std do. Monotonic clocks, and so timeouts, go on
as they were.
"""

import mmap
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.programs import program_or_skip

_SOURCE = Path(__file__).with_suffix(".c")
_COMPILE_S_MAX = 60.0
SHIFT_S_MAX = 10 * 365 * 86_400.0


class ShiftedClock:
    """One clock. Start processes with `environment`; `jump` moves it for all of them, running ones too."""

    def __init__(self) -> None:
        # What links the Rust engine also compiles this.
        compiler = program_or_skip("cc")
        self._folder = tempfile.TemporaryDirectory(prefix="shmc-clock-")
        library, page = Path(self._folder.name, "clock.so"), Path(self._folder.name, "offset")
        command = [compiler, "-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, _SOURCE, "-ldl"]
        subprocess.run(command, check=True, timeout=_COMPILE_S_MAX)
        page.write_bytes(bytes(mmap.PAGESIZE))
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        preloaded = [str(library), *filter(None, [os.environ.get("LD_PRELOAD")])]
        self.environment = {"LD_PRELOAD": ":".join(preloaded), "SHIFTED_CLOCK_FILE": str(page)}
        self._shift_s = 0.0

    @property
    def shift_s(self) -> float:
        """How far it is from the true time now."""
        return self._shift_s

    def jump(self, seconds: float) -> None:
        """Move it forward, or back if negative, at once."""
        assert abs(self._shift_s + seconds) <= SHIFT_S_MAX
        self._shift_s += seconds
        # One aligned 8-byte store: a reader sees the old or the new offset.
        with memoryview(self._page) as page, page.cast("q") as words:
            words[0] = round(self._shift_s * 1e9)

    def close(self) -> None:
        """Processes that still run keep the shift that they have."""
        self._page.close()
        self._folder.cleanup()

    def __enter__(self) -> "ShiftedClock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
