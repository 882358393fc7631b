"""Rolling restarts: every process of a real instance is replaced while clients on the host and through the router work; and when it is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import shmcache
from shmcache.errors import ConfigError
from shmcache.limits import RESTART_STEP_S_MAX
from shmcache.server.requests import ask_supervisor
from shmcache.server.rolling import Rolling
from tests.chaos.accounts import check_contents
from tests.chaos.crowd import Crowd
from tests.support.instance import RunningInstance, running_instance, wait_until

ROOT = Path(__file__).resolve().parents[2]


def restart(instance: RunningInstance, *words: str) -> "subprocess.CompletedProcess[str]":
    """The command, to its end."""
    command = [sys.executable, "-m", "shmcache.cli", "restart", instance.name, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[RunningInstance]:
    """An instance with every kind of process."""
    with running_instance(
        workers=2, memory="256MB", policy="noeviction", ephemeral=False, channels=True, relay_listen="tcp://127.0.0.1:0",
        data_dir=str(tmp_path), aof="everysec",
    ) as instance:  # fmt: skip
        yield instance


def test_under_load(whole: RunningInstance) -> None:
    """Every process is another one after it. Clients on the host and remote ones see no wrong value, no count that is off, no refusal.

    What must not be sent twice (counters, transactions) may end as unknown when its sender sleeps in the middle of sending to a process that
    ends just then: on a machine with more processes than cores that happens, once in tens of thousands of writes.
    """
    with Crowd(whole) as crowd:
        crowd.wait_busy()
        for _ in range(2):
            before = set(whole.child_pids())
            done = restart(whole, "--rolling", "--json")
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            assert [step["role"] for step in found["steps"]] == ["worker 0", "worker 1", "router", "relay", "hub", "keeper"]
            assert {step["stage"] for step in found["steps"]} == {"done"}
            after = set(whole.child_pids())
            assert len(after) == len(before) == 6
            assert not after & before
        crowd.check_alive()
        counted = crowd.stop()
        log = crowd.log()
        check_contents(whole, crowd)
    print(counted)
    assert counted["refused"] == 0, log
    assert counted["unknown"] <= 2, log
    assert counted["acknowledged"] > 100


def test_counters_of_remote_clients(whole: RunningInstance) -> None:
    """What must not be sent twice goes through workers and router that are replaced, by several clients at once, and counts once each."""
    stop = threading.Event()
    counts: dict[str, int] = {}
    errors: list[Exception] = []

    def count(url: str, key: str) -> None:
        longest, n = 0.0, 0
        with shmcache.connect(url, timeout=5) as client:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    n += 1
                    assert client.incr(key) == n
                except Exception as error:
                    errors.append(error)
                    return
                longest = max(longest, time.monotonic() - began)
        counts[key] = n
        counts[f"{key} longest ms"] = int(longest * 1000)

    threads = [threading.Thread(target=count, args=(url, f"n{n}")) for n, url in enumerate([whole.url, whole.tcp] * 3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    done = restart(whole, "--rolling")
    stop.set()
    for thread in threads:
        thread.join()
    print(done.stdout, counts)
    assert done.returncode == 0, done.stderr
    assert "[1/6] worker 0: serves again after" in done.stdout
    assert "instance" in done.stdout.splitlines()[-1]
    assert not errors
    with shmcache.connect(whole.url) as client:
        assert [int(client.get(f"n{n}") or 0) for n in range(6)] == [counts[f"n{n}"] for n in range(6)]


def test_the_log_goes_on(whole: RunningInstance) -> None:
    """The keeper's successor goes on where it was: everything is on the disk afterwards, without a snapshot."""
    with shmcache.connect(whole.url) as client:
        client.set("before", 1)
        assert restart(whole, "--rolling").returncode == 0
        client.set("after", 1)
    whole.stop()
    for path in Path("/dev/shm").glob(f"shmcache.{whole.name}.*"):
        path.unlink()
    whole.start()
    assert "read from the append-only file" in whole.ready_line
    with shmcache.connect(whole.url) as client:
        assert client.mget(["before", "after"]) == [b"1", b"1"]


def test_refused_when_not_whole(whole: RunningInstance) -> None:
    """With a process missing, or another rolling restart under way, it is refused with the reason, and nothing is ended."""
    folder = whole.folder
    pid = whole.child_pid("hub")
    os.kill(pid, signal.SIGSTOP)
    first = ask_supervisor(folder, whole.name, "restart")
    assert first["steps"][0]["stage"] == "stopping"
    done = restart(whole, "--rolling")
    assert done.returncode != 0
    assert "under way" in done.stderr
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: ask_supervisor(folder, whole.name, "restarting")["is_over"], 60, "over")
    workers = [whole.worker_pid(shard) for shard in range(2)]
    os.kill(whole.child_pid("router"), signal.SIGKILL)
    wait_until(lambda: "child died" in whole.log(), 5, "noticed")
    with pytest.raises(ConfigError, match="not whole: router"):
        ask_supervisor(folder, whole.name, "restart")
    assert workers == [whole.worker_pid(shard) for shard in range(2)]


def test_needs_the_word(whole: RunningInstance) -> None:
    done = restart(whole)
    assert done.returncode != 0
    assert "--rolling" in done.stderr
    assert "Traceback" not in done.stderr


class _Child(SimpleNamespace):
    """A child as far as `Rolling` looks at one."""


def test_gives_up_on_a_successor_that_does_not_serve() -> None:
    """The next is not touched then. One that does not end in time is killed."""
    children = [_Child(role=f"worker {n}", pid=n + 1, ready=True) for n in range(2)]
    ended: list[tuple[str, bool]] = []
    now = [0.0]
    rolling = Rolling([(child, 5.0) for child in children], lambda: children, lambda child, force: ended.append((child.role, force)), lambda: now[0])
    rolling.step()
    now[0] = 6.0
    rolling.step()
    assert ended == [("worker 0", False), ("worker 0", True)]
    assert rolling.expects(children[0])
    assert not rolling.expects(children[1])
    children[0].pid, children[0].ready = 0, False
    rolling.step()
    children[0].pid = 9
    now[0] = RESTART_STEP_S_MAX + 7
    rolling.step()
    assert rolling.is_over
    assert "worker 0" in rolling.error
    assert [step["stage"] for step in rolling.status()["steps"]] == ["starting", "waiting"]
    assert len(ended) == 2
