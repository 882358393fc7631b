"""Start, stop and crash of a real instance."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from shmcache.errors import CacheTimeout, InstanceExists, InstanceNotFound
from shmcache.protocol.directory import Directory
from shmcache.server import exit_codes, regions, stop
from tests.support.instance import RunningInstance, instance_folder, running_instance, wait_until
from tests.support.wire import wire


def objects(instance: RunningInstance) -> list[Path]:
    return sorted(Path("/dev/shm").glob(f"shmcache.{instance.name}.*"))


def refused(instance: RunningInstance, **changes: Any) -> tuple[int, str]:
    """Exit code and stderr of a server that must not start."""
    before = len(instance.log())
    process = instance.launch(**instance.options | changes)
    with process:
        code = process.wait(30)
    return code, instance.log()[before:]


def set_key(instance: RunningInstance, key: bytes, value: bytes) -> None:
    with wire(instance.tcp) as connection:
        assert connection.ask(["SET", key, value]) == ["OK"]


def get_key(instance: RunningInstance, key: bytes) -> Any:
    with wire(instance.tcp) as connection:
        return connection.ask(["GET", key])[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clean_stop_leaves_nothing_of_an_ephemeral_instance(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end all processes with code 0, remove regions and sockets, and retire the
    directory.
    """
    with running_instance(workers=2) as instance:
        assert instance.name in instance.ready_line
        assert instance.tcp in instance.ready_line
        directory = Directory.open(instance.name)
        assert directory.snapshot().state == "serving"
        children = instance.child_pids()
        assert len(children) == 3
        assert instance.stop(number) == exit_codes.STOPPED
        assert directory.snapshot().state == "retired"
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
        assert not objects(instance)
        assert not list(instance.folder.glob("*.sock"))


def test_data_survives_a_stop_and_a_restart() -> None:
    """Without --ephemeral the regions stay, and the next server starts warm."""
    with running_instance(ephemeral=False) as instance:
        set_key(instance, b"k", b"v")
        assert "empty" in instance.ready_line
        assert instance.stop() == exit_codes.STOPPED
        assert [path.name.rpartition(".")[2] for path in objects(instance)] == ["data", "hints", "log"]
        instance.start()
        assert "warm with 1 keys" in instance.ready_line
        assert get_key(instance, b"k") == b"v"
        instance.stop()
        instance.start(cold=True)
        assert "empty" in instance.ready_line
        assert get_key(instance, b"k") is None


def test_killed_worker_heals_with_its_data() -> None:
    """After `kill -9` of a worker its shard serves again within a second, under a later generation."""
    with running_instance() as instance:
        set_key(instance, b"k", b"v")
        for _ in range(3):
            started = time.monotonic()
            instance.wait_healed(0, instance.kill_worker(0))
            if _ == 0:
                assert time.monotonic() - started < 1.0
            assert get_key(instance, b"k") == b"v"


def test_killed_router_heals_at_the_same_port() -> None:
    """After `kill -9` of the router the same endpoint answers again within a second."""
    with running_instance() as instance:
        endpoint, pid = instance.tcp, instance.router_pid()
        os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        wait_until(lambda: instance.router_pid() not in (0, pid), what="router")
        with wire(endpoint) as connection:
            assert connection.ask(["PING"]) == ["PONG"]
        assert time.monotonic() - started < 1.0


def test_request_during_a_workers_restart_waits_for_it() -> None:
    """The router holds a request for a shard that is just being repaired instead of refusing it."""
    with running_instance() as instance, wire(instance.tcp) as connection:
        connection.ask(["SET", b"k", b"v"])
        instance.kill_worker(0)
        wait_until(
            lambda: instance.snapshot().shards[0].state == "down" or instance.worker_pid(0), what="noticed"
        )
        time.sleep(0.06)
        assert connection.ask(["GET", b"k"]) == [b"v"]


def test_killed_supervisor_leaves_no_orphans_and_the_next_one_takes_over() -> None:
    """`kill -9` of the supervisor ends its children; a new server retires the directory and starts warm."""
    with running_instance(workers=2) as instance:
        set_key(instance, b"k", b"v")
        old = Directory.open(instance.name)
        children = instance.child_pids()
        instance.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), what="children end")
        assert not regions.supervisor_alive(instance.name)
        assert not old.retired
        with pytest.raises(InstanceNotFound, match="does not run"):
            stop(instance.name)
        instance.start()
        assert "warm" in instance.ready_line
        assert get_key(instance, b"k") == b"v"
        assert old.snapshot().state == "retired"


def test_second_server_of_a_name_is_refused_at_once() -> None:
    """It names the pid of the first, which is not disturbed."""
    with running_instance() as instance:
        code, text = refused(instance)
        assert code == exit_codes.INSTANCE_EXISTS
        assert f"pid {instance.pid}" in text
        assert "Traceback" not in text
        with pytest.raises(InstanceExists):
            regions.purge(instance.name)
        set_key(instance, b"k", b"v")


def test_stop_by_name_and_purge() -> None:
    """`stop` waits for the end of the instance; `purge` then removes what it left."""
    with running_instance(ephemeral=False) as instance:
        assert instance.process is not None
        assert stop(instance.name) == instance.pid
        assert instance.process.wait(10) == exit_codes.STOPPED
        with pytest.raises(InstanceNotFound):
            stop(instance.name)
        listed = regions.list_objects(instance.name)
        assert len(listed) == 3
        assert not any(item.in_use for item in listed)
        assert regions.purge(instance.name) > 0
        assert not objects(instance)


