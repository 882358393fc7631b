"""What two relays tell each other at the start, and what follows from it: pure decisions."""

from dataclasses import dataclass
from typing import Any, Self

from shmcache.errors import ShmcacheError
from shmcache.protocol.replication import Fork, Identity


class Refusal(ShmcacheError):
    """This upstream must not be followed now."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """An upstream's answer to `hello`."""

    instance: str
    replica_id: str
    history: int
    epoch: int
    role: str
    syncing: bool
    shards: int
    slots: list[list[int]]
    """[[first, last, shard], ...]"""
    heads: dict[int, int]
    oldest: dict[int, int]
    """Oldest position in each ring."""
    fork: Fork | None
    """Where it left the history of the one who asks, if it did."""
    router: str
    node: int

    @classmethod
    def read(cls, data: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if it is not one."""
        fork = data["fork"]
        return cls(
            instance=str(data["instance"]),
            replica_id=str(data["replica_id"]),
            history=int(data["history"]),
            epoch=int(data["epoch"]),
            role=str(data["role"]),
            syncing=bool(data["syncing"]),
            shards=int(data["shards"]),
            slots=[[int(number) for number in item] for item in data["slots"]],
            heads=_numbers(data["heads"]),
            oldest=_numbers(data["oldest"]),
            fork=None
            if fork is None
            else Fork(int(fork["history"]), int(fork["epoch"]), _numbers(fork["positions"]), _numbers(fork["heads"])),
            router=str(data["router"]),
            node=int(data["node"]),
        )


def _numbers(table: dict[Any, Any]) -> dict[int, int]:
    return {int(key): int(value) for key, value in table.items()}


def check(welcome: Welcome, own: Identity, *, merge: bool) -> None:
    """Raises Refusal if this upstream must not be followed (yet)."""
    if welcome.replica_id == own.replica_id:
        raise Refusal("this is the instance itself")
    if welcome.syncing:
        raise Refusal(f"{welcome.instance!r} is in the middle of a full copy itself: waiting for it")
    if not merge and welcome.epoch < own.epoch:
        raise Refusal(
            f"{welcome.instance!r} has epoch {welcome.epoch}, this instance has seen {own.epoch}: "
            "it is a primary that was replaced"
        )


def positions_to_follow(welcome: Welcome, own: Identity, own_heads: dict[int, int]) -> dict[int, int]:
    """Upstream's shard -> position from which its log can be followed. Shards that are missing need a full copy."""
    if own.syncing:
        return {}
    candidates: dict[int, int] = {}
    for followed in own.followed.values():
        if followed.history == welcome.history:
            candidates = followed.positions
    if not candidates and welcome.fork is not None and lost_writes(welcome.fork, own, own_heads) == {}:
        # It was a replica of this instance, had everything, and became the primary: the same state.
        candidates = welcome.fork.heads
    return {
        shard: candidates[shard]
        for shard in range(welcome.shards)
        if shard in candidates and welcome.oldest[shard] <= candidates[shard] <= welcome.heads[shard]
    }


def lost_writes(fork: Fork, own: Identity, own_heads: dict[int, int]) -> dict[int, int] | None:
    """What a replica that became the primary had not got of this instance: own shard -> log position from which on all is lost.

    None if it never followed this history.
    """
    if fork.history != own.history:
        return None
    return {shard: fork.positions.get(shard, 0) for shard, head in own_heads.items() if fork.positions.get(shard, 0) < head}


def reachable(endpoint: str, through: str) -> str:
    """An endpoint as its host says it, by the host name that was used to reach that host if it listens everywhere."""
    host, _, port = endpoint.rpartition(":")
    return f"{through.rpartition(':')[0]}:{port}" if host in ("tcp://0.0.0.0", "tcp://[::]") else endpoint
