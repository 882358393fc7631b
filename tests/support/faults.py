"""Fault schedules: random but repeatable rounds of trouble, as data, and their execution on a cluster.

A schedule is a function of its seed and its options alone, so a failed run is run again by its seed;
`str(schedule)` is what a test prints. Whatever the faults of a round are, its end is the same: healed,
everyone running, digests equal.
"""

import dataclasses
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

Role = Literal["primary", "replica"]
Part = Literal["supervisor", "worker", "router", "relay"]
Cut = Literal["both", "from_primary", "to_primary"]

PAUSE_S_MAX = 3.0
CUT_S_MAX = 4.0
IMPAIRED_S_MAX = 4.0
REST_S_MAX = 1.0
JUMP_S_MAX = 3600.0
ACTIONS_MAX = 15
"""Per round, without the one that heals."""


class Cluster(Protocol):
    """What a schedule needs of a primary and its replicas. `which` numbers the replicas from 0 (for the
    primary it is 0); after a promotion the numbers are the new primary's replicas.
    """

    def kill(self, role: Role, which: int, part: Part) -> None:
        """`kill -9` a process. Its supervisor starts it again; a killed supervisor stays down until
        `restart`.
        """

    def restart(self, role: Role, which: int, *, warm: bool) -> None:
        """Start the node, after stopping it if it runs; cold: its shared memory is removed before."""

    def pause(self, role: Role, which: int) -> None:
        """SIGSTOP all processes of a node."""

    def resume(self, role: Role, which: int) -> None:
        """SIGCONT them."""

    def partition(self, which: int, cut: Cut) -> None:
        """Cut the wire between the primary and a replica."""

    def impair(self, which: int, impairment: dict[str, float]) -> None:
        """Fields of tests.support.impairment.Impairment, both ways, between the primary and a replica."""

    def jump_clock(self, role: Role, which: int, seconds: float) -> None:
        """Shift a node's wall clock."""

    def overrun(self) -> None:
        """Write more at the primary than its log rings hold."""

    def promote(self, which: int) -> None:
        """Make a replica the primary; the old one is fenced and becomes a replica, in its place in the
        numbers.

        `which` is a wish. A write with ack=1 is on one replica, not on each: with several replicas, and
        writes that are judged by check_nothing_lost, the implementation takes the one that is furthest.
        """

    def switchover(self, which: int) -> None:
        """Hand the role over to a replica as planned: not even writes without acknowledgement are lost. It may be refused."""

    def heal(self) -> None:
        """All wires perfect, all processes running and continued, clocks as they are."""

    def digests_equal(self) -> bool:
        """Whether all nodes hold the same data now."""


@dataclasses.dataclass(frozen=True)
class Action:
    """One call of the cluster, and how long the schedule waits after it."""

    kind: str
    role: Role = "primary"
    which: int = 0
    part: Part = "worker"
    cut: Cut = "both"
    impairment: tuple[tuple[str, float], ...] = ()
    seconds: float = 0.0
    """Of a clock jump."""
    is_warm: bool = True
    wait_s: float = 0.0

    def __str__(self) -> str:
        plain = {field.name: field.default for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in plain}
        del values["kind"]
        said = [f"{name}={value}" for name, value in values.items() if value != plain[name]]
        return " ".join((self.kind, *said))

    def apply(self, cluster: Cluster) -> None:
        """Call the cluster."""
        match self.kind:
            case "kill":
                cluster.kill(self.role, self.which, self.part)
            case "restart":
                cluster.restart(self.role, self.which, warm=self.is_warm)
            case "pause":
                cluster.pause(self.role, self.which)
            case "resume":
                cluster.resume(self.role, self.which)
            case "partition":
                cluster.partition(self.which, self.cut)
            case "impair":
                cluster.impair(self.which, dict(self.impairment))
            case "jump_clock":
                cluster.jump_clock(self.role, self.which, self.seconds)
            case "overrun":
                cluster.overrun()
            case "promote":
                cluster.promote(self.which)
            case "switchover":
                cluster.switchover(self.which)
            case "heal":
                cluster.heal()
            case _:
                raise ValueError(f"no such fault: {self.kind}")


@dataclasses.dataclass(frozen=True)
class Round:
    """Trouble, and its end: the last action heals."""

    number: int
    actions: tuple[Action, ...]

    def __str__(self) -> str:
        return f"round {self.number}: " + "; ".join(map(str, self.actions))

    @property
    def seconds(self) -> float:
        """Spent waiting; what the cluster needs for its own work comes on top."""
        return sum(action.wait_s for action in self.actions)


