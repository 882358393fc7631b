"""`kill -9` at random, and how long the instance takes to heal each time."""

import os
import random
import signal
import time
from collections import Counter, defaultdict

import zmq

from tests.chaos.crowd import Crowd
from tests.support.instance import RunningInstance, wait_until
from tests.support.wire import wire

HEAL_S_MAX = 10.0
"""For one kill while other work keeps all cores busy: a new Python must start. What it took is printed."""
VICTIMS = ("worker",) * 9 + ("worker in repair",) * 3 + ("router",) * 3 + ("writer",) * 4 + ("supervisor",)


class Killer:
    """Kills one process after the other and waits each time until the instance is whole again."""

    def __init__(self, instance: RunningInstance, crowd: Crowd, seed: int) -> None:
        self._instance, self._crowd = instance, crowd
        self._chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.heal_s: defaultdict[str, list[float]] = defaultdict(list)

    def run(self, seconds: float) -> None:
        """Kill for that long, every kind of victim at least once. AssertionError as soon as something does
        not heal.
        """
        until = time.monotonic() + seconds
        first = self._chance.sample(sorted(set(VICTIMS)), len(set(VICTIMS)))
        while first or time.monotonic() < until:
            time.sleep(self._chance.uniform(0.0, 0.3))
            victim = first.pop() if first else self._chance.choice(VICTIMS)
            self.kills[victim] += 1
            started = time.monotonic()
            getattr(self, "_" + victim.replace(" ", "_"))()
            if victim != "writer":
                self.heal_s[victim].append(time.monotonic() - started)
            self._crowd.check_alive()

    def _worker(self) -> None:
        shard = self._any_shard()
        self._instance.wait_healed(shard, self._instance.kill_worker(shard), HEAL_S_MAX)

    def _worker_in_repair(self) -> None:
        """Kill a worker, and its successor somewhere between its start and its first request."""
        shard = self._any_shard()
        first = self._instance.worker_pid(shard)
        generation = self._instance.kill_worker(shard)
        wait_until(lambda: self._instance.worker_pid(shard) not in (0, first), HEAL_S_MAX, "successor")
        time.sleep(self._chance.uniform(0.05, 0.4))
        second = self._instance.worker_pid(shard)
        if second:
            os.kill(second, signal.SIGKILL)
        self._instance.wait_healed(shard, generation, 2 * HEAL_S_MAX)
        self._answers()

    def _any_shard(self) -> int:
        """One whose worker serves: pid 0 would mean our own process group."""
        shard = self._chance.randrange(len(self._instance.snapshot().shards))
        wait_until(lambda: self._instance.worker_pid(shard), HEAL_S_MAX, "worker")
        return shard

    def _router(self) -> None:
        pid = wait_until(self._instance.router_pid, HEAL_S_MAX, "router")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self._instance.router_pid() not in (0, pid), HEAL_S_MAX, "next router")
        self._answers()

    def _writer(self) -> None:
        self._crowd.kill_writer(self._chance.randrange(len(self._crowd.ledgers)))

    def _supervisor(self) -> None:
        self._instance.kill()
        self._instance.start()
        self._answers()

    def _answers(self) -> None:
        """Every shard answers through the router."""
        until = time.monotonic() + HEAL_S_MAX
        while True:
            try:
                with wire(self._instance.tcp, 500) as connection:
                    for slot in (0, 16383):
                        assert connection.ask(["PING"], slot=slot) == ["PONG"]
                    return
            except (zmq.Again, AssertionError):
                assert time.monotonic() < until, f"no answer within {HEAL_S_MAX} s"

    def summary(self) -> str:
        """Kills and healing times, for people."""
        lines = [f"{sum(self.kills.values())} kills: {dict(self.kills)}"]
        for victim, times in sorted(self.heal_s.items()):
            times = sorted(times)
            p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
            within = sum(seconds <= 1.0 for seconds in times)
            lines.append(
                f"{victim}: healed in p50 {p50:.2f} s, p99 {p99:.2f} s, max {times[-1]:.2f} s; "
                f"{within} of {len(times)} within 1 s"
            )
        return "\n".join(lines)
