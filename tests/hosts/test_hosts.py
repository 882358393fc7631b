"""Hosts: what runs in them, and that nothing of them is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shmcache import Client
from tests.support import netns
from tests.support.hosts import hosts
from tests.support.instance import wait_until
from tests.support.owners import start_ticks
from tests.support.wire import wire

ROOT = Path(__file__).resolve().parents[2]


def namespaces_of(pid: int) -> list[str]:
    return [path.name for path in netns.NAMES.glob(f"{netns.PREFIX}{pid}.*")]


def write_address(path: str) -> None:
    """Runs in a process inside a host."""
    Path(path).write_text(netns.ip("-o", "-4", "address", "show", "dev", "eth0"))


def test_programs_run_inside():
    """run, python and process see the host's interface, this test's own thread only while it is inside."""
    with hosts(2) as pair:
        show = ("ip", "-o", "-4", "address", "show", "dev", "eth0")
        shown = pair[0].run(*show, stdout=subprocess.PIPE, text=True).communicate()[0]
        assert pair[0].address in shown
        code = "import sys\nfrom tests.support.netns import ip\nprint(sys.argv[1], ip('address'))"
        assert pair[1].python(code, "argument").startswith("argument")
        assert pair[1].address in pair[1].python(code, "argument")
        with pair[1].inside():
            assert pair[1].address in netns.ip("address")
        assert pair[1].address not in netns.ip("address")


def test_process_runs_a_function_inside(tmp_path):
    """A function of a module runs in a process of its own inside."""
    with hosts(2) as pair:
        process = pair[1].process(write_address, str(tmp_path / "address"))
        process.join(20)
        assert process.exitcode == 0
        assert pair[1].address in (tmp_path / "address").read_text()


def test_failing_python_fails_the_test():
    """What goes wrong inside does not pass silently."""
    with hosts(2) as pair, pytest.raises(AssertionError, match="ZeroDivisionError"):
        pair[0].python("1 / 0")


def test_instance_inside_a_host():
    """It serves TCP to the other host only, and shared memory to everyone on the machine."""
    with hosts(2, wire="user") as pair, pair[0].running_instance() as instance:
        assert instance.tcp.startswith(f"tcp://{pair[0].address}:")
        with Client(instance.url) as local:
            local.set("key", b"value")
        with pair[1].inside(), wire(instance.tcp) as connection:
            assert connection.ask(["GET", b"key"], slot=12539) == [b"value"]
        assert instance.stop() == 0
        instance.start()
        assert instance.tcp.startswith(f"tcp://{pair[0].address}:")


def test_everything_is_removed_also_after_a_failure():
    """No namespace and no process is left, though the test failed with programs running."""
    started = []
    for wire_kind in ("veth", "user"):
        with contextlib.suppress(ZeroDivisionError), hosts(3, wire=wire_kind) as group:
            assert namespaces_of(os.getpid())
            started.append(group[0].run("sleep", "1000"))
            raise ZeroDivisionError
    assert len(started) == 2
    assert not namespaces_of(os.getpid())
    assert all(process.returncode == -signal.SIGKILL for process in started)


def test_sweep_removes_what_a_killed_process_left():
    """A test that is killed takes its switch with it; its namespaces and what runs in them go with the next
    sweep, and those of living processes stay.
    """
    code = (
        "import time\nfrom tests.support.hosts import hosts\n"
        "with hosts(2, wire='user') as pair:\n"
        "    print(pair[0].run('sleep', '1000').pid, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    with hosts(2):
        victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert victim.stdout is not None
        sleeper = int(victim.stdout.readline())
        left = namespaces_of(victim.pid)
        assert len(left) == 3
        assert netns.sweep() == []
        victim.kill()
        victim.wait()
        victim.stdout.close()
        middle = next(name for name in left if name.endswith("-m"))
        wait_until(lambda: not netns.ip("netns", "pids", middle), 5, "the switch ends with its starter")
        assert start_ticks(sleeper)
        assert sorted(netns.sweep()) == sorted(left)
        assert not namespaces_of(victim.pid)
        time.sleep(0.05)
        assert not start_ticks(sleeper)
        assert namespaces_of(os.getpid())
