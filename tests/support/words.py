"""The command line as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

Done = subprocess.CompletedProcess[bytes]


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would choose an instance."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SHMCACHE_", "REDISCLI_"))}
    # Help is laid out for the terminal's width.
    return kept | {"COLUMNS": "160"} | more


def shmcache(*words: object, stdin: bytes = b"", cwd: Path | None = None, **more: str) -> Done:
    """Run `shmcache WORDS...`; `more` are variables of its environment."""
    command = [sys.executable, "-m", "shmcache.cli", *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, env=environment(**more), timeout=120, check=False, cwd=cwd)


def refused(done: Done, *words: str, code: int = 1) -> None:
    """It ended with that code, nothing on stdout and one line on stderr that has these words."""
    assert (done.returncode, done.stdout) == (code, b""), done
    assert done.stderr.count(b"\n") == 1, done.stderr.decode()
    assert done.stderr.startswith(b"shmcache: ")
    for word in words:
        assert word in done.stderr.decode(), done.stderr.decode()
