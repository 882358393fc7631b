"""Rounds of `kill -9`, and of starts with and without what was in memory. The choices are a seed's; their timing is not."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from cli.snapshot.checking import check
from tests.persistence.kill_traffic import Traffic, wait_for_instance
from tests.support.instance import RunningInstance, remove_objects, wait_until
from tests.support.words import shmcache

HEAL_S_MAX = 60.0
_ONE = ("keeper",) * 4 + ("worker",) * 4 + ("router",) + ("keeper and worker",) * 2 + ("keeper twice",) * 2
_ALL = ("supervisor",) * 3 + ("everything",) * 3 + ("ordered stop",) + ("supervisor in its start",) * 2
_STARTS = ("warm",) * 3 + ("--cold",) * 3 + ("regions removed",) * 3


class Rounds:
    """Kills, starts again, and looks whether everything that was acknowledged is there."""

    def __init__(self, instance: RunningInstance, traffic: Traffic, seed: int) -> None:
        self._instance, self._traffic = instance, traffic
        self._chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._memory = 0
        self._whole_s = 0.0

    def run(self, count: int) -> None:
        """Every second round or so ends with the whole instance down; the last one always begins anew from disk."""
        for number in range(count):
            begun = time.monotonic()
            what = self._round(is_last=number == count - 1)
            print(f"round {number}: {', '.join(what)} | whole after {self._whole_s:.2f} s, {time.monotonic() - begun:.1f} s in all", flush=True)

    def _round(self, is_last: bool) -> list[str]:
        chance = self._chance
        what = [chance.choice(_ONE) for _ in range(chance.choice((0, 1, 1, 2)))]
        if is_last or not what or chance.random() < 0.6:
            what.append(chance.choice(_ALL))
            what.append("regions removed" if is_last else chance.choice(_STARTS))
        self.counts.update(what)
        self.counts["rounds"] += 1
        for each in what:
            if each not in _STARTS:
                time.sleep(chance.uniform(0.0, 0.4))
            self._do(each)
        time.sleep(chance.uniform(0.0, 0.2))
        begun = time.monotonic()
        wait_for_instance(self._instance.url, HEAL_S_MAX)
        self._whole_s = time.monotonic() - begun
        self._traffic.pause()
        try:
            self._traffic.check(self._instance.url)
            self._check_files(by_command=is_last)
        except BaseException:
            print(f"failed in {what}", flush=True)
            raise
        finally:
            self._traffic.go_on(str(self._memory))
        return what

    def _check_files(self, by_command: bool) -> None:
        """What `shmcache snapshot verify` does (it reads the log as well), mostly without the price of its processes."""
        folder = Path(self._instance.options["data_dir"])
        found = check(folder, None, lambda _: None, in_use=True)
        assert not found.damage, found
        for words in (["aof", "verify"], ["snapshot", "verify"]) if by_command else ():
            done = shmcache(*words, "--data-dir", folder)
            assert done.returncode == 0, done

    def _do(self, what: str) -> None:
        getattr(self, "_" + what.strip("-").replace(" ", "_"))()

    def _kill_child(self, module: str) -> int:
        pid = wait_until(lambda: self._instance.child_pid(module), HEAL_S_MAX, module)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return int(pid)

    def _keeper(self) -> None:
        self._kill_child("keeper")

    def _keeper_twice(self) -> None:
        """The second one while it takes up the file, or soon after."""
        first = self._kill_child("keeper")
        second = wait_until(lambda: (pid := self._instance.child_pid("keeper")) != first and pid, HEAL_S_MAX, "next keeper")
        time.sleep(self._chance.uniform(0.0, 0.6))
        with contextlib.suppress(ProcessLookupError):
            os.kill(second, signal.SIGKILL)

    def _router(self) -> None:
        self._kill_child("router")

    def _worker(self) -> None:
        shard = self._chance.randrange(len(self._instance.snapshot().shards))
        pid = wait_until(lambda: self._instance.worker_pid(shard), HEAL_S_MAX, "worker")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _keeper_and_worker(self) -> None:
        self._kill_child("keeper")
        self._worker()

    def _supervisor(self) -> None:
        self._instance.kill()

    def _everything(self) -> None:
        for pid in self._chance.sample(pids := self._instance.child_pids(), len(pids)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._instance.kill()

    def _ordered_stop(self) -> None:
        self._instance.stop()

    def _supervisor_in_its_start(self) -> None:
        """A start that finds what a kill has left, and is killed as well before or after it is ready."""
        self._instance.kill()
        self._memory += 1  # perhaps from disk
        if self._chance.random() < 0.7:
            remove_objects(self._instance.name)
        process = self._instance.launch(**self._instance.options)
        time.sleep(self._chance.uniform(0.2, 1.5))
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def _warm(self) -> None:
        self._instance.start()

    def _cold(self) -> None:
        self._memory += 1
        self._instance.start(cold=True, workers=self._chance.choice((2, 2, 1, 3)))
        del self._instance.options["cold"]

    def _regions_removed(self) -> None:
        self._memory += 1
        remove_objects(self._instance.name)
        self._instance.start(workers=self._chance.choice((2, 2, 1, 3)))
