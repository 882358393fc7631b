"""Whose a left-over thing is: names carry a mark of the process that made them, so that a sweep can tell what
a killed test left from what a living one uses.
"""

import os
from pathlib import Path

import pytest


def own_mark() -> str:
    """PID.START of this process; a pid alone comes back one day."""
    return f"{os.getpid()}.{start_ticks(os.getpid())}"


def is_alive(mark: str) -> bool:
    """Whether the process of a mark lives. What is no mark is not ours, and counts as alive."""
    pid, _, started = mark.partition(".")
    if not (pid.isdigit() and started.isdigit()):
        return True
    return start_ticks(int(pid)) == int(started)


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none (a zombie counts as none)."""
    try:
        # The name in parentheses may hold spaces: count fields behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def root_or_skip(what: str) -> None:
    """Skip the test if we are not root; with CI=true it fails."""
    if os.geteuid() == 0:
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} need root")
    pytest.skip(f"{what} need root")
