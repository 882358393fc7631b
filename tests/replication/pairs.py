"""Instances that replicate, for tests: started, compared, gone afterwards."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import shmcache
from cli.replication import relay_call
from shmcache.protocol.attach import open_reader
from shmcache.protocol.directory import SLOTS
from tests.support.instance import RunningInstance, running_instance, wait_until

FAR_FUTURE_MS = 1 << 47


def digests(instance: RunningInstance, now_ms: int = 0) -> bytes:
    """Per-slot digests of everything in an instance, whatever its number of shards; entries past their deadline too."""
    snapshot = instance.snapshot()
    reader = open_reader(snapshot)
    total = np.zeros(SLOTS, np.uint64)
    for shard in range(len(snapshot.shards)):
        total += np.frombuffer(reader.slot_digests(shard, now_ms), "<u8")
    return total.tobytes()


def wait_equal(*instances: RunningInstance, seconds: float = 20.0) -> None:
    """Wait until all hold the same."""
    wait_until(lambda: len({digests(instance) for instance in instances}) == 1, seconds, "digests are equal")


def status(instance: RunningInstance) -> dict[str, Any]:
    found = relay_call(instance.name, "replicas")
    assert isinstance(found, dict)
    return found


def role(instance: RunningInstance) -> str:
    """primary or replica; empty while the relay does not answer."""
    try:
        return str(status(instance)["role"])
    except shmcache.ShmcacheError:
        return ""


def wait_caught_up(replica: RunningInstance, seconds: float = 20.0) -> None:
    """Wait until the replica follows and lacks nothing that it knows of."""

    def caught_up() -> bool:
        try:
            return all(link["caught_up"] for link in status(replica)["links"])
        except shmcache.ShmcacheError:
            return False

    wait_until(caught_up, seconds, "the replica catches up")


def relay_pid(instance: RunningInstance) -> int:
    return int(status(instance)["process"]["pid"])


@contextlib.contextmanager
def primary(**options: Any) -> Iterator[RunningInstance]:
    """One that replicas can follow."""
    with running_instance(**{"relay_listen": "tcp://127.0.0.1:0"} | options) as instance:
        yield instance


@contextlib.contextmanager
def replica(of: RunningInstance, **options: Any) -> Iterator[RunningInstance]:
    """A replica that has caught up."""
    with running_instance(**{"replica_of": of.tcp} | options) as instance:
        wait_caught_up(instance)
        yield instance


@contextlib.contextmanager
def pair(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> Iterator[tuple[RunningInstance, RunningInstance]]:
    """A primary and its replica."""
    with primary(**first or {}) as one, replica(one, **second or {}) as two:
        yield one, two
