"""Two servers that keep data on the same disk, started and ended at will: an instance with one worker, and Redis."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shmcache
from shmcache.errors import ShmcacheError, Unavailable
from shmcache.protocol.directory import Directory, DirectorySnapshot
from shmcache.server import regions

from ..connection import call_process
from .generator import OurGenerator, RedisGenerator
from .peers import PeerMissing, program
from .region import VALUE, key_of

START_S_MAX = 900.0
STOP_S_MAX = 120.0
SAVE_S_MAX = 900.0


def _first_answer(ask: Callable[[], bool], process: "subprocess.Popen[Any]", began: float) -> float:
    """Seconds until the first answer."""
    while True:
        if ask():
            return time.perf_counter() - began
        if process.poll() is not None or time.perf_counter() - began > START_S_MAX:
            raise Unavailable(f"{process.args!r} does not answer")
        time.sleep(0.002)


class OurServer:
    """An instance. A context manager: in the end its data are removed."""

    def __init__(self, folder: Path, keys: int, label: str = "", **options: Any) -> None:
        self.name = f"bench-{os.getpid()}{label}"
        memory = max(keys * 192 + (64 << 20), 128 << 20)
        self.options = {
            "name": self.name, "workers": 1, "memory": memory, "pin": "false", "channels": "false", "listen": "tcp://127.0.0.1:0",
            "log_size": "64MB", "log_level": "warning", "data_dir": folder, "runtime_dir": folder.parent,
        } | options  # fmt: skip
        self._log = (folder.parent / f"log{label}").open("w+")
        self._process: subprocess.Popen[bytes] | None = None
        self._client: shmcache.Client | None = None

    @property
    def client(self) -> "shmcache.Client":
        assert self._client is not None
        return self._client

    def start(self) -> float:
        """Returns the seconds from the start of the process to the first answer, to a GET and to a SET."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self.options.items()]
        self._client = self._client or shmcache.Client(f"shm://{self.name}", timeout=60)
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shmcache.server", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log
        )  # fmt: skip
        client = self._client

        def ask() -> bool:
            try:
                client.get(key_of(0))
                # Only a worker answers this.
                client.set(key_of(0), VALUE)
            except ShmcacheError:
                return False
            return True

        seconds = _first_answer(ask, self._process, began)
        while self.snapshot().state != "serving":
            time.sleep(0.005)
        return seconds

    def snapshot(self) -> DirectorySnapshot:
        directory = Directory.open(self.name)
        try:
            return directory.snapshot()
        finally:
            directory.close()

    @property
    def endpoint(self) -> str:
        """Of its worker."""
        return self.snapshot().shards[0].endpoints[0]

    def generator(self, keys: int) -> OurGenerator:
        return OurGenerator(self.endpoint, keys)

    def keeper(self, call: str) -> Any:
        return call_process(self.name, "keeper", call, timeout=SAVE_S_MAX)

    def save(self) -> None:
        self.keeper("save")

    def own_bytes(self) -> int:
        """Memory that the keeper has for itself, and that the regions take."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        keeper = next((pid for pid in children if b"shmcache.server.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()), None)
        found = re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{keeper}/status").read_text()) if keeper else None
        return (int(found[1]) << 10 if found else 0) + sum(item.allocated_bytes for item in regions.list_objects(self.name))

    def region_bytes(self) -> int:
        return sum(item.allocated_bytes for item in regions.list_objects(self.name))

    def stop(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        process.wait(STOP_S_MAX)

    def forget(self) -> None:
        """Remove what it left in memory."""
        regions.purge(self.name)

    def __enter__(self) -> "OurServer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        try:
            self.stop()
        finally:
            with contextlib.suppress(ShmcacheError):
                self.forget()
            self._log.close()


class RedisServer:
    """A redis-server on a unix socket."""

    def __init__(self, folder: Path, *options: str) -> None:
        try:
            import redis
        except ImportError:
            raise PeerMissing("redis-py is not installed (pip install 'shmcache[bench]')") from None
        self.path = str(folder / "redis.sock")
        self._command = [program("redis-server"), "--port", "0", "--unixsocket", self.path, "--save", "", "--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = redis.Redis(unix_socket_path=self.path, socket_timeout=60)
        self._errors = redis.RedisError

    def start(self) -> float:
        """Returns the seconds from the start of the process to the first answer to a GET."""
        began = time.perf_counter()
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def ask() -> bool:
            try:
                self.client.get(key_of(0))
            except self._errors:
                return False
            return True

        return _first_answer(ask, self._process, began)

    def generator(self, keys: int) -> RedisGenerator:
        return RedisGenerator(self.path, keys)

    def save(self) -> None:
        """BGSAVE, to its end."""
        self.client.bgsave()
        while self.client.info("persistence")["rdb_bgsave_in_progress"]:
            time.sleep(0.01)

    def copied_bytes(self) -> int:
        """What the last BGSAVE had copied because of writes."""
        return int(self.client.info("persistence")["rdb_last_cow_size"])

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(STOP_S_MAX)

    def __enter__(self) -> "RedisServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()
