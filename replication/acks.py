"""Who follows this instance, and how far each has come: kept by the relay, read by the workers through the replication region."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shmcache.limits import LINK_SILENCE_MS_MAX, REPLICAS_MAX
from shmcache.protocol.replication import ReplicationRegion, Word


@dataclass(slots=True)
class Follower:
    """One replica or peer."""

    row: int
    replica_id: str
    name: str
    router: str
    route: list[bytes]
    positions: dict[int, int] = field(default_factory=dict)
    heard_at: float = 0.0
    connected_at: float = 0.0

    def is_connected(self, now: float) -> bool:
        return now - self.heard_at <= LINK_SILENCE_MS_MAX / 1000


class Acknowledgements:
    """The table of followers."""

    def __init__(self, region: ReplicationRegion, expected: int, lag_bytes_max: int) -> None:
        """`expected`: replicas that count for `quorum` and `all` even while they are away; 0: those that came once."""
        self._region, self._expected, self._lag_bytes_max = region, expected, lag_bytes_max
        self.followers: dict[str, Follower] = {}
        for row in range(REPLICAS_MAX):
            region.clear_row(row)
        self.review({}, 0.0)

    def hello(self, replica_id: str, name: str, router: str, route: list[bytes], now: float) -> bool:
        """A replica has connected. False if there is no row for it."""
        follower = self.followers.get(replica_id)
        if follower is None:
            used = {other.row for other in self.followers.values()}
            free = next((row for row in range(REPLICAS_MAX) if row not in used), None)
            if free is None:
                return False
            follower = self.followers[replica_id] = Follower(free, replica_id, name, router, route)
        # What it acknowledged before it went away is still true only if it says so again.
        self._region.clear_row(follower.row)
        follower.positions = {}
        follower.name, follower.router, follower.route = name, router, route
        follower.connected_at = follower.heard_at = now
        return True

    def anyone(self, now: float) -> bool:
        """Whether anyone follows at this moment."""
        return any(follower.is_connected(now) for follower in self.followers.values())

    def ack(self, replica_id: str, positions: dict[int, int], now: float) -> list[int]:
        """A replica says how far it has come; returns the shards in which that is news."""
        follower = self.followers.get(replica_id)
        if follower is None:
            return []
        follower.heard_at = now
        news = [shard for shard, position in positions.items() if position > follower.positions.get(shard, 0)]
        for shard in news:
            follower.positions[shard] = positions[shard]
            self._region.store_ack(follower.row, shard, positions[shard])
        return news

    def forget(self, replica_id: str) -> bool:
        """It does not count any more (until it connects again)."""
        follower = self.followers.pop(replica_id, None)
        if follower is not None:
            self._region.clear_row(follower.row)
        return follower is not None

    def review(self, heads: dict[int, int], now: float) -> None:
        """Publish how many replicas are there and close enough."""
        good = sum(
            follower.is_connected(now)
            and all(follower.positions.get(shard, 0) + self._lag_bytes_max >= head for shard, head in heads.items())
            for follower in self.followers.values()
        )
        self._region.store(Word.REPLICAS_GOOD, good)
        self._region.store(Word.REPLICAS_KNOWN, max(self._expected, len(self.followers)))

    def table(self, heads: dict[int, int], now: float, behind: Callable[[int, int], tuple[int, int]]) -> list[dict[str, Any]]:
        """For people and metrics: one row per follower. `behind(shard, position)`: records and ms."""

        def lags(follower: Follower) -> dict[str, int]:
            found = [behind(shard, follower.positions.get(shard, 0)) for shard in heads]
            return {"lag_records": sum(records for records, _ in found), "lag_ms": max((ms for _, ms in found), default=0)}

        return [
            lags(follower)
            | {
                "replica": follower.replica_id,
                "name": follower.name,
                "router": follower.router,
                "connected": follower.is_connected(now),
                "lag_bytes": sum(max(0, head - follower.positions.get(shard, 0)) for shard, head in heads.items()),
                "silent_ms": int((now - follower.heard_at) * 1000),
            }
            for follower in self.followers.values()
        ]
