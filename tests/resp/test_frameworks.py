"""Frameworks that keep their things in Redis, as they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.instance import RunningInstance

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 100


def outcome(program: str, instance: RunningInstance) -> Any:
    """In a process of its own: frameworks keep their settings in global places."""
    words = [sys.executable, "-m", f"tests.resp.{program}", str(instance.resp_port)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_django_keeps_its_cache_and_sessions(instance: RunningInstance) -> None:
    assert outcome("with_django", instance) == {
        "set": {"x": 1},
        "add": [False, True],
        "incr": [3, -2],
        "get_or_set": "made",
        "many": [[], {"p": 1, "q": [2]}],
        "touch": [True, False],
        "expired": [None, None],
        "version": [None, 2, 1],
        "delete": [True, False, None, "none"],
        "session": "someone",
        "cleared": None,
    }


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_celery_has_its_broker_and_results(single: RunningInstance) -> None:
    """One worker: its broker waits for keys of any slots in one command."""
    assert outcome("with_celery", single) == {
        "tasks": [2 * n for n in range(10)],
        "chain": 8,
        "group": [0, 2, 4, 6, 8],
        "chord": 20,
        "retries": 2,
        "failed": "ValueError('as it should')",
        "later": 42,
    }
