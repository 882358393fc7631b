"""Lock-free readers against a furious owner: no value is ever torn or another key's, whoever dies."""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from shmcache import _engine
from tests.engine import torture
from tests.engine.regions import Regions, new_regions

READERS = 2
SHORT_S = 5.0
LONG_READS = 100_000_000
FORK = multiprocessing.get_context("fork")


@dataclass
class Arena:
    """Regions, the readers on them, and what they have counted."""

    regions: Regions
    stop: Any
    counts: Any
    readers: list[BaseProcess]

    @property
    def reads(self) -> int:
        return sum(self.counts[0::2])

    @property
    def busy(self) -> int:
        return sum(self.counts[1::2])

    def healthy(self) -> bool:
        return all(reader.is_alive() for reader in self.readers)

    def start_owner(self, seed: int, fresh: bool, fail_point: tuple[str, int] | None = None) -> BaseProcess:
        owner = FORK.Process(target=torture.own, args=(self.regions, self.stop, seed, fail_point, fresh))
        owner.start()
        return owner


@contextmanager
def arena() -> Iterator[Arena]:
    regions = new_regions()
    regions.create(24 << 20, policy="allkeys-lru").close()
    made = Arena(regions, FORK.Event(), FORK.Array("Q", 2 * READERS, lock=False), [])
    made.readers = [
        FORK.Process(target=torture.read, args=(regions, made.stop, seed, made.counts, 2 * seed))
        for seed in range(READERS)
    ]
    for reader in made.readers:
        reader.start()
    try:
        yield made
    finally:
        made.stop.set()
        for reader in made.readers:
            reader.join(20)
            if reader.is_alive():
                reader.kill()
                reader.join()
        regions.close()
    assert [reader.exitcode for reader in made.readers] == [0] * READERS


def run_until(done: Callable[[Arena], bool], long: bool = False) -> None:
    with arena() as made:
        owner = made.start_owner(1, fresh=False)
        while not done(made) and made.healthy() and owner.is_alive():
            time.sleep(1 if long else 0.1)
        alive = owner.is_alive()
        made.stop.set()
        owner.join(60)
        assert made.healthy() or not any(reader.exitcode for reader in made.readers)
        assert (alive, owner.exitcode) == (True, 0)
    print(f"\n{made.reads:,} reads, none torn or foreign; {made.busy:,} gave up as busy")
    assert made.reads > 10_000


def test_no_value_is_torn_or_foreign():
    """Short: a few seconds."""
    end = time.monotonic() + SHORT_S
    run_until(lambda _: time.monotonic() > end)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_no_value_is_torn_or_foreign_in_a_hundred_million_reads():
    """Long: the same until a hundred million reads."""
    run_until(lambda made: made.reads >= LONG_READS, long=True)


def kill_owners(lives: int) -> None:
    """Owners die, by SIGKILL at a random moment or at a fail point; readers go on, the next owner repairs."""
    chance = random.Random(2)
    with arena() as made:
        died: dict[str, int] = {}
        for life in range(lives):
            point = None if life % 3 == 0 else (chance.choice(_engine.FAIL_POINTS), chance.randrange(50))
            owner = made.start_owner(life, fresh=False, fail_point=point)
            owner.join(chance.uniform(0.05, 0.3))
            # Some points are passed seldom: kill then.
            how = point[0] if point and not owner.is_alive() else "SIGKILL"
            owner.kill()
            owner.join()
            assert owner.exitcode == -9, "an owner fails by itself"
            died[how] = died.get(how, 0) + 1
            before = made.reads
            end = time.monotonic() + 10
            while made.reads == before and time.monotonic() < end:
                time.sleep(0.005)
            assert made.healthy()
            assert made.reads > before, "readers stand still while the owner is down"
        owner_after = made.regions.attach()
        owner_after.verify()
        for key in torture.KEYS:
            # No deadline may pass between the two looks at a key.
            owner_after.command("PERSIST", key)
        reader = made.regions.reader()
        found = {key: reader.get(key) for key in torture.KEYS}
        for key, value in found.items():
            assert owner_after.command("GET", key) == value or value is None
            if value is not None:
                torture.check(key, value)
        owner_after.close()
    print(f"\n{lives} owners died ({died}); {made.reads:,} reads, {made.busy:,} busy")


def test_readers_read_on_while_owners_die():
    """Short: a few dozen deaths."""
    kill_owners(24)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_readers_read_on_while_thousands_of_owners_die():
    """Long."""
    kill_owners(3000)


def test_the_check_finds_what_it_looks_for():
    """A flipped byte, a cut value, another key's value: all found."""
    value = torture.value_of(b"torture:1", 5, 100)
    assert torture.check(b"torture:1", value) == 5
    for wrong in (value[:-1], value[:50] + b"!" + value[51:], b"", value + b"x"):
        with pytest.raises(torture.Torn):
            torture.check(b"torture:1", wrong)
    with pytest.raises(torture.Torn):
        torture.check(b"torture:2", value)
