"""Real primaries and replicas under random faults, with clients at work: nothing acknowledged is lost, nothing counts twice,
no order is broken, and in the end all hold the same.

A run is a number of clusters, each with its own seed and ROUNDS rounds; `FAULT_SEED` and `FAULT_ROUNDS` choose them:
`FAULT_SEED=12 FAULT_ROUNDS=40 pytest --long tests/replication/test_fault_rounds.py` repeats the cluster of seed 12.
"""

import os
import time
from pathlib import Path

import pytest

from tests.support.cluster import running_cluster
from tests.support.faults import KINDS, Schedule, execute

ROUNDS = 40
"""Of one cluster."""
LONG_ROUNDS = int(os.environ.get("FAULT_ROUNDS", 1000))
LONG_SEED = int(os.environ.get("FAULT_SEED", 1))
ROUND_S_MAX = 60.0


def attack(schedule: Schedule, folder: Path) -> None:
    """All rounds of a schedule on one cluster."""
    print(f"FAULT_SEED={schedule.seed} FAULT_ROUNDS={schedule.count}, {schedule.replicas} replica(s)", flush=True)
    with running_cluster(schedule.replicas, schedule.seed, folder) as cluster:
        for faults in schedule.rounds():
            begun = time.monotonic()
            print(faults, end="", flush=True)
            try:
                cluster.begin(faults)
                settled_s = execute(faults, cluster)
                cluster.check(faults)
            except BaseException:
                print(f"\nseed {schedule.seed}, {schedule.replicas} replica(s), failed in {faults}")
                print(cluster.describe())
                raise
            print(f" | equal after {settled_s:.2f} s, {time.monotonic() - begun:.1f} s in all", flush=True)
        cluster.check_all()
        print(cluster.summary(), flush=True)


def schedule_of(seed: int, count: int) -> Schedule:
    """A cluster's schedule is its seed's: one replica for odd ones, two for even ones."""
    return Schedule(seed, count, replicas=2 - seed % 2)


@pytest.mark.timeout(300)
def test_every_kind_of_fault_once(tmp_path: Path) -> None:
    """A fixed seed: each kind in a round of its own."""
    attack(schedule_of(1, len(KINDS)), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(LONG_ROUNDS * ROUND_S_MAX)
def test_random_rounds(tmp_path: Path) -> None:
    """FAULT_ROUNDS rounds on clusters of ROUNDS each, from FAULT_SEED on."""
    for number in range(-(-LONG_ROUNDS // ROUNDS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        count = min(ROUNDS, LONG_ROUNDS - number * ROUNDS)
        attack(schedule_of(LONG_SEED + number, count), folder)
