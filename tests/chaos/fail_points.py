"""Workers of a real instance that end themselves inside the engine's mutations, at named points."""

import contextlib
import os
import random
import signal
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import shmcache
from shmcache.errors import ShmcacheError
from tests.support.instance import RunningInstance

LIFE_S_MAX = 1.0
"""A worker that has not come to its point by then is killed anyway."""

OF_TRANSACTIONS = ("PreparedWritten", "GroupPrepared", "DecisionNoted", "PreparedPublished")
"""Points that only transactions over several shards come to."""

# Python imports a `sitecustomize` that it finds on its path: a way into the worker of which the product
# knows nothing.
_SITECUSTOMIZE = """
    import os, random, sys

    folder = os.path.dirname(__file__)
    if "shmcache.server.worker" in sys.orig_argv and os.path.exists(os.path.join(folder, "armed")):
        from shmcache import _engine

        with open(os.path.join(folder, "armed")) as file:
            point = random.choice(file.read().split())
        with open(os.path.join(folder, str(os.getpid())), "w") as file:
            file.write(point)
        _engine.arm_fail_point(point, random.choice((0, 1, 5, 50)))
"""


class FailPoints:
    """A folder for PYTHONPATH: while it is armed, every new worker of an instance dies at a random one of `points`."""

    def __init__(self, folder: Path, points: Sequence[str]) -> None:
        self.folder, self._points = folder, points
        (folder / "sitecustomize.py").write_text(textwrap.dedent(_SITECUSTOMIZE))
        self._seen: dict[int, float] = {}
        self._killed: set[int] = set()

    def attack(self, instance: RunningInstance, seconds: float) -> None:
        """Arm, end the workers that are not armed, and go on for that long; then leave unarmed ones."""
        (self.folder / "armed").write_text(" ".join(self._points))
        self._seen = dict.fromkeys((record.owner_pid for record in instance.snapshot().shards), 0.0)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._end_old_ones(instance, LIFE_S_MAX)
            time.sleep(0.01)
        (self.folder / "armed").unlink()
        for record in instance.snapshot().shards:
            self._end_old_ones(instance, 0.0)
            instance.wait_healed(record.shard, record.generation, 20)

    def strike(self, instance: RunningInstance, shard: int, seconds: float) -> None:
        """Let one worker's successor die at a point, within that time or by a kill; the next one is unarmed."""
        (self.folder / "armed").write_text(" ".join(self._points))
        generation = instance.kill_worker(shard)
        record = instance.wait_healed(shard, generation, 20).shards[shard]
        (self.folder / "armed").unlink()
        until = time.monotonic() + seconds
        while (pid := instance.worker_pid(shard)) == record.owner_pid and time.monotonic() < until:
            time.sleep(0.005)
        if pid == record.owner_pid:
            self._killed.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        instance.wait_healed(shard, record.generation, 20)

    def _end_old_ones(self, instance: RunningInstance, life_s: float) -> None:
        now = time.monotonic()
        for record in instance.snapshot().shards:
            since = self._seen.setdefault(record.owner_pid, now)
            if record.state == "serving" and record.owner_pid and now - since >= life_s:
                self._killed.add(record.owner_pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.owner_pid, signal.SIGKILL)

    def died_at(self) -> Counter[str]:
        """How many workers ended at which point."""
        armed = [path for path in self.folder.iterdir() if path.name.isdecimal()]
        return Counter(path.read_text() for path in armed if int(path.name) not in self._killed)


@contextlib.contextmanager
def churn(url: str, expiry_ms: int = 300) -> Iterator[None]:
    """Keys that come in masses and expire at once, so that index and heap grow, split and are swept."""
    stop = threading.Event()
    chance = random.Random(7)

    def work() -> None:
        with shmcache.connect(url, timeout=2) as cache:
            while not stop.is_set():
                pipeline = cache.pipeline()
                for _ in range(300):
                    name, size = b"churn:%d" % chance.randrange(200_000), chance.randrange(6_000)
                    pipeline.set(name, bytes(size), px=expiry_ms)
                    pipeline.pexpire(name, expiry_ms)
                with contextlib.suppress(ShmcacheError):
                    pipeline.execute()
                time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
