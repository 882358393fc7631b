"""Processes that move amounts between accounts of different shards, and others that add the accounts up."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import redis

import shmcache
from shmcache.errors import CacheTimeout, OutcomeUnknown, ShmcacheError, Unavailable
from tests.support.instance import RunningInstance

ACCOUNTS = [f"account:{number}" for number in range(24)]
EACH = 1_000
TOTAL = EACH * len(ACCOUNTS)
DONE, UNKNOWN, FAILED, WRONG = range(4)
"""Places in the counts, which have no lock: whoever holds one may be killed."""
SPAWN = multiprocessing.get_context("spawn")


def _amounts(chance: random.Random) -> list[tuple[str, int]]:
    """Accounts and what each gets; the sum is 0."""
    some = chance.sample(ACCOUNTS, chance.choice((2, 2, 3, 5)))
    amount = chance.randrange(1, 50)
    return [(some[0], -amount * (len(some) - 1)), *((account, amount) for account in some[1:])]


def move(url: str, counts: Any, seed: int) -> None:
    """For ever, by a client of the host."""
    chance = random.Random(seed)
    with shmcache.connect(url, timeout=20) as cache:
        while True:
            pipe = cache.pipeline(transaction=True)
            for account, amount in _amounts(chance):
                pipe.incrby(account, amount)
            try:
                pipe.execute()
                counts[DONE] += 1
            except OutcomeUnknown:
                counts[UNKNOWN] += 1
            except (Unavailable, CacheTimeout):
                counts[FAILED] += 1


def move_watched(url: str, counts: Any, seed: int) -> None:
    """For ever: what was read must still be true. The new values are absolute, so that a lost update would show."""
    chance = random.Random(seed)
    with shmcache.connect(url, timeout=20) as cache:
        while True:
            amounts = _amounts(chance)
            try:
                found = [cache.get_stamped(account) for account, _ in amounts]
                pipe = cache.pipeline(transaction=True)
                pairs = [part for (account, _), (_, stamp) in zip(amounts, found, strict=True) for part in (account, stamp)]
                pipe.execute_command("CHECKSTAMP", *pairs)
                for (account, amount), (value, _) in zip(amounts, found, strict=True):
                    pipe.set(account, int(value) + amount)
                results = pipe.execute(raise_on_error=False)
                counts[FAILED if isinstance(results[0], Exception) else DONE] += 1
            except OutcomeUnknown:
                counts[UNKNOWN] += 1
            except (Unavailable, CacheTimeout):
                counts[FAILED] += 1


def move_by_resp(port: int, counts: Any, seed: int) -> None:
    """For ever, by a Redis client."""
    chance = random.Random(seed)
    while True:
        with contextlib.suppress(redis.RedisError), redis.Redis(port=port) as client:
            while True:
                pipe = client.pipeline(transaction=True)
                for account, amount in _amounts(chance):
                    pipe.incrby(account, amount)
                pipe.execute()
                counts[DONE] += 1
        counts[FAILED] += 1
        time.sleep(0.02)


def add_up(url: str, counts: Any, seed: int) -> None:
    """For ever: read all accounts at one moment."""
    with shmcache.connect(url, timeout=20) as cache:
        while True:
            half = len(ACCOUNTS) // 2
            try:
                first, second = cache.pipeline(transaction=True).mget(ACCOUNTS[:half]).mget(ACCOUNTS[half:]).execute()
            except ShmcacheError:
                counts[FAILED] += 1
                continue
            total = sum(map(int, first + second))
            counts[WRONG if total != TOTAL else DONE] += 1


def add_up_by_resp(port: int, counts: Any, seed: int) -> None:
    """For ever, by a Redis client."""
    while True:
        with contextlib.suppress(redis.RedisError), redis.Redis(port=port) as client:
            while True:
                (found,) = client.pipeline(transaction=True).mget(ACCOUNTS).execute()
                counts[WRONG if sum(map(int, found)) != TOTAL else DONE] += 1
        counts[FAILED] += 1
        time.sleep(0.02)


class Bank:
    """The processes, and what they counted."""

    def __init__(self, instance: RunningInstance, seed: int) -> None:
        self.instance = instance
        self._chance = random.Random(seed)
        self._works: list[tuple[Callable[..., None], Any, Any]] = []
        self._processes: list[BaseProcess] = []
        self.kills = 0

    def employ(self, work: Callable[..., None], where: Any) -> None:
        """One more process."""
        counts = SPAWN.RawArray("Q", 4)
        self._works.append((work, where, counts))
        self._processes.append(self._start(len(self._works) - 1))

    def _start(self, number: int) -> BaseProcess:
        work, where, counts = self._works[number]
        process = SPAWN.Process(target=work, args=(where, counts, self._chance.randrange(1 << 32)), daemon=True)
        process.start()
        return process

    def counted(self, *works: Callable[..., None]) -> list[int]:
        """The counts of all processes with such work, added up."""
        return [sum(counts[place] for work, _, counts in self._works if work in works) for place in range(4)]

    def kill_one(self) -> None:
        """`kill -9`, and a successor: of whoever has done something."""
        able = [number for number, process in enumerate(self._processes) if process.is_alive() and self._works[number][0] in (move, move_watched)]
        number = self._chance.choice(able)
        pid = self._processes[number].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self._processes[number].join()
        self._processes[number] = self._start(number)
        self.kills += 1

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()


@contextlib.contextmanager
def bank(instance: RunningInstance, seed: int) -> Iterator[Bank]:
    """Accounts that are filled, and nobody who works yet."""
    with shmcache.connect(instance.url) as cache:
        cache.mset(dict.fromkeys(ACCOUNTS, EACH))
    found = Bank(instance, seed)
    try:
        yield found
    finally:
        found.close()
