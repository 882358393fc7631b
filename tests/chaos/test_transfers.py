"""Transactions over several shards, and `kill -9` of whoever takes part: nothing is ever half done."""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmcache
from shmcache.limits import TRANSACTION_LEASE_MS
from tests.chaos import transfers
from tests.chaos.fail_points import OF_TRANSACTIONS, FailPoints
from tests.chaos.transfers import (
    ACCOUNTS,
    DONE,
    TOTAL,
    UNKNOWN,
    WRONG,
    Bank,
    add_up,
    add_up_by_resp,
    move,
    move_by_resp,
    move_watched,
)
from tests.support.instance import RunningInstance, running_instance, wait_until

SHARDS = 3
SHORT_S = 4.0
LONG_S = float(os.environ.get("CHAOS_S", 600))
OPTIONS: dict[str, Any] = {"workers": SHARDS, "memory": "96MB", "policy": "noeviction", "resp": "127.0.0.1:0"}
POINTS = (*OF_TRANSACTIONS, "GroupHalfApplied", "Applied")


@pytest.fixture
def instance() -> Iterator[RunningInstance]:
    with running_instance(**OPTIONS) as running:
        yield running


@pytest.fixture
def bank(instance: RunningInstance) -> Iterator[Bank]:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with transfers.bank(instance, seed) as found:
        yield found


def total(instance: RunningInstance) -> int:
    with shmcache.connect(instance.url) as cache:
        return sum(map(int, cache.mget(ACCOUNTS)))


def attack(bank: Bank, seconds: float, pause_s: float, strike: Callable[[], object]) -> None:
    """Strike again and again; then the reckoning."""
    movers, readers = (move, move_watched, move_by_resp), (add_up, add_up_by_resp)
    wait_until(lambda: bank.counted(*movers)[DONE] > 20 and bank.counted(*readers)[DONE] > 20, 60, "everybody works")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(random.random() * pause_s * 2)
        strike()
    before = bank.counted(*movers)[DONE]
    wait_until(lambda: bank.counted(*movers)[DONE] > before + 20, 30, "transactions go on")
    bank.close()
    print("movers", bank.counted(*movers), "readers", bank.counted(*readers), "kills", bank.kills)
    # What the last ones left is ended when its lease is.
    time.sleep(TRANSACTION_LEASE_MS / 1000 * 2)
    assert total(bank.instance) == TOTAL
    assert bank.counted(*readers)[WRONG] == 0


def kill_clients(bank: Bank, seconds: float) -> None:
    for _ in range(2):
        bank.employ(move, bank.instance.url)
    bank.employ(move_watched, bank.instance.url)
    bank.employ(move_by_resp, bank.instance.resp_port)
    bank.employ(add_up, bank.instance.url)
    bank.employ(add_up_by_resp, bank.instance.resp_port)
    attack(bank, seconds, 0.3, bank.kill_one)
    assert bank.kills > 2


def kill_workers(bank: Bank, seconds: float) -> None:
    instance = bank.instance
    for work in (move, move, move_watched, add_up):
        bank.employ(work, instance.url)

    def strike() -> None:
        shard = random.randrange(SHARDS)
        instance.wait_healed(shard, instance.kill_worker(shard), 20)
        bank.kills += 1

    attack(bank, seconds, 0.3, strike)
    assert bank.kills > 2
    # Whoever was not told the end is rare: most find out.
    done, unknown = bank.counted(move, move_watched)[DONE : UNKNOWN + 1]
    assert unknown <= bank.kills * 3 < done


def end_at_fail_points(bank: Bank, points: FailPoints, seconds: float) -> None:
    for work in (move, move, move_watched, add_up):
        bank.employ(work, bank.instance.url)
    bank.employ(move_by_resp, bank.instance.resp_port)
    attack(bank, seconds, 0.05, lambda: points.strike(bank.instance, random.randrange(SHARDS), 2))
    died = points.died_at()
    print(dict(died))
    assert died.total() > 1


def in_the_middle(folder: Path, seconds: float) -> None:
    points = FailPoints(folder, POINTS)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}
    with running_instance(**OPTIONS, environment=environment) as instance, transfers.bank(instance, 1) as found:
        end_at_fail_points(found, points, seconds)


def kill_gateways(bank: Bank, seconds: float) -> None:
    instance = bank.instance
    for work in (move_by_resp, move_by_resp, add_up_by_resp):
        bank.employ(work, instance.resp_port)
    bank.employ(add_up, instance.url)

    def strike() -> None:
        os.kill(wait_until(lambda: instance.child_pid("gateway"), 20), 9)
        bank.kills += 1

    attack(bank, seconds, 0.5, strike)
    assert bank.kills > 2


def test_killed_clients(bank: Bank) -> None:
    """Clients die in the middle of transactions: sums are right at each moment, for whoever reads in a transaction, and at the end."""
    kill_clients(bank, SHORT_S)


def test_killed_workers(bank: Bank) -> None:
    """So do workers: what a worker had prepared outlives it."""
    kill_workers(bank, SHORT_S)


def test_workers_that_end_in_the_middle(tmp_path: Path) -> None:
    """Workers end where it matters: prepared, with a part of the decision noted, decided and not yet done."""
    in_the_middle(tmp_path, SHORT_S)


def test_killed_gateways(bank: Bank) -> None:
    """So do gateways."""
    kill_gateways(bank, SHORT_S)


@pytest.mark.long
@pytest.mark.timeout(LONG_S + 300)
@pytest.mark.parametrize("attack_by", [kill_clients, kill_workers, kill_gateways])
def test_for_long(bank: Bank, attack_by: Callable[[Bank, float], None]) -> None:
    """The same for ten minutes each, or for CHAOS_S seconds."""
    attack_by(bank, LONG_S)


@pytest.mark.long
@pytest.mark.timeout(LONG_S + 300)
def test_workers_that_end_in_the_middle_for_long(tmp_path: Path) -> None:
    """So do these."""
    in_the_middle(tmp_path, LONG_S)
