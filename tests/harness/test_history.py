"""The checks find each planted violation, and accuse no correct history."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.simulated import KEYS, NODES, SimulatedCluster
from tests.support.history import NEVER_NS, Event, Recorder, load, version_of, versioned
from tests.support.history_checks import assert_correct, violations

ROOT = Path(__file__).resolve().parents[2]

STEP_KINDS = ["write", "write", "delete", "incr", "read", "read", "read", "replicate", "failover"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(STEP_KINDS),
        st.sampled_from(KEYS),
        st.sampled_from(NODES),
        st.integers(0, 3),
    ),
    max_size=60,
)


def event(at: int, operation: str, value: int | None, **fields) -> Event:
    """At a time, taking one unit of it, by the only session; successful."""
    plain = Event("p", "s", operation, "k", value, "ok", at * 10, at * 10 + 9)
    return dataclasses.replace(plain, **fields)


def write(at: int, version: int, **fields) -> Event:
    return event(at, "write", version, **{"ack": 1} | fields)


def read(at: int, value: int | None, **fields) -> Event:
    return event(at, "read", value, **{"session": "reader", "node": "r"} | fields)


BOTH = [write(1, 1), write(2, 2)]

GOOD = {
    "nothing": ([], {}),
    "reads in order": ([*BOTH, read(3, None), read(4, 1), read(5, 1), read(6, 2)], {"k": 2}),
    "a read during the write": ([write(1, 1, completed_ns=99), read(2, 1)], {"k": 1}),
    "another node is behind": ([*BOTH, read(3, 2), read(4, 1, node="other")], {"k": 2}),
    "another session is behind": ([*BOTH, read(3, 2), read(4, 1, session="other")], {"k": 2}),
    "overlapping reads": ([*BOTH, read(3, 2, completed_ns=99), read(4, 1)], {"k": 2}),
    "unknown and seen": ([write(1, 1, outcome="unknown", completed_ns=NEVER_NS), read(2, 1)], {"k": 1}),
    "unknown and not there": ([write(1, 1), write(2, 2, outcome="unknown")], {"k": 1}),
    "failed": ([write(1, 1), write(2, 2, outcome="fail")], {"k": 1}),
    "acknowledged by the primary alone, lost": ([write(1, 1), write(2, 2, ack=0)], {"k": 1}),
    "deleted": ([*BOTH, event(3, "delete", 3, ack=1), read(4, 2), read(5, None)], {"k": None}),
    "perhaps deleted": (
        [*BOTH, event(3, "delete", 3, outcome="unknown"), read(4, 2), read(5, None)],
        {"k": None},
    ),
    "read without a stamp is behind": ([write(1, 1, stamp=7), read(2, None, session="s")], {"k": 1}),
    "read that demands less": (
        [write(1, 1, stamp=7), write(2, 2, stamp=8), read(3, 1, session="s", stamp=7)],
        {"k": 2},
    ),
    "counter": ([event(n, "incr", n, ack=1) for n in (1, 2)], {"k": 2}),
    "counter with unknowns": (
        [event(1, "incr", 1, ack=1), event(2, "incr", None, outcome="unknown", amount=5)],
        {"k": 6},
    ),
    "key not judged": (BOTH, {}),
}
BAD = {
    "back on one node": ("order", [*BOTH, read(3, 2), read(4, 1)], {"k": 2}),
    "gone on one node": ("order", [*BOTH, read(3, 2), read(4, None)], {"k": 2}),
    "back after a deletion": (
        "order",
        [write(1, 1), event(2, "delete", 2), write(3, 3), read(4, 1), read(5, None), read(6, 1)],
        {"k": 3},
    ),
    "nobody wrote it": ("phantom", [write(1, 1), read(2, 5)], {"k": 1}),
    "failed and seen": ("phantom", [write(1, 1, outcome="fail"), read(2, 1)], {"k": None}),
    "seen before it was sent": ("phantom", [read(1, 1), write(2, 1)], {"k": 1}),
    "own write not seen": (
        "own writes",
        [write(1, 1, stamp=7), read(2, None, session="s", stamp=7)],
        {"k": 1},
    ),
    "own write older": (
        "own writes",
        [write(1, 1, stamp=7), write(2, 2, stamp=8), read(3, 1, session="s", stamp=8)],
        {"k": 2},
    ),
    "stamps fall": ("stamps", [write(1, 1, stamp=8), write(2, 2, stamp=7)], {"k": 2}),
    "acknowledged and lost": ("lost", BOTH, {"k": 1}),
    "acknowledged and gone": ("lost", BOTH, {"k": None}),
    "deleted, acknowledged, and back": ("lost", [*BOTH, event(3, "delete", 3, ack=1)], {"k": 2}),
    "failed and there": ("lost", [write(1, 1, outcome="fail")], {"k": 1}),
    "ends at what nobody wrote": ("lost", BOTH, {"k": 3}),
    "a key from nowhere": ("lost", BOTH, {"k": 2, "other": 1}),
    "counted too little": ("counters", [event(n, "incr", n, ack=1) for n in (1, 2)], {"k": 1}),
    "counted twice": ("counters", [event(n, "incr", n, ack=1) for n in (1, 2)], {"k": 3}),
    "failed and counted": (
        "counters",
        [event(1, "incr", None, outcome="fail"), event(2, "incr", 1, ack=1)],
        {"k": 2},
    ),
    "same result twice": (
        "counters",
        [event(1, "incr", 1, ack=1), event(2, "incr", 1, ack=1), event(3, "incr", None, outcome="unknown")],
        {"k": 2},
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_correct_history_passes(name):
    history, final = GOOD[name]
    assert_correct(history, final)


@pytest.mark.parametrize("name", BAD)
def test_planted_violation_is_found(name):
    """By the check whose business it is, and by no other."""
    check, history, final = BAD[name]
    assert {violation.check for violation in violations(history, final)} == {check}
    with pytest.raises(AssertionError, match=check):
        assert_correct(history, final)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(0, 2**32))
def test_simulated_histories_pass(steps, seed):
    """Whatever a correct cluster does, failovers included."""
    cluster = SimulatedCluster(seed)
    for step in steps:
        cluster.step(*step)
    assert_correct(cluster.history, cluster.final)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(0, 2**32), st.data())
def test_violation_planted_in_a_simulated_history_is_found(steps, seed, data):
    """One event of a correct history falsified."""
    cluster = SimulatedCluster(seed)
    for step in [*steps, ("write", "a", "r1", 3), ("replicate", "a", "r1", 3)]:
        cluster.step(*step)
    history, final = list(cluster.history), dict(cluster.final)
    last = max(range(len(history)), key=lambda at: (history[at].key == "a", history[at].invoked_ns))
    version, end = history[-1].value, history[-1].completed_ns
    assert history[last].operation == "write"
    assert version is not None
    times = {"invoked_ns": end + 1, "completed_ns": end + 2}
    later = dataclasses.replace(history[last], operation="read", node="r1", **times)
    elsewhere = dataclasses.replace(later, session="x", stamp=None)
    planted = data.draw(st.sampled_from(["lost", "phantom", "own writes", "order"]))
    if planted == "lost":
        final["a"] = version - 1 or None
    elif planted == "phantom":
        history.append(dataclasses.replace(elsewhere, value=version + 1))
    elif planted == "own writes":
        history.append(dataclasses.replace(later, value=version - 1))
    else:
        times = {"invoked_ns": end + 3, "completed_ns": end + 4}
        history += [elsewhere, dataclasses.replace(elsewhere, value=None, **times)]
    assert planted in {violation.check for violation in violations(history, final)}


def test_recorder_writes_what_load_reads(tmp_path):
    """All fields come back; an exception leaves the outcome unknown."""
    recorder = Recorder(tmp_path / "one", "p")
    with recorder.operation("write", "k", session="s", value=1, ack=2) as call:
        call.ok(stamp=99)
    with pytest.raises(ZeroDivisionError), recorder.operation("incr", "n", session="s", amount=3) as call:
        raise ZeroDivisionError
    with recorder.operation("write", "k", session="s", value=2) as call:
        call.fail()
    with recorder.operation("read", "k", session="s", stamp=99, node="r") as call:
        call.ok(1)
    recorder.close()
    first, second, third, fourth = load([tmp_path / "one"])
    assert (first.outcome, first.value, first.stamp, first.ack, first.process) == ("ok", 1, 99, 2, "p")
    assert (second.outcome, second.amount, third.outcome) == ("unknown", 3, "fail")
    assert (fourth.outcome, fourth.value, fourth.stamp, fourth.node) == ("ok", 1, 99, "r")
    assert first.invoked_ns < first.completed_ns < second.invoked_ns
    assert_correct([first, second, third, fourth], {"k": 1, "n": 3})


def test_killed_recorder_leaves_an_unknown_operation(tmp_path):
    """What was under way at the kill is in the file, without an end."""
    code = (
        "import os, pathlib, sys\nfrom tests.support.history import Recorder\n"
        "recorder = Recorder(pathlib.Path(sys.argv[1]), 'p')\n"
        "with recorder.operation('write', 'k', session='s', value=1) as call: call.ok()\n"
        "with recorder.operation('write', 'k', session='s', value=2): os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "one"
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT).returncode == -signal.SIGKILL
    first, second = load([path])
    assert (first.outcome, second.outcome, second.completed_ns) == ("ok", "unknown", NEVER_NS)


@pytest.mark.parametrize("size", [0, 1, 64, 100_000])
def test_values_say_their_version(size):
    value = versioned("key", 12, size)
    assert len(value) >= size
    assert version_of("key", value) == 12
    assert version_of("key", None) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value[:-1],
        lambda value: value + b"x",
        lambda value: value[:50] + bytes([value[50] ^ 1]) + value[51:],
        lambda value: value.replace(b":12:", b":13:"),
        lambda value: value.replace(b"key", b"kex"),
        lambda value: versioned("key", 12, 64)[:40] + versioned("key", 13, 64)[40:],
        lambda value: os.urandom(64),
    ],
)
def test_damaged_values_are_recognised(damage):
    """Torn, cut, mixed and foreign values are not taken for a version."""
    with pytest.raises(AssertionError):
        version_of("key", damage(versioned("key", 12, 64)))
