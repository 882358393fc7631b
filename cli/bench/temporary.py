"""A server that lives as long as a benchmark: its own name, its data removed at the end."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from shmcache.errors import ShmcacheError, Unavailable

STOP_S_MAX = 30.0


@contextlib.contextmanager
def instance(prefix: tuple[str, ...] = (), **options: Any) -> Iterator[str]:
    """Start an ephemeral instance with options of shmcache.config, behind the words of `prefix`; gives its name. Raises Unavailable with its last words."""
    name = f"bench-{os.getpid()}"
    words = {"name": name, "ephemeral": "true", "log_level": "warning"} | options
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in words.items()]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "shmcache.server", *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )  # fmt: skip
        try:
            assert process.stdout is not None
            if "ready" not in process.stdout.readline():
                process.wait(STOP_S_MAX)
                log.seek(0)
                last = log.read().strip().splitlines()[-1:]
                raise Unavailable(f"the benchmark's server did not start: {''.join(last)}")
            yield str(words["name"])
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise ShmcacheError(f"the benchmark's server (pid {process.pid}) did not stop and was killed") from None
    finally:
        if process.stdout is not None:
            process.stdout.close()
