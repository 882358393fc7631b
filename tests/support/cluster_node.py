"""One node of a cluster under test: an instance in a host of its own, its clock, its client, and the way to the others.

A node reaches node N at tcp://127.0.0.1:PORT through proxies in its own host, which forward to N's address over the wire
and can damage what passes. So a node is called the same by all others, and whoever is promoted can be followed by that name.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import shmcache
from cli.replication import relay_call
from shmcache.protocol.replication import Identity, ReplicationRegion
from tests.support.corrupt import CorruptingProxy, Damage
from tests.support.hosts import Host
from tests.support.instance import RunningInstance, remove_objects
from tests.support.netns import command_prefix
from tests.support.shifted_clock import ShiftedClock

ANSWER_S_MAX = 40.0
_ROOT = Path(__file__).resolve().parents[2]
ROUTER, RELAY, LOG = 0, 1, 2
"""Ports of a node, from `port(number)` on."""


def port(number: int, service: int = ROUTER) -> int:
    return 7400 + 10 * number + service


def address_of(number: int) -> str:
    """The router of a node, as all others reach it."""
    return f"tcp://127.0.0.1:{port(number)}"


class Node:
    """`life`: the state that clients see; a new one where it may go back (emptied, or copied from another history)."""

    def __init__(self, number: int, host: Host, cleanup: contextlib.ExitStack, **options: Any) -> None:
        self.number, self.host = number, host
        self.life = 0
        self.paused: list[int] = []
        self.clock = cleanup.enter_context(ShiftedClock())
        self.instance: RunningInstance = cleanup.enter_context(
            host.popen_instance(
                environment=self.clock.environment,
                listen=f"tcp://{host.address}:{port(number)}",
                relay_listen=f"tcp://0.0.0.0:{port(number, RELAY)}",
                announce=address_of(number),
                ephemeral=False,
                forward_writes=True,
                policy="noeviction",
                **options,
            )
        )
        self._proxies: list[CorruptingProxy] = []
        self._damaged: dict[tuple[int, int], CorruptingProxy] = {}
        """By node and service."""
        self._client: subprocess.Popen[str] | None = None
        cleanup.callback(self._close)

    # --- the instance -------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return self.instance.name

    @property
    def label(self) -> str:
        """As histories call it."""
        return f"n{self.number}.{self.life}"

    @property
    def is_up(self) -> bool:
        return self.instance.process is not None

    def start(self, *, primary: str = "", is_warm: bool = True) -> None:
        """Start it; cold: empty, as a replica of `primary`. A warm one knows its role itself."""
        if not is_warm:
            remove_objects(self.name)
            self.life += 1
            self.instance.options["replica_of"] = primary
        self.instance.start()

    def stop(self) -> None:
        self.resume()
        if self.is_up:
            self.instance.stop()

    def kill(self) -> None:
        """`kill -9` the supervisor; what it had started ends with it."""
        if self.is_up:
            self.resume()
            self.instance.kill()

    def child_pid(self, part: str, number: int = 0) -> int:
        """Of the router, the relay or a worker (in turn, by number); 0 while there is none."""
        found = []
        for pid in self.instance.child_pids() if self.is_up else []:
            with contextlib.suppress(OSError):
                if f"shmcache.server.{part}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found[number % len(found)] if found else 0

    def pause(self) -> None:
        """SIGSTOP everything, the supervisor first, so that it starts nothing meanwhile."""
        if self.is_up and not self.paused:
            os.kill(self.instance.pid, signal.SIGSTOP)
            self.paused = [self.instance.pid, *self.instance.child_pids()]
            for pid in self.paused[1:]:
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in reversed(self.paused):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.paused = []

    def call(self, call: str, arguments: dict[str, Any] | None = None, timeout: float = 5.0) -> Any:
        """A control call to its relay."""
        return relay_call(self.name, call, arguments, timeout)

    def status(self) -> dict[str, Any]:
        """The relay's; empty while there is none."""
        if not self.is_up or self.paused:
            return {}
        try:
            return dict(self.call("replicas", timeout=2.0))
        except shmcache.ShmcacheError:
            return {}

    def identity(self) -> Identity | None:
        """Who it is, from its shared memory; None if there is none."""
        try:
            region = ReplicationRegion.open(self.name)
        except shmcache.ShmcacheError:
            return None
        try:
            return region.identity()
        finally:
            region.close()

    # --- the way to the others ----------------------------------------------------------------------
    def connect(self, others: dict[int, str], seed: int) -> None:
        """Make the proxies to the other nodes' addresses."""
        with self.host.inside():
            for other, address in others.items():
                for service in (ROUTER, RELAY, LOG):
                    here = port(other, service)
                    proxy = CorruptingProxy((address, here), Damage(), port=here, direction="to_client", seed=seed)
                    self._proxies.append(proxy)
                    self._damaged[other, service] = proxy

    def damage(self, other: int, log: Damage, answers: Damage) -> None:
        """Flip bytes in what the other node publishes to this one, and in what its relay answers, behind TCP's back."""
        self._damaged[other, LOG].change(log)
        self._damaged[other, RELAY].change(answers)

    @property
    def flips(self) -> int:
        return sum(proxy.flips for proxy in self._damaged.values())

    # --- the client ---------------------------------------------------------------------------------
    def ask(self, call: str, **arguments: Any) -> dict[str, Any]:
        """Command the node's client (tests/support/cluster_client.py). AssertionError if it says that something failed."""
        if self._client is None:
            words = [*command_prefix(self.host.namespace), sys.executable, "-m", "tests.support.cluster_client", self.name]
            environment = os.environ | self.clock.environment
            self._client = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=environment
            )
        client = self._client
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(json.dumps({"call": call} | arguments) + "\n")
        client.stdin.flush()
        assert select.select([client.stdout], [], [], ANSWER_S_MAX)[0], f"the client of {self.label} does not answer {call!r}"
        answer: dict[str, Any] = json.loads(client.stdout.readline())
        assert not answer.get("error"), f"the client of {self.label}, {call!r}: {answer['error']}"
        return answer

    def _close(self) -> None:
        self.resume()
        for proxy in self._proxies:
            proxy.close()
        if self._client is not None:
            self._client.kill()
            self._client.wait()
            for stream in (self._client.stdin, self._client.stdout):
                if stream is not None:
                    stream.close()
