"""Fault schedules are repeatable, bounded, complete, and always end healed."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.faults import (
    ACTIONS_MAX,
    CUT_S_MAX,
    IMPAIRED_S_MAX,
    KINDS,
    PAUSE_S_MAX,
    Action,
    Cluster,
    Round,
    Schedule,
    execute,
    kinds_without,
)
from tests.support.impairment import Impairment

SCHEDULES = st.builds(
    Schedule,
    seed=st.integers(0, 2**32),
    count=st.integers(0, 40),
    replicas=st.integers(1, 4),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True).map(tuple),
)


class FakeCluster:
    """Keeps a list of the calls and the state that they leave; implements Cluster."""

    def __init__(self, *, settles_after: int = 0, breaks_on: str = "") -> None:
        self.calls: list[str] = []
        self.down: set[tuple[str, int]] = set()
        self.stopped: set[tuple[str, int]] = set()
        self.bad_wires: set[int] = set()
        self._unequal = settles_after
        self._breaks_on = breaks_on

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self._breaks_on:
            raise ConnectionError(name)

    def kill(self, role, which, part):
        self._call(f"kill {part}")
        if part == "supervisor":
            self.down.add((role, which))

    def restart(self, role, which, *, warm):
        self._call("restart warm" if warm else "restart cold")
        self.down.discard((role, which))

    def pause(self, role, which):
        self._call("pause")
        self.stopped.add((role, which))

    def resume(self, role, which):
        self._call("resume")
        self.stopped.discard((role, which))

    def partition(self, which, cut):
        self._call("partition")
        self.bad_wires.add(which)

    def impair(self, which, impairment):
        self._call("impair")
        Impairment(**impairment)
        self.bad_wires.add(which)

    def jump_clock(self, role, which, seconds):
        self._call("jump_clock")

    def overrun(self):
        self._call("overrun")

    def promote(self, which):
        self._call("promote")

    def switchover(self, which):
        self._call("switchover")

    def heal(self):
        self._call("heal")
        self.bad_wires.clear()
        self.stopped.clear()

    def digests_equal(self):
        self._unequal -= 1
        return self._unequal < 0


def test_fake_is_a_cluster():
    """The same methods with the same parameters: what passes here has the calls right."""
    for name, method in inspect.getmembers(Cluster, inspect.isfunction):
        if not name.startswith("_"):
            assert list(inspect.signature(getattr(FakeCluster, name)).parameters) == list(
                inspect.signature(method).parameters
            )


@given(SCHEDULES)
def test_same_seed_same_rounds(schedule):
    """Also from what is printed at its head."""
    again = Schedule(schedule.seed, schedule.count, schedule.replicas, schedule.kinds)
    assert list(again.rounds()) == list(schedule.rounds())
    assert str(again) == str(schedule)
    assert len(str(schedule).splitlines()) == 1 + schedule.count


def test_seeds_differ():
    assert len({str(list(Schedule(seed, 20, 2).rounds())) for seed in range(20)}) == 20


@given(SCHEDULES)
def test_rounds_are_bounded_and_end_healed(schedule):
    """No wait is longer than its limit, the last action heals, nobody is left down, stopped or cut off."""
    for faults in schedule.rounds():
        assert faults.actions[-1].kind == "heal"
        assert 1 < len(faults.actions) <= ACTIONS_MAX + 1
        assert faults.seconds <= 3 * max(PAUSE_S_MAX, CUT_S_MAX, IMPAIRED_S_MAX)
        assert all(action.which < schedule.replicas for action in faults.actions)
        cluster = FakeCluster()
        execute(faults, cluster, sleep=lambda seconds: None)
        assert not cluster.down
        assert not cluster.stopped
        assert not cluster.bad_wires


@given(SCHEDULES)
def test_no_round_loses_data_by_itself(schedule):
    """A primary never starts empty, and no round both empties and promotes a replica."""
    for faults in schedule.rounds():
        cold = {action.role for action in faults.actions if action.kind == "restart" and not action.is_warm}
        assert "primary" not in cold
        assert not (cold and any(action.kind == "promote" for action in faults.actions))


def test_every_kind_happens():
    """Within as many rounds as there are kinds."""
    cluster = FakeCluster()
    for faults in Schedule(3, len(KINDS), 2).rounds():
        execute(faults, cluster, sleep=lambda seconds: None)
    kills = {f"kill {part}" for part in ("relay", "worker", "router", "supervisor")}
    others = {"pause", "resume", "partition", "impair", "jump_clock", "overrun", "switchover", "promote", "heal"}
    assert kills | others < set(cluster.calls)
    assert {"restart warm", "restart cold"} & set(cluster.calls)


def test_kinds_can_be_left_out():
    schedule = Schedule(1, 50, 1, kinds_without("promote", "usurp", "clock jump"))
    kinds = {action.kind for faults in schedule.rounds() for action in faults.actions}
    assert kinds == {"kill", "restart", "pause", "resume", "partition", "impair", "overrun", "switchover", "heal"}
    with pytest.raises(ValueError, match="kinds are of"):
        Schedule(1, 1, 1, ("earthquake",))


def test_failure_in_a_round_still_heals():
    """The exception comes through, after the heal."""
    cluster = FakeCluster(breaks_on="resume")
    faults = Round(0, (Action("pause", "replica"), Action("resume", "replica"), Action("heal")))
    with pytest.raises(ConnectionError):
        execute(faults, cluster, sleep=lambda seconds: None)
    assert cluster.calls == ["pause", "resume", "heal"]


def test_nodes_that_stay_different_fail_the_round():
    """They get their time, and then the round is named in the error."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    faults = Round(7, (Action("promote", "replica", 1), Action("heal")))
    settled_s = execute(faults, FakeCluster(settles_after=20), sleep=sleep, clock=lambda: now[0])
    assert 0.9 < settled_s < 1.1
    with pytest.raises(AssertionError, match="round 7: promote role=replica which=1; heal"):
        execute(faults, FakeCluster(settles_after=10_000), settle_s=5, sleep=sleep, clock=lambda: now[0])


def test_unknown_action_is_refused():
    with pytest.raises(ValueError, match="no such fault"):
        Action("earthquake").apply(FakeCluster())
