"""A primary and its replicas, each a real instance in a host of its own, as fault schedules drive them (tests/support/faults.py)."""

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

from cli.replication import relay_call
from shmcache.errors import ShmcacheError
from tests.replication.pairs import digests, status
from tests.support.faults import Cut, Part, Role
from tests.support.hosts import Hosts, hosts
from tests.support.instance import RunningInstance, remove_objects, wait_until

ROUTER_PORT, RELAY_PORT = 7400, 7410
HEAL_S_MAX = 40.0
OPTIONS = {
    # Regions outlive a killed supervisor: what comes back is warm.
    "ephemeral": False,
    # Small enough that a pause can be longer than the ring.
    "log_size": "1MB",
    "memory": "32MB",
    "forward_writes": True,
}


class Node:
    """One instance, and what the schedule has done to it."""

    def __init__(self, number: int, address: str, instance: RunningInstance) -> None:
        self.number, self.instance = number, instance
        self.router = f"tcp://{address}:{ROUTER_PORT}"
        self.is_paused = False
        self.is_settled = True
        """False from the moment when its data begin to be replaced (it was emptied, or follows another lineage) to the end of the round: what is read
        meanwhile may go back."""

    @property
    def is_up(self) -> bool:
        return self.instance.process is not None

    def pids(self) -> list[int]:
        return [self.instance.pid, *self.instance.child_pids()]

    def status(self) -> dict[str, Any]:
        try:
            return status(self.instance)
        except ShmcacheError:
            return {}


class RealCluster:
    """`nodes[0]` is the primary. Implements tests.support.faults.Cluster."""

    def __init__(self, network: Hosts, nodes: list[Node], seed: int) -> None:
        self._network, self.nodes = network, nodes
        self._chance = random.Random(seed)
        self.quiet: Callable[[], None] = lambda: None
        """Called before digests are compared: writers stop."""

    @property
    def primary(self) -> Node:
        return self.nodes[0]

    def _node(self, role: Role, which: int) -> Node:
        return self.nodes[0 if role == "primary" else 1 + which]

    # --- faults -------------------------------------------------------------------------------------
    def kill(self, role: Role, which: int, part: Part) -> None:
        node = self._node(role, which)
        if not node.is_up:
            return
        if part == "supervisor":
            return node.instance.kill()
        shard = self._chance.randrange(node.instance.options["workers"])
        pid = node.instance.worker_pid(shard) if part == "worker" else node.instance.child_pid(part)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def restart(self, role: Role, which: int, *, warm: bool) -> None:
        node = self._node(role, which)
        self.resume(role, which)
        if node.is_up:
            node.instance.stop()
        if not warm:
            assert node is not self.primary
            remove_objects(node.instance.name)
            node.instance.options["replica_of"] = self.primary.router
            node.is_settled = False
        node.instance.start()

    def pause(self, role: Role, which: int) -> None:
        node = self._node(role, which)
        if node.is_up:
            node.is_paused = True
            for pid in node.pids():
                os.kill(pid, signal.SIGSTOP)

    def resume(self, role: Role, which: int) -> None:
        self._resume(self._node(role, which))

    def _resume(self, node: Node) -> None:
        if node.is_paused:
            node.is_paused = False
            for pid in node.pids():
                os.kill(pid, signal.SIGCONT)

    def _wire(self, which: int) -> Any:
        return self._network.wire(self.nodes[0].number, self.nodes[1 + which].number)

    def partition(self, which: int, cut: Cut) -> None:
        self._wire(which).partition({"both": "both", "from_primary": "ab", "to_primary": "ba"}[cut])

    def impair(self, which: int, impairment: dict[str, float]) -> None:
        self._wire(which).set("both", **impairment)

    def jump_clock(self, role: Role, which: int, seconds: float) -> None:
        raise NotImplementedError("the nodes of this cluster share the machine's clock")

    def promote(self, which: int) -> None:
        node = self._node("replica", which)
        self._resume(node)
        if not node.is_up:
            node.instance.start()
        others = [other for other in self.nodes if other is not node]
        for other in others:
            # They may have what the promoted one never got, and must give it up.
            other.is_settled = False
        self._insist(node, "promote")
        # The former primary has the promoted one's place.
        others.insert(which, others.pop(0))
        self.nodes = [node, *others]

    def _insist(self, node: Node, call: str, **arguments: Any) -> None:
        """Until the node's relay has done it: it may just be killed and started again."""

        def done() -> bool:
            try:
                relay_call(node.instance.name, call, arguments, 5, start=True)
            except ShmcacheError:
                return False
            return True

        wait_until(done, HEAL_S_MAX, f"{call} of {node.instance.name}")

    # --- rounds -------------------------------------------------------------------------------------
    def begin_round(self) -> None:
        """The nodes were equal: whatever they have, they will not lose again without a fault."""
        for node in self.nodes:
            node.is_settled = True

    def heal(self) -> None:
        self._network.heal()
        for node in self.nodes:
            self._resume(node)
            if not node.is_up:
                node.instance.start()
        for node in self.nodes[1:]:
            self._lead_home(node)

    def _lead_home(self, node: Node) -> None:
        """A replica follows the primary of now: fenced by it, or told by the operator that this function is."""

        def at_home() -> bool:
            found = node.status()
            if found.get("role") != "replica":
                return False
            if found["upstream"] == self.primary.router:
                return True
            self._insist(node, "replicate", primary=self.primary.router)
            return False

        wait_until(at_home, HEAL_S_MAX, f"{node.router} is a replica of {self.primary.router}")

    def digests_equal(self) -> bool:
        self.quiet()
        try:
            return len({digests(node.instance) for node in self.nodes}) == 1
        except (ShmcacheError, OSError):
            # A worker is just being replaced.
            return False

    def logs(self) -> str:
        return "\n".join(f"--- {node.router} {node.instance.name}\n{node.instance.log()[-20_000:]}" for node in self.nodes)


@contextlib.contextmanager
def real_cluster(workers: list[int], *, seed: int = 1) -> Iterator[RealCluster]:
    """One host and instance per number of workers, the first the primary; all caught up."""
    with hosts(len(workers), wire="user", seed=seed) as network, contextlib.ExitStack() as cleanup:
        nodes: list[Node] = []
        for host, count in zip(network, workers, strict=True):
            listen = {"listen": f"tcp://{host.address}:{ROUTER_PORT}", "relay_listen": f"tcp://{host.address}:{RELAY_PORT}"}
            following = {"replica_of": nodes[0].router} if nodes else {}
            instance = cleanup.enter_context(host.popen_instance(workers=count, **OPTIONS | listen | following))
            nodes.append(Node(host.number, host.address, instance))
            instance.start()
        cluster = RealCluster(network, nodes, seed)
        try:
            wait_until(cluster.digests_equal, 20, "the replicas have caught up")
            yield cluster
        except BaseException:
            print(cluster.logs())
            raise
        finally:
            for node in cluster.nodes:
                cluster._resume(node)
