"""`kill -9` of every process of an instance whose writes are answered when they are on the disk (`aof always`): after each round everything
acknowledged is there, also from disk alone, nothing is torn, and the files are sound.

    KILL_SEED=7 KILL_ROUNDS=200 pytest --long -s tests/persistence/test_kill_rounds.py -k random

Each instance lives for ROUNDS rounds and has its own seed, printed first. The kills are the seed's; their timing against the clients is not.
"""

import os
import random
from pathlib import Path

import pytest

from tests.persistence.kill_traffic import Traffic
from tests.persistence.killing import Rounds
from tests.support.instance import running_instance

ROUNDS = 20
"""Of one instance."""
SHORT_ROUNDS = 7
LONG_ROUNDS = int(os.environ.get("KILL_ROUNDS", 300))
LONG_SEED = int(os.environ.get("KILL_SEED", random.randrange(1 << 24)))
ROUND_S_MAX = 120.0


def attack(seed: int, rounds: int, folder: Path) -> None:
    print(f"KILL_SEED={seed} KILL_ROUNDS={rounds}", flush=True)
    folder.mkdir(exist_ok=True)
    options = {"data_dir": str(folder / "data"), "aof": "always", "aof_segment_size": "64KB", "snapshot_every": "700ms", "snapshot_keep": 2}
    with running_instance(workers=2, policy="noeviction", log_size="1MB", ephemeral=False, **options) as instance:
        with Traffic(instance.url, instance.tcp, seed, folder) as traffic:
            going = Rounds(instance, traffic, seed)
            going.run(rounds)
        outcomes = [event.outcome for event in traffic.events() if event.operation != "read"]
        errors = sum((writer.errors for writer in traffic.writers), start=type(going.counts)())
        print(f"{dict(going.counts)}; {outcomes.count('ok')} writes acknowledged, {outcomes.count('unknown')} unknown; errors {dict(errors)}", flush=True)
        assert outcomes.count("ok") > 20 * rounds


@pytest.mark.timeout(SHORT_ROUNDS * ROUND_S_MAX)
def test_kill_rounds(tmp_path: Path) -> None:
    """A few, of another seed each time."""
    attack(random.randrange(1 << 24), SHORT_ROUNDS, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(LONG_ROUNDS * ROUND_S_MAX)
def test_random_rounds(tmp_path: Path) -> None:
    """KILL_ROUNDS rounds on instances of ROUNDS each, from KILL_SEED on."""
    for number in range(-(-LONG_ROUNDS // ROUNDS)):
        attack(LONG_SEED + number, min(ROUNDS, LONG_ROUNDS - number * ROUNDS), tmp_path / str(number))