def test_stop_that_takes_too_long_is_an_error() -> None:
    """The caller's timeout is kept when the supervisor does not react."""
    with running_instance() as instance:
        os.kill(instance.pid, signal.SIGSTOP)
        try:
            with pytest.raises(CacheTimeout, match=str(instance.pid)):
                stop(instance.name, timeout=0.2)
        finally:
            os.kill(instance.pid, signal.SIGCONT)


def test_second_signal_forces_the_stop() -> None:
    """A worker that does not react is killed at once on the second signal."""
    with running_instance() as instance:
        assert instance.process is not None
        os.kill(instance.worker_pid(), signal.SIGSTOP)
        instance.process.send_signal(signal.SIGTERM)
        wait_until(lambda: instance.snapshot().state == "stopping", what="stopping")
        time.sleep(0.1)
        instance.process.send_signal(signal.SIGINT)
        assert instance.process.wait(10) == exit_codes.FORCED


def test_worker_that_always_dies_is_reported_and_tried_again() -> None:
    """After five deaths in ten seconds the directory says `failed`, and a worker comes back all the same."""
    with running_instance() as instance:

        def kill_until_failed() -> bool:
            record = instance.snapshot().shards[0]
            if record.owner_pid:
                try:
                    os.kill(record.owner_pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return record.state == "failed"

        wait_until(kill_until_failed, 20, "failed")
        assert "dies at every start" in instance.log()
        wait_until(lambda: instance.snapshot().shards[0].state == "serving", 20, "serving again")


def test_regions_of_another_layout_ask_for_cold() -> None:
    """A data region of another release is never adopted and never silently removed."""
    with running_instance(ephemeral=False) as instance:
        set_key(instance, b"k", b"v")
        instance.stop()
        data = Path(f"/dev/shm/shmcache.{instance.name}.0.data")
        with data.open("r+b") as file:
            file.seek(8)
            file.write((0x7FFF).to_bytes(2, "little"))
        code, text = refused(instance)
        assert code == exit_codes.START_FAILED
        assert "--cold" in text
        assert data.name in text
        assert "Traceback" not in text
        assert data.exists()
        assert not Path(f"/dev/shm/shmcache.{instance.name}.directory").exists()
        instance.start(cold=True)
        assert get_key(instance, b"k") is None


def test_other_number_of_workers_asks_for_cold() -> None:
    """Slots would belong to other shards: the message names both ways out."""
    with running_instance(ephemeral=False, workers=2) as instance:
        instance.stop()
        code, text = refused(instance, workers=1)
        assert code == exit_codes.BAD_CONFIG
        assert "--workers 2" in text
        assert "--cold" in text
        instance.start(workers=1, cold=True)
        assert len(objects(instance)) == 4


def test_stale_names_of_a_crash_do_not_stop_a_start() -> None:
    """Empty objects and dead sockets under the instance's names are replaced."""
    with instance_folder() as instance:
        for part in ("directory", "0.data", "0.hints"):
            Path(f"/dev/shm/shmcache.{instance.name}.{part}").touch(0o600)
        subprocess.run(
            ["python3", "-c", "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])",
             str(instance.folder / f"{instance.name}.w0.sock")],
            check=True,
        )  # fmt: skip
        instance.start()
        set_key(instance, b"k", b"v")


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"memory": "900TB"}, exit_codes.START_FAILED, "do not fit into /dev/shm"),
        ({"memory": "1KB"}, exit_codes.BAD_CONFIG, "at least"),
        ({"workers": "no"}, exit_codes.BAD_CONFIG, "--workers"),
        ({"group": "no-such-group"}, exit_codes.BAD_CONFIG, "no group"),
        ({"runtime_dir": "/proc/nowhere"}, exit_codes.BAD_CONFIG, "runtime_dir"),
        ({"listen": "tcp://192.0.2.1:7", "curve": "off"}, exit_codes.START_FAILED, "192.0.2.1:7"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(changes: dict[str, Any], code: int, message: str) -> None:
    """Bad options and a host that does not allow it: exit code and one plain line, nothing left behind."""
    with instance_folder() as instance:
        found, text = refused(instance, **changes)
        plain = [line for line in text.splitlines() if not line.startswith("{")]
        assert (found, len(plain)) == (code, 1), text
        assert message in plain[0], text
        assert not objects(instance)


def test_port_in_use_names_the_endpoint() -> None:
    """Two instances cannot share a port; the second says which."""
    with running_instance() as first, instance_folder(listen=first.tcp) as second:
        code, text = refused(second)
        assert code == exit_codes.START_FAILED
        assert first.tcp in text
        assert not objects(second)


def test_two_instances_live_side_by_side() -> None:
    """Names keep them apart."""
    with running_instance() as first, running_instance() as second:
        set_key(first, b"k", b"1")
        set_key(second, b"k", b"2")
        assert (get_key(first, b"k"), get_key(second, b"k")) == (b"1", b"2")


def test_access_for_a_group() -> None:
    """With --group its members may read data and write marks; without, nobody else may do anything."""
    group = next(
        name.split(":")[0] for name in Path("/etc/group").read_text().splitlines() if name.startswith("root:")
    )
    with running_instance() as alone, running_instance(group=group) as shared:
        assert {path.stat().st_mode & 0o777 for path in objects(alone)} == {0o600}
        modes = {path.name.rpartition(".")[2]: path.stat().st_mode & 0o777 for path in objects(shared)}
        assert modes == {"data": 0o640, "hints": 0o660, "log": 0o660, "directory": 0o640}
        sockets = {path.stat().st_mode & 0o777 for path in shared.folder.glob("*.sock")}
        assert sockets == {0o660}
