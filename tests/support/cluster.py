"""A real primary and its replicas under fault schedules: `Cluster` of tests/support/faults.py, with clients at work.

    with running_cluster(replicas=1, seed=7, folder=tmp_path) as cluster:
        cluster.begin(round)                # clients write and read
        execute(round, cluster)             # its heal ends the traffic, before digests are compared
        cluster.check(round)                # histories, counters, nothing lost
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import shmcache
from shmcache.errors import ResponseError
from tests.replication.pairs import digests
from tests.support.cluster_node import Node, address_of
from tests.support.corrupt import Damage
from tests.support.faults import Cut, Part, Role, Round
from tests.support.history import load
from tests.support.history_checks import assert_correct
from tests.support.hosts import Hosts, hosts
from tests.support.instance import wait_until
from tests.support.links import Direction
from tests.support.small_disk import small_disk

WORKERS = (2, 1, 3)
"""Of the nodes, in turn: all different."""
LOG_BYTES = 256 << 10
KEYS, COUNTERS, FORWARDED = 6, 2, 2
"""Of each round; so many forwarded ones for each node."""
PROMOTABLE_S_MAX = 10.0
REJOIN_S_MAX = 1.5
SWITCHOVER_S_MAX = 15.0
CONVERGE_S_MAX = 30.0
DAMAGE_SHARE, ANSWER_DAMAGE_SHARE = 0.15, 0.05
LOST_EVENT = "writes that were never replicated are dropped"
_CUTS: dict[Cut, Direction] = {"both": "both", "from_primary": "ab", "to_primary": "ba"}


class RunningCluster:
    """Node numbers stay; `primary` is one of them, the replicas are the others in order."""

    def __init__(self, nodes: list[Node], wires: Hosts, folder: Path) -> None:
        self.nodes, self._wires, self._folder = nodes, wires, folder
        self.primary = 0
        self._round = 0
        self._traffic: set[int] = set()
        self._versions: dict[str, int] = {}
        self._to_follow: set[int] = set()
        """Replicas that have not been told of the latest promotion yet."""
        self._files: list[Path] = []
        self.promotions = 0
        self.switchovers = 0
        self.skipped = 0
        """Promotions and switch-overs left out or refused."""

    # --- who is who ---------------------------------------------------------------------------------
    @property
    def _replicas(self) -> list[Node]:
        return [node for node in self.nodes if node.number != self.primary]

    def _node(self, role: Role, which: int) -> Node:
        return self.nodes[self.primary] if role == "primary" else self._replicas[which]

    def _wire(self, which: int) -> Any:
        return self._wires.wire(self.primary, self._replicas[which].number)

    # --- faults -------------------------------------------------------------------------------------
    def kill(self, role: Role, which: int, part: Part) -> None:
        node = self._node(role, which)
        if part == "supervisor":
            return node.kill()
        pid = node.child_pid(part, self._round)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def restart(self, role: Role, which: int, *, warm: bool) -> None:
        node = self._node(role, which)
        was_busy = node.number in self._traffic and not warm
        if was_busy:
            # What it reads from now on is another state.
            self._silence(node)
        node.stop()
        node.start(primary=address_of(self.primary), is_warm=warm)
        if not warm:
            self._to_follow.discard(node.number)
        if was_busy:
            self._busy(node)

    def pause(self, role: Role, which: int) -> None:
        self._node(role, which).pause()

    def resume(self, role: Role, which: int) -> None:
        self._node(role, which).resume()

    def partition(self, which: int, cut: Cut) -> None:
        self._wire(which).partition(_CUTS[cut])

    def impair(self, which: int, impairment: dict[str, float]) -> None:
        self._wire(which).set(**impairment)
        if impairment.get("corrupt"):
            # TCP repairs what the wire does; this it does not see.
            self._replicas[which].damage(self.primary, Damage(share=DAMAGE_SHARE, longer_than=16), Damage(share=ANSWER_DAMAGE_SHARE))

    def jump_clock(self, role: Role, which: int, seconds: float) -> None:
        self._node(role, which).clock.jump(seconds)

    def overrun(self) -> None:
        """Write more at the primary than its rings hold: who misses it needs a full copy."""
        node = self.nodes[self.primary]
        workers = int(node.instance.options["workers"])
        node.ask("flood", size=3 * LOG_BYTES * workers, deadline_s=10.0)

    def promote(self, which: int) -> None:
        """Left out if that replica cannot become whole in time: a mixture must not be promoted."""
        node = self._replicas[which]
        if not node.is_up or not self._wait_promotable(node):
            self.skipped += 1
            return
        former = self.nodes[self.primary]
        busy = set(self._traffic)
        for number in busy:
            self._silence(self.nodes[number])
        node.call("promote")
        self.promotions += 1
        self.primary = node.number
        # Their states are another history's from now on. The former primary learns of it by itself.
        for other in self._replicas:
            other.life += 1
            if other is not former:
                self._to_follow.add(other.number)
        self._tell_followers()
        self._busy_again(node, busy)

    def switchover(self, which: int) -> None:
        """With the writers at work at the former primary. If nobody can say how it ended, it is a promotion."""
        node, former = self._replicas[which], self.nodes[self.primary]
        if not node.is_up or not former.is_up:
            return
        try:
            former.call("switchover", {"to": address_of(node.number)}, SWITCHOVER_S_MAX)
        except ResponseError as error:
            if error.code != "UNAVAILABLE":
                self.skipped += 1
                return
            self.promote(which)
            return
        except shmcache.ShmcacheError:
            # Its relay is dead or away: it may have asked the replica before.
            self.promote(which)
            return
        self.switchovers += 1
        busy = set(self._traffic)
        for number in busy:
            self._silence(self.nodes[number])
        self.primary = node.number
        for other in self._replicas:
            if other is not former:
                # It copies: the new primary's log is another one.
                other.life += 1
                self._to_follow.add(other.number)
        self._tell_followers()
        self._busy_again(node, busy)

    def _busy_again(self, primary: Node, busy: set[int]) -> None:
        self._busy(primary)
        # The others show what is going to be dropped until they have the new primary's state; those that cannot get it
        # before the heal are read again in the next round.
        for other in self._replicas:
            if other.number in busy and self._has_rejoined(other):
                self._busy(other)

    def _has_rejoined(self, node: Node) -> bool:
        def rejoined() -> bool:
            links = node.status().get("links", [])
            return any(link["upstream"] == address_of(self.primary) and link["caught_up"] for link in links)

        try:
            return bool(wait_until(rejoined, REJOIN_S_MAX, "the replica has the new primary's state"))
        except AssertionError:
            return False

    def _wait_promotable(self, node: Node) -> bool:
        def whole() -> bool:
            identity = node.identity()
            if identity is None or not node.status():
                return False
            known = self.nodes[self.primary].identity()
            if identity.role == "primary":
                # Either a switch-over that ended unheard has made it the primary, or it was replaced and has not heard of it.
                return known is not None and identity.epoch > known.epoch
            return not identity.syncing and bool(identity.followed)

        try:
            return bool(wait_until(whole, PROMOTABLE_S_MAX, "the replica is whole"))
        except AssertionError:
            return False

    def _tell_followers(self) -> None:
        for number in list(self._to_follow):
            node = self.nodes[number]
            if number == self.primary:
                self._to_follow.discard(number)
            elif node.is_up and not node.paused:
                with contextlib.suppress(shmcache.ShmcacheError):
                    node.call("replicate", {"primary": address_of(self.primary)})
                    self._to_follow.discard(number)

    def heal(self) -> None:
        """Also ends the traffic: digests are compared next."""
        self._wires.heal()
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    node.damage(other.number, Damage(), Damage())
            node.resume()
            if not node.is_up:
                node.start()
        wait_until(self._all_told, CONVERGE_S_MAX, "every replica can be told of the promotion")
        for number in list(self._traffic):
            self._silence(self.nodes[number])

    def _all_told(self) -> bool:
        self._tell_followers()
        return not self._to_follow

    def digests_equal(self) -> bool:
        try:
            return len({digests(node.instance) for node in self.nodes}) == 1
        except (shmcache.ShmcacheError, RuntimeError, OSError):
            return False

    # --- clients ------------------------------------------------------------------------------------
    def begin(self, faults: Round) -> None:
        """Clients write and read keys of this round at the primary, read them at the replicas, and write others through those."""
        self._round = faults.number
        self._versions = dict.fromkeys(self.keys(faults.number), 0)
        for node in self.nodes:
            self._busy(node)

    def keys(self, number: int) -> list[str]:
        forwarded = [f"r{number}f{node.number}.{n}" for node in self.nodes for n in range(FORWARDED)]
        return [f"r{number}k{n}" for n in range(KEYS)] + forwarded

    def counters(self, number: int) -> list[str]:
        return [f"r{number}c{n}" for n in range(COUNTERS)]

    def _busy(self, node: Node) -> None:
        is_primary = node.number == self.primary
        own = f"r{self._round}k" if is_primary else f"r{self._round}f{node.number}."
        path = self._folder / f"r{self._round}.{len(self._files)}"
        self._files.append(path)
        self._traffic.add(node.number)
        node.ask(
            "go",
            session=path.name,
            path=str(path),
            seed=len(self._files),
            node=node.label,
            ack=len(self.nodes) - 1,
            forwards=not is_primary,
            versions={key: version for key, version in self._versions.items() if key.startswith(own)},
            counters=self.counters(self._round) if is_primary else [],
            reads=self.keys(self._round),
        )

    def _silence(self, node: Node) -> None:
        self._traffic.discard(node.number)
        self._versions |= node.ask("stop")["versions"]

    # --- the reckoning ------------------------------------------------------------------------------
    def check(self, faults: Round) -> None:
        """AssertionError unless the healed cluster takes writes that everyone gets, and the round's history is correct."""
        node = self.nodes[self.primary]
        node.ask("mark", key="mark", value=f"round {faults.number}", ack=len(self.nodes) - 1)
        wait_until(self.digests_equal, CONVERGE_S_MAX, "the mark is everywhere")
        roles = [each.status().get("role") for each in self.nodes]
        expected = ["primary" if each is node else "replica" for each in self.nodes]
        assert roles == expected, f"{roles} instead of {expected}"
        self._check(faults.number, faults.number)

    def check_all(self) -> None:
        """The history of all rounds together: what later rounds did to the keys of earlier ones."""
        self._check(0, self._round)

    def _check(self, first: int, last: int) -> None:
        rounds = range(first, last + 1)
        files = [path for path in self._files if first <= int(path.name[1:].partition(".")[0]) <= last and path.exists()]
        keys = [key for number in rounds for key in self.keys(number)]
        counters = [key for number in rounds for key in self.counters(number)]
        for node in self.nodes:
            final = node.ask("dump", keys=keys, counters=counters)["final"]
            assert_correct(load(files), final)

    def summary(self) -> str:
        """What has happened, to see that the faults were any."""
        logs = [node.instance.log() for node in self.nodes]
        copies, lost = (sum(log.count(f'"{event}"') for log in logs) for event in ("full copy begins", LOST_EVENT))
        flips = sum(node.flips for node in self.nodes)
        events = len(load(path for path in self._files if path.exists()))
        return (
            f"{events} operations, {self.promotions} promotions, {self.switchovers} switch-overs ({self.skipped} left out), {copies} full copies, "
            f"{lost} times writes dropped, {flips} flipped bytes"
        )

    def describe(self) -> str:
        """For people, when something failed."""
        lines = []
        for node in self.nodes:
            lines.append(f"--- node {node.number} ({node.label}), clock {node.clock.shift_s:+} s: {node.status()}")
            lines.append("\n".join(line for line in node.instance.log().splitlines() if '"debug"' not in line)[-6000:])
        try:
            totals = [np.frombuffer(digests(node.instance), "<u8") for node in self.nodes]
            lines.append(f"slots differing from node 0: {[int((total != totals[0]).sum()) for total in totals]}")
        except Exception as error:
            lines.append(f"digests: {error!r}")
        return "\n".join(lines)


@contextlib.contextmanager
def running_cluster(replicas: int, seed: int, folder: Path) -> Iterator[RunningCluster]:
    """Started, equal; gone at the end. Its nodes save lost writes on a disk that is full."""
    with contextlib.ExitStack() as cleanup:
        members = cleanup.enter_context(hosts(1 + replicas, wire="user", seed=seed))
        disk = cleanup.enter_context(small_disk(1 << 20))
        disk.fill()
        nodes = []
        for number, host in enumerate(members):
            options = {"workers": WORKERS[number % len(WORKERS)], "log_size": LOG_BYTES, "lost_writes_folder": disk.folder}
            options |= {"replica_of": address_of(0)} if number else {}
            nodes.append(Node(number, host, cleanup, **options))
        for node in nodes:
            node.connect({other.number: other.host.address for other in nodes if other is not node}, seed)
        for node in nodes:
            node.start()
            node.ask("stop")
        cluster = RunningCluster(nodes, members, folder)
        wait_until(lambda: all(link["caught_up"] for n in nodes[1:] for link in n.status()["links"]), CONVERGE_S_MAX, "links")
        yield cluster