KINDS = (
    "kill relay",
    "kill worker",
    "kill router",
    "kill supervisor",
    "pause",
    "partition",
    "slow",
    "corrupt",
    "clock jump",
    "restart",
    "overrun",
    "kill copy",
    "switchover",
    "promote",
    "usurp",
)
"""Kinds of fault; a schedule can be restricted to some of them."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The rounds of a seed."""

    seed: int
    count: int
    replicas: int
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - set(KINDS)
        if unknown or not self.kinds or self.replicas < 1:
            raise ValueError(f"kinds are of {KINDS}, replicas at least 1: {self}")

    def __str__(self) -> str:
        head = f"seed={self.seed} count={self.count} replicas={self.replicas} kinds={json.dumps(self.kinds)}"
        return "\n".join((head, *map(str, self.rounds())))

    def rounds(self) -> Iterator[Round]:
        """Always the same. The first rounds have one kind each, so that each kind happens; later ones mix."""
        chance = random.Random(self.seed)
        first = chance.sample(self.kinds, len(self.kinds))
        for number in range(self.count):
            if number < len(first):
                kinds = [first[number]]
            else:
                kinds = chance.choices(self.kinds, k=chance.randint(1, 3))
            actions = [action for kind in kinds for action in self._fault(kind, chance)]
            if {"promote", "switchover", "usurp"} & set(kinds):
                # An emptied replica that is promoted before it is full again loses everything, rightly.
                actions = [dataclasses.replace(action, is_warm=True) for action in actions]
            assert len(actions) <= ACTIONS_MAX
            yield Round(number, (*actions, Action("heal")))

    def _fault(self, kind: str, chance: random.Random) -> list[Action]:
        """One fault, ended by what it alone needs; wires and stopped processes are the heal's business."""
        role: Role = chance.choice(("primary", "replica"))
        replica = chance.randrange(self.replicas)
        which = replica if role == "replica" else 0
        rest_s = _seconds(chance, REST_S_MAX)
        # Cold only for replicas: a primary that comes back empty has lost everything, rightly.
        is_warm = role == "primary" or chance.random() < 0.5
        match kind.partition(" "):
            case "kill", _, "supervisor":
                killed = Action("kill", role, which, "supervisor", wait_s=rest_s)
                return [killed, Action("restart", role, which, is_warm=is_warm)]
            case "kill", _, "copy":
                # The replica has just begun to copy when its primary dies.
                killed = Action("kill", "primary", 0, "supervisor", wait_s=rest_s)
                return [*_overrun(replica, rest_s / 4), killed, Action("restart", "primary")]
            case "kill", _, part:
                return [Action("kill", role, which, part, wait_s=rest_s)]  # type: ignore[arg-type]
            case "restart", _, _:
                return [Action("restart", role, which, is_warm=is_warm, wait_s=rest_s)]
            case "pause", _, _:
                paused = Action("pause", role, which, wait_s=_seconds(chance, PAUSE_S_MAX))
                return [paused, Action("resume", role, which)]
            case "usurp", _, _:
                # The primary is away, not dead: it comes back at the heal and does not know that it was replaced.
                away = chance.choice((Action("pause"), Action("partition", which=replica)))
                return [away, Action("promote", "replica", replica, wait_s=rest_s)]
            case "overrun", _, _:
                return _overrun(replica, rest_s)
            case "partition", _, _:
                cut: Cut = chance.choice(("both", "both", "from_primary", "to_primary"))
                return [Action("partition", which=replica, cut=cut, wait_s=_seconds(chance, CUT_S_MAX))]
            case "slow", _, _:
                delay_ms, loss = round(chance.uniform(1, 80), 1), round(chance.uniform(0, 0.1), 3)
                jitter_ms = round(delay_ms / 4, 1)
                bad = {"delay_ms": delay_ms, "jitter_ms": jitter_ms, "loss": loss, "reorder": 0.02}
                return [_impaired(replica, bad, chance)]
            case "corrupt", _, _:
                return [_impaired(replica, {"corrupt": 0.02, "duplicate": 0.02}, chance)]
            case "clock", _, _:
                jump_s = round(chance.choice((-1, 1)) * chance.choice((0.5, 5.0, 60.0, JUMP_S_MAX)), 1)
                return [Action("jump_clock", role, which, seconds=jump_s, wait_s=rest_s)]
            case "switchover", _, _:
                return [Action("switchover", "replica", replica, wait_s=rest_s)]
            case _:
                return [Action("promote", "replica", replica, wait_s=rest_s)]


def _overrun(replica: int, wait_s: float) -> list[Action]:
    """A replica is down while more is written than the rings hold; it copies when it is back. (One that is only stopped
    finds all of it in the queues of its connection.)
    """
    down = Action("kill", "replica", replica, "supervisor")
    return [down, Action("overrun"), Action("restart", "replica", replica, wait_s=wait_s)]


def _impaired(which: int, bad: dict[str, float], chance: random.Random) -> Action:
    wait_s = _seconds(chance, IMPAIRED_S_MAX)
    return Action("impair", which=which, impairment=tuple(bad.items()), wait_s=wait_s)


def _seconds(chance: random.Random, most: float) -> float:
    return round(chance.uniform(0.1 * most, most), 2)


def execute(
    faults: Round,
    cluster: Cluster,
    *,
    settle_s: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Run one round and wait until all nodes hold the same data; returns how long that took after the heal.
    AssertionError with the round when it takes longer than `settle_s`. Whatever fails, the cluster is healed.
    Writers must be silent, or few enough, for digests to become equal.
    """
    healed = False
    try:
        for action in faults.actions:
            action.apply(cluster)
            healed = action.kind == "heal"
            if action.wait_s:
                sleep(action.wait_s)
    finally:
        if not healed:
            cluster.heal()
    started = clock()
    while not cluster.digests_equal():
        assert clock() - started < settle_s, f"the nodes still differ after {settle_s} s; {faults}"
        sleep(0.05)
    return clock() - started


def kinds_without(*left_out: str) -> tuple[str, ...]:
    """All kinds but some: what a cluster under test cannot do, or what the test does not want."""
    assert set(left_out) <= set(KINDS)
    return tuple(kind for kind in KINDS if kind not in left_out)
