"""Network namespaces of one process: made with names that say whose they are, entered, and swept when their
maker is gone.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.owners import is_alive, own_mark, root_or_skip
from tests.support.programs import find_program, program_or_skip

PREFIX = "shmc-"
NAMES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_COMMAND_S_MAX = 20.0


def needs_namespaces() -> None:
    """Skip the test where namespaces cannot be made; with CI=true it fails."""
    program_or_skip("ip")
    program_or_skip("nsenter")
    root_or_skip("network namespaces")


def ip(*words: str, namespace: str = "", lines: Sequence[str] = ()) -> str:
    """Output of `ip WORDS`, or of a batch of `lines`; in a namespace if one is named."""
    program = find_program("ip")
    assert program is not None, "iproute2 is not installed"
    command = [program, *(("-n", namespace) if namespace else ()), *(("-batch", "-") if lines else words)]
    batch = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(command, input=batch, capture_output=True, text=True, timeout=_COMMAND_S_MAX)
    if done.returncode:
        raise OSError(f"{' '.join(command)} {list(lines) or ''}: {done.stderr.strip()}")
    return done.stdout


def group_name() -> str:
    """A unique name that says whose it is."""
    return f"{PREFIX}{own_mark()}-{uuid.uuid4().hex[:8]}"


def command_prefix(namespace: str) -> list[str]:
    """Words before a command that is to run in the namespace. They `exec`, so the pid is the command's."""
    return [find_program("nsenter") or "nsenter", f"--net={NAMES / namespace}", "--"]


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread is in the namespace: sockets, threads and processes it makes now stay there for good."""
    with open("/proc/thread-self/ns/net") as home, open(NAMES / namespace) as away:
        _set_namespace(away.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def _set_namespace(descriptor: int) -> None:
    # os.setns exists from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def disable_checksum_offload(interface: str) -> None:
    """Make the kernel compute checksums itself and send nothing larger than the MTU, for who reads the frames
    at the other end of a veth (what `ethtool -K INTERFACE tx off` does). Acts on the thread's namespace.
    """
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", interface.encode(), ctypes.addressof(value)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def remove(namespace: str) -> None:
    """End what runs in the namespace and delete it. It may be gone already."""
    if not (NAMES / namespace).exists():
        return
    with contextlib.suppress(OSError):
        for pid in ip("netns", "pids", namespace).split():
            # Never ourselves: a thread of ours may be inside.
            if int(pid) != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    with contextlib.suppress(OSError):
        ip("netns", "delete", namespace)


def sweep() -> list[str]:
    """Remove the namespaces that a killed process left; returns their names."""
    left = [path.name for path in NAMES.glob(f"{PREFIX}*") if not _is_owned(path.name)]
    for namespace in left:
        remove(namespace)
    return left


def _is_owned(namespace: str) -> bool:
    return is_alive(namespace.removeprefix(PREFIX).partition("-")[0])


def python_command(namespace: str) -> list[str]:
    """Words that start this Python in the namespace."""
    return [*command_prefix(namespace), sys.executable]
