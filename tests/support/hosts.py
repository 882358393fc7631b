"""Hosts that are real to the kernel: network namespaces on one machine, each with its interface and ports.

Only the network is separate: /dev/shm, files and pids are shared, so a local client (`shm://`) of any host's
instance works from the test itself. What speaks TCP to a host must run inside one: `Host.run`, `Host.python`,
`Host.process`, `Host.inside`. Never from the machine's own namespace: those packets leave for the real
network.
"""

import contextlib
import itertools
import multiprocessing
import multiprocessing.process
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from tests.support import netns
from tests.support.instance import RunningInstance, instance_folder
from tests.support.links import Direction, KernelMedium, Medium, UserMedium, Wire, neighbour
from tests.support.user_wire import mac

HOSTS_MAX = 16
_ROOT = Path(__file__).resolve().parents[2]
_STOP_S_MAX = 10.0


class Host:
    """One namespace."""

    def __init__(self, number: int, namespace: str, cleanup: contextlib.ExitStack) -> None:
        self.number, self.namespace = number, namespace
        self.address = f"10.77.0.{number + 1}"
        self._cleanup = cleanup

    def run(self, *command: str, **options: Any) -> "subprocess.Popen[Any]":
        """Start a command inside; `options` are Popen's. It is killed at the end if it still runs."""
        process = subprocess.Popen([*netns.command_prefix(self.namespace), *command], **options)
        self._cleanup.callback(_end, process)
        return process

    def python(self, code: str, *arguments: str, timeout_s: float = 60.0) -> str:
        """Output of a Python program (source text) inside; an AssertionError if it fails."""
        command = [*netns.python_command(self.namespace), "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=_ROOT)
        assert done.returncode == 0, f"python in host {self.number}: {done.stderr}"
        return done.stdout

    def process(self, target: Callable[..., Any], *arguments: Any) -> multiprocessing.process.BaseProcess:
        """Start a function of an importable module in a process inside. It is killed at the end if it still
        runs.
        """
        process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
        with self.inside():
            # A child is born where the thread is that starts it.
            process.start()
        self._cleanup.callback(_end_process, process)
        return process

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """This thread is inside: sockets and threads made now stay there. (Not for shmcache.Client, whose
        ZeroMQ context, and so its I/O thread's place, is one per process.)
        """
        return netns.inside(self.namespace)

    @contextlib.contextmanager
    def popen_instance(
        self, *, environment: dict[str, str] | None = None, **options: Any
    ) -> Iterator[RunningInstance]:
        """An instance inside that listens at the host's address; not started yet."""
        # Keys are tested elsewhere: here the wire may show what goes over it.
        options = {"listen": f"tcp://{self.address}:0", "curve": "off"} | options
        prefix = netns.command_prefix(self.namespace)
        with instance_folder(prefix=prefix, environment=environment, **options) as instance:
            yield instance

    @contextlib.contextmanager
    def running_instance(self, **options: Any) -> Iterator[RunningInstance]:
        """An instance inside that serves. If the test fails, its log is printed."""
        with self.popen_instance(**options) as instance:
            try:
                yield instance.start()
            except BaseException:
                print(instance.log())
                raise


class Hosts(list[Host]):
    """The hosts of one test and the wires between them."""

    def __init__(self, members: list[Host], medium: Medium) -> None:
        super().__init__(members)
        self._medium = medium

    def wire(self, a: int = 0, b: int = 1) -> Wire:
        """The wire between two hosts by number; direction "ab" is from the first named to the second."""
        assert len({a, b} & set(range(len(self)))) == 2, f"two different hosts of {len(self)}: {a}, {b}"
        return Wire(self._medium, a, b)

    def isolate(self, number: int, direction: Direction = "both") -> None:
        """Cut one host off from all others; "ab" is what it sends."""
        for other in range(len(self)):
            if other != number:
                self.wire(number, other).partition(direction)

    def heal(self) -> None:
        """All wires perfect again."""
        for a, b in itertools.combinations(range(len(self)), 2):
            self.wire(a, b).heal()


@contextlib.contextmanager
def hosts(count: int, *, wire: Literal["veth", "user"] = "veth", seed: int = 1) -> Iterator[Hosts]:
    """`count` hosts on one wire; everything in them is ended and removed at the end.

    veth: the kernel's own speed (a veth pair for two hosts, a bridge for more); can be cut, not impaired.
    user: a small switch in user space that can also delay, lose, reorder, duplicate, corrupt and slow down.
    """
    netns.needs_namespaces()
    assert 2 <= count <= HOSTS_MAX
    netns.sweep()
    group = netns.group_name()
    with contextlib.ExitStack() as cleanup:
        names = [_make(f"{group}-{number}", cleanup) for number in range(count)]
        # Before the namespaces go, what the test started in them ends: it is registered later.
        members = [Host(number, name, cleanup) for number, name in enumerate(names)]
        middle = ""
        if wire == "veth" and count == 2:
            netns.ip(*f"link add eth0 type veth peer name eth0 netns {names[1]}".split(), namespace=names[0])
        else:
            middle = _make(f"{group}-m", cleanup)
            _connect(middle, names, is_bridged=wire == "veth")
        for host in members:
            _configure(host, members, is_raw=wire == "user")
        medium: Medium
        if wire == "veth":
            medium = KernelMedium(names, [host.address for host in members])
        else:
            medium = UserMedium(cleanup.enter_context(_switch(middle, count, seed)))
        yield Hosts(members, medium)


def _make(namespace: str, cleanup: contextlib.ExitStack) -> str:
    # Registered first: a kill between the two steps is the sweep's business, an exception is ours.
    cleanup.callback(netns.remove, namespace)
    netns.ip("netns", "add", namespace)
    return namespace


def _connect(middle: str, names: list[str], *, is_bridged: bool) -> None:
    """One veth per host into the middle namespace: ports h0, h1, ..."""
    lines = ["link add br0 type bridge stp_state 0 forward_delay 0", "link set br0 up"] if is_bridged else []
    for number, name in enumerate(names):
        lines += [
            f"link add h{number} type veth peer name eth0 netns {name}",
            # No IPv6 chatter: the only frames are the test's.
            f"link set h{number} addrgenmode none",
            f"link set h{number} {'master br0' if is_bridged else ''} up",
        ]
    netns.ip(namespace=middle, lines=lines)


def _configure(host: Host, members: list[Host], *, is_raw: bool) -> None:
    lines = [
        "link set lo up",
        f"link set eth0 address {mac(host.number)} addrgenmode none",
        f"address add {host.address}/24 dev eth0",
        "link set eth0 up",
    ]
    # Neighbours are fixed: no ARP that a lossy wire could lose and that a healed one must wait for.
    lines += [neighbour(other.address, mac(other.number)) for other in members if other is not host]
    netns.ip(namespace=host.namespace, lines=lines)
    if is_raw:
        with host.inside():
            netns.disable_checksum_offload("eth0")


@contextlib.contextmanager
def _switch(middle: str, count: int, seed: int) -> Iterator[str]:
    """The switch in the middle, running; yields the path of its control socket."""
    with tempfile.TemporaryDirectory(prefix="shmc-") as folder:
        path = f"{folder}/wire"
        ports = [f"h{number}" for number in range(count)]
        program = ["-m", "tests.support.user_wire", path, str(seed), *ports]
        process = subprocess.Popen(
            [*netns.python_command(middle), *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "the user-space wire did not start"
            yield path
        finally:
            _end(process)


def _end(process: "subprocess.Popen[Any]") -> None:
    if process.poll() is None:
        process.kill()
    process.wait(_STOP_S_MAX)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _end_process(process: multiprocessing.process.BaseProcess) -> None:
    if process.is_alive():
        process.kill()
    process.join(_STOP_S_MAX)
    process.close()
