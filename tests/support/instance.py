"""A real instance for a test: real processes, real shared memory, gone afterwards."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shmcache.protocol.directory import Directory, DirectorySnapshot

START_S_MAX = 60.0
"""A start takes a second or two; this is for machines on which much else runs."""
STOP_S_MAX = 40.0


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "condition") -> Any:
    """Poll until `condition` is true and return what it returned; an AssertionError when the time is over."""
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"{what}: not within {seconds} s"
        time.sleep(0.005)


class RunningInstance:
    """One server process tree. `options` are those of shmcache.config, by name.

    `prefix`: words before the server's command (they must `exec` it); `environment`: added to the server's.
    """

    def __init__(
        self,
        folder: Path,
        options: dict[str, Any],
        *,
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.prefix = list(prefix)
        self.environment = dict(environment or {})
        self.name: str = options["name"]
        self.folder = folder
        self.options = options
        self.ready_line = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self, **changes: Any) -> "RunningInstance":
        """Start the server (again) and wait for its ready line; `changes` to the options stay."""
        assert self.process is None
        self.options |= changes
        self.ready_line = ""
        self.process = self.launch(**self.options)
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], START_S_MAX)[0]:
            self.ready_line = self.process.stdout.readline().strip()
        if "ready" not in self.ready_line:
            # Its stacks go to the log: faulthandler answers SIGABRT.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(STOP_S_MAX)
            self._forget()
            raise AssertionError(f"the server did not become ready; its log:\n{self.log()}")
        listen = [endpoint for endpoint in self.snapshot().router_endpoints if endpoint.startswith("tcp:")]
        if listen:
            # A restart listens at the same ports again.
            self.options["listen"] = ",".join(listen)
        return self

    def launch(self, **options: Any) -> "subprocess.Popen[str]":
        """The bare server process, not waited for."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHMCACHE_")}
        environment["PYTHONFAULTHANDLER"] = "1"
        environment |= self.environment
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "shmcache.server", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self.process is not None
        return self.process.pid

    @property
    def url(self) -> str:
        """For clients on the host."""
        return f"shm://{self.name}"

    @property
    def tcp(self) -> str:
        """Endpoint of the router, tcp://127.0.0.1:PORT."""
        return next(endpoint for endpoint in self.snapshot().router_endpoints if endpoint.startswith("tcp:"))

    @property
    def resp_port(self) -> int:
        """Port of the Redis protocol on 127.0.0.1."""
        found = re.search(r"RESP at \S+:(\d+),", self.ready_line)
        assert found is not None, "started without `resp`"
        return int(found[1])

    def snapshot(self) -> DirectorySnapshot:
        directory = Directory.open(self.name)
        try:
            return directory.snapshot()
        finally:
            directory.close()

    def worker_pid(self, shard: int = 0) -> int:
        return self.snapshot().shards[shard].owner_pid

    def router_pid(self) -> int:
        """Pid of the router; 0 while it is being started."""
        return self.child_pid("router")

    def child_pid(self, module: str) -> int:
        """Pid of the (first) process of a module of shmcache.server; 0 while it is being started."""
        name = f"shmcache.server.{module}".encode()
        return next((pid for pid in self.child_pids() if name in _command_line(pid)), 0)

    def hub_pid(self) -> int:
        """Pid of the hub; 0 while it is being started."""
        return self.snapshot().hub_pid

    def child_pids(self) -> list[int]:
        """Living children of the supervisor."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def kill_worker(self, shard: int = 0) -> int:
        """`kill -9` a shard's worker; returns the generation it had."""
        record = self.snapshot().shards[shard]
        os.kill(record.owner_pid, signal.SIGKILL)
        return record.generation

    def wait_healed(self, shard: int, generation: int, seconds: float = 10.0) -> DirectorySnapshot:
        """Wait until a later generation of the shard serves."""

        def healed() -> DirectorySnapshot | None:
            snapshot = self.snapshot()
            record = snapshot.shards[shard]
            return snapshot if record.state == "serving" and record.generation > generation else None

        found = wait_until(healed, seconds, f"shard {shard} heals")
        assert isinstance(found, DirectorySnapshot)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Clean stop; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(STOP_S_MAX)
        self._forget()
        return code

    def kill(self) -> None:
        """`kill -9` the supervisor."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._forget()

    def log(self) -> str:
        """What all its processes have logged."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def _forget(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def remove_objects(name: str) -> None:
    """Remove what an instance left in /dev/shm."""
    for path in Path("/dev/shm").glob(f"shmcache.{name}.*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def instance_folder(
    *, prefix: Sequence[str] = (), environment: dict[str, str] | None = None, **config: Any
) -> Iterator[RunningInstance]:
    """An instance that is not started yet: unique name, free port, small memory, ephemeral; `config`
    overrides.
    """
    with tempfile.TemporaryDirectory(prefix="shmc-") as folder:
        options: dict[str, Any] = {
            "name": f"t{uuid.uuid4().hex[:10]}",
            "workers": 1,
            "memory": "64MB",
            "log_size": "4MB",
            "listen": "tcp://127.0.0.1:0",
            "ephemeral": True,
            "pin": False,
            "channels": False,
            "runtime_dir": folder,
            "log_level": "debug",
            "log_format": "json",
        }
        instance = RunningInstance(Path(folder), options | config, prefix=prefix, environment=environment)
        try:
            yield instance
        finally:
            if instance.process is not None:
                try:
                    instance.stop()
                except subprocess.TimeoutExpired:
                    instance.kill()
            remove_objects(instance.name)


@contextlib.contextmanager
def running_instance(**config: Any) -> Iterator[RunningInstance]:
    """An instance that serves; stopped and removed at the end. If the test fails, its log is printed."""
    with instance_folder(**config) as instance:
        try:
            yield instance.start()
        except BaseException:
            print(instance.log())
            raise
