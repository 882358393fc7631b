"""`kill -9` of workers, routers, supervisors and clients, at random moments and under load."""

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.accounts import check_accounts, check_contents
from tests.chaos.crowd import Crowd
from tests.chaos.killer import Killer
from tests.support.instance import RunningInstance, running_instance

SHARDS = 2
SHORT_S = 12.0
LONG_S = float(os.environ.get("CHAOS_S", 3600))
"""An hour makes thousands of kills."""


@pytest.fixture
def instance() -> Iterator[RunningInstance]:
    # Nothing may be evicted, and the regions are looked at after the end.
    with running_instance(workers=SHARDS, memory="256MB", policy="noeviction", ephemeral=False) as running:
        yield running


def attack(instance: RunningInstance, seconds: float) -> dict[str, Any]:
    """Writers and readers at work, a killer among them; then the reckoning. Returns what was counted."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with Crowd(instance) as crowd:
        crowd.wait_busy()
        killer = Killer(instance, crowd, seed)
        killer.run(seconds)
        counted = crowd.stop()
        print(killer.summary(), json.dumps(counted), sep="\n")
        keys = check_contents(instance, crowd)
        instance.stop()
        check_accounts(instance.name, SHARDS, keys)
    assert counted["acknowledged"] > 100
    assert counted["reads"] > 100
    return counted


def test_kills_under_load(instance: RunningInstance) -> None:
    """No acknowledged write is lost, no value is read that was not written, counters count once, transactions
    are whole, the instance heals each time, and the memory accounts add up at the end.
    """
    attack(instance, SHORT_S)


@pytest.mark.long
@pytest.mark.timeout(LONG_S + 300)
def test_thousands_of_kills_under_load(instance: RunningInstance) -> None:
    """The same for an hour, or for CHAOS_S seconds."""
    attack(instance, LONG_S)
