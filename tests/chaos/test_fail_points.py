"""Workers that die in the middle of a change, at named points of the engine, while clients write and read."""

import json
import os
from pathlib import Path

import pytest

from shmcache import _engine
from tests.chaos.accounts import check_accounts, check_contents, wait_for_expiry
from tests.chaos.crowd import Crowd
from tests.chaos.fail_points import OF_TRANSACTIONS, FailPoints, churn
from tests.support.instance import running_instance

SHARDS = 2
SHORT_S = 12.0
LONG_S = float(os.environ.get("CHAOS_S", 1800))


def attack(folder: Path, patch: pytest.MonkeyPatch, seconds: float) -> int:
    """Let workers die for that long under load, then reckon up; returns how many points ended one."""
    patch.setenv("PYTHONPATH", str(folder))
    points = FailPoints(folder, sorted(set(_engine.FAIL_POINTS).difference(OF_TRANSACTIONS)))
    with (
        running_instance(workers=SHARDS, memory="256MB", policy="noeviction", ephemeral=False) as instance,
        Crowd(instance, writers=4, readers=1) as crowd,
    ):
        crowd.wait_busy()
        with churn(instance.url):
            points.attack(instance, seconds)
        counted = crowd.stop()
        died = points.died_at()
        print(f"{died.total()} workers died at {len(died)} points: {dict(died.most_common())}")
        print(f"not reached: {sorted(set(_engine.FAIL_POINTS) - set(died))}", json.dumps(counted), sep="\n")
        wait_for_expiry(instance, crowd)
        keys = check_contents(instance, crowd)
        instance.stop()
        check_accounts(instance.name, SHARDS, keys)
    assert counted["acknowledged"] > 100
    return len(died)


def test_workers_die_at_fail_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a worker was just changing, the next one repairs it: nothing acknowledged is lost, half a
    transaction is never seen, and the memory accounts add up.
    """
    assert attack(tmp_path, monkeypatch, SHORT_S) >= 3


@pytest.mark.long
@pytest.mark.timeout(LONG_S + 300)
def test_workers_die_at_fail_points_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for half an hour, or for CHAOS_S seconds: most points are reached."""
    assert attack(tmp_path, monkeypatch, LONG_S) >= 12
