"""Random rounds of faults against real clusters, each followed by what must be true after it.

A few in the suite; many with `--long`: SHMCACHE_FAULT_ROUNDS (1000) rounds from SHMCACHE_FAULT_SEED on. A failure names its seed and round.
"""

import os
import time
from pathlib import Path

import pytest

import shmcache
from tests.support.cluster import RealCluster, real_cluster
from tests.support.cluster_load import Load
from tests.support.faults import Round, Schedule, execute, kinds_without
from tests.support.history import load, version_of
from tests.support.history_checks import assert_correct

KINDS = kinds_without("clock jump")
"""Clock jumps have their own tests: a node's clock is not this process' clock, which the deadlines of local clients are in."""
HASTE = 3.0
"""A schedule's waits, shortened: what happens in them are some thousand operations either way."""
ROUNDS_OF_A_CLUSTER = 25


def run_round(cluster: RealCluster, faults: Round, folder: Path) -> int:
    """One round under load, and its proofs; returns how many acknowledged writes were found again."""
    cluster.begin_round()
    clients = Load(cluster, folder, faults.number)
    cluster.quiet = clients.stop
    try:
        time.sleep(0.2)
        execute(faults, cluster, settle_s=40, sleep=lambda seconds: time.sleep(seconds / HASTE))
    finally:
        clients.stop()
    assert not clients.failures, clients.failures
    history = load(clients.paths)
    with shmcache.connect(f"shm://{cluster.primary.instance.name}", timeout=10) as client:
        final = {key: version_of(key, client.get(key)) for key in clients.keys}
        final |= {key: int(client.get(key) or 0) for key in clients.counters}
    assert_correct(history, final)
    for path in clients.paths:
        path.unlink()
    acknowledged = [event for event in history if event.outcome == "ok" and event.ack]
    print(f"    {len(acknowledged)} acknowledged writes of {len(history)} operations", end="")
    return len(acknowledged)


def run_schedule(schedule: Schedule, workers: list[int], folder: Path) -> int:
    """All rounds of a schedule on one cluster; returns the number of acknowledged writes."""
    acknowledged = 0
    with real_cluster(workers, seed=schedule.seed) as cluster:
        for faults in schedule.rounds():
            print(f"seed {schedule.seed} workers {workers} {faults}", flush=True)
            began = time.monotonic()
            acknowledged += run_round(cluster, faults, folder)
            print(f", {time.monotonic() - began:.1f} s", flush=True)
    return acknowledged


def test_a_round_of_each_kind(tmp_path: Path) -> None:
    """One replica with another number of workers; each kind of fault once."""
    acknowledged = run_schedule(Schedule(1, len(KINDS), 1, KINDS), [2, 1], tmp_path)
    assert acknowledged > 50 * len(KINDS)


def test_rounds_with_two_replicas(tmp_path: Path) -> None:
    """Writes wait for both; whichever is promoted has them."""
    kinds = ("promote", "kill relay", "partition")
    assert run_schedule(Schedule(2, len(kinds), 2, kinds), [1, 2, 1], tmp_path) > 50 * len(kinds)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_many_rounds(tmp_path: Path) -> None:
    """Every other batch of rounds with two replicas."""
    seed, count = (int(os.environ.get(name, default)) for name, default in (("SHMCACHE_FAULT_SEED", "1000"), ("SHMCACHE_FAULT_ROUNDS", "1000")))
    acknowledged = done = 0
    while done < count:
        replicas = 1 + (done // ROUNDS_OF_A_CLUSTER) % 2
        rounds = min(ROUNDS_OF_A_CLUSTER, count - done)
        acknowledged += run_schedule(Schedule(seed + done, rounds, replicas, KINDS), [2, 1, 3][: 1 + replicas], tmp_path)
        done += rounds
        print(f"{done} rounds, {acknowledged} acknowledged writes", flush=True)
