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
    first, second = _halves()
    ip = shutil.which("ip") if os.geteuid() == 0 else None
    names = [f"shmc-bench-{os.getpid()}-{side}" for side in "ab"]
    try:
        if ip is not None and _join(ip, names):
            prefixes = [(ip, "netns", "exec", name) for name in names]
            yield Host(_address(1), (*prefixes[0], *first)), Host(_address(2), (*prefixes[1], *second)), "veth pair"
        else:
            yield Host("127.0.0.1", first), Host("127.0.0.1", second), "loopback"
    finally:
        if ip is not None:
            for name in names:
                subprocess.run([ip, "netns", "delete", name], capture_output=True, timeout=_COMMAND_S_MAX, check=False)


def _address(number: int) -> str:
    return f"10.213.7.{number}"


def _join(ip: str, names: list[str]) -> bool:
    """Make two namespaces and the veth pair; False in a container without the right to do so."""
    commands = [["netns", "add", name] for name in names]
    commands.append(["-n", names[0], "link", "add", "w0", "type", "veth", "peer", "name", "w0", "netns", names[1]])
    for number, name in enumerate(names, 1):
        commands.append(["-n", name, "address", "add", f"{_address(number)}/30", "dev", "w0"])
        commands += [["-n", name, "link", "set", link, "up"] for link in ("lo", "w0")]
    try:
        for words in commands:
            subprocess.run([ip, *words], check=True, capture_output=True, timeout=_COMMAND_S_MAX)
    except (subprocess.SubprocessError, OSError):
        return False
    return True


def _halves() -> list[tuple[str, ...]]:
    """Words that keep a command on either half of this process's cores."""
    program, cores = shutil.which("taskset"), sorted(os.sched_getaffinity(0))
    if program is None or len(cores) < 2:
        return [(), ()]
    middle = len(cores) // 2
    return [(program, "-c", ",".join(map(str, half))) for half in (cores[:middle], cores[middle:])]
