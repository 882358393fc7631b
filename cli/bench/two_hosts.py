"""Two network namespaces joined by a veth pair, for benchmarks between hosts; without root, twice this host's loopback.

Each host has half of the cores, so that what one does takes no time from the other, as between real hosts.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

_COMMAND_S_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Host:
    """Where a benchmark's server runs: its address, and the words before a command that put it there."""

    address: str
    prefix: tuple[str, ...] = ()


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host, str]]:
    """Both hosts, and what joins them, in words. Memory, files and unix sockets are this host's for both."""
    program = shutil.which("ip")
    cores = _halves()
    if program is None or os.geteuid() != 0:
        yield Host("127.0.0.1", cores[0]), Host("127.0.0.1", cores[1]), "loopback"
        return

    def ip(*words: str) -> None:
        subprocess.run([program, *words], check=True, capture_output=True, timeout=_COMMAND_S_MAX)

    names = [f"shmc-bench-{os.getpid()}-{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", "w0", "type", "veth", "peer", "name", "w0", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.213.7.{number}/30", "dev", "w0")
            ip("-n", name, "link", "set", "w0", "up")
        hosts = [Host(f"10.213.7.{n}", (program, "netns", "exec", name, *cores[n - 1])) for n, name in enumerate(names, 1)]
    except (subprocess.SubprocessError, OSError):
        # A container without the right to make namespaces.
        _remove(program, names)
        yield Host("127.0.0.1", cores[0]), Host("127.0.0.1", cores[1]), "loopback"
        return
    try:
        yield hosts[0], hosts[1], "veth pair"
    finally:
        _remove(program, names)


def _halves() -> list[tuple[str, ...]]:
    """Words that keep a command on either half of this process's cores."""
    program, cores = shutil.which("taskset"), sorted(os.sched_getaffinity(0))
    if program is None or len(cores) < 2:
        return [(), ()]
    middle = len(cores) // 2
    return [(program, "-c", ",".join(map(str, half))) for half in (cores[:middle], cores[middle:])]


def _remove(program: str, names: list[str]) -> None:
    for name in names:
        subprocess.run([program, "netns", "delete", name], capture_output=True, timeout=_COMMAND_S_MAX, check=False)
