"""The relay's control calls (docs/replication.md): from their arguments to the relay's decisions."""

import os
import time
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError, ResponseError
from ..protocol.directory import Directory
from ..replication.relay import Relay
from .stats import process_stats

Reply = Callable[[Any], None]


class RelayCalls:
    """What admins on this host (trusted) and other instances may ask."""

    def __init__(self, relay: Relay, directory: Directory, ring_workers: Callable[[list[int]], None]) -> None:
        self._relay, self._directory, self._ring_workers = relay, directory, ring_workers

    def carry_out(self, call: str, arguments: dict[str, Any], route: list[bytes], reply: Reply, *, trusted: bool) -> Any:
        """The result; None if there is no answer or it comes later by `reply`. Raises ShmcacheError, KeyError, TypeError, ValueError."""
        relay = self._relay
        match call:
            case "ack":
                positions = {int(shard): int(position) for shard, position in arguments["positions"].items()}
                follower = relay.acks.followers.get(str(arguments["replica"]))
                if follower is None:
                    # This relay is a new process: who follows its logs has not noticed, and would never count.
                    raise ResponseError("STRANGER", "this relay does not know that replica: greet it again")
                # Its connection may be another one than that of its greeting.
                follower.route = route
                news = relay.acks.ack(follower.replica_id, positions, time.monotonic())
                self._ring_workers([shard for shard in news if shard < relay.logs.shards])
                return None
            case "hello":
                return relay.hello(route, arguments, time.monotonic())
            case "fetch":
                return relay.fetch(self._shard(arguments), int(arguments["position"]), int(arguments["most"]))
            case "slice":
                # Several are asked for at a time, and take as long as the requests that a worker on the same core has meanwhile.
                os.sched_yield()
                replica, shard, flushes = str(arguments["replica"]), self._shard(arguments), bool(arguments.get("flushes"))
                return relay.slice(replica, shard, int(arguments["copy"]), int(arguments["number"]), flushes)
            case "fence":
                return {"understood": relay.fenced(int(arguments["epoch"]), str(arguments["router"]))}
            case "promoted":
                relay.promoted(str(arguments["replica"]), int(arguments["epoch"]))
                return None
            case "digests":
                return {"digests": relay.logs.reader.slot_digests(self._shard(arguments), int(arguments["now_ms"]))}
            case "entries":
                found = relay.logs.reader.slot_entries(
                    self._shard(arguments), arguments["slots"], int(arguments["now_ms"]), int(arguments["most"])
                )
                return {"entries": [list(entry) for entry in found]}
            case "libraries":
                return relay.libraries.answer(str(arguments["known"]))
            case "replicas":
                return self.status()
        if not trusted:
            raise ResponseError("DENIED", f"{call!r} is for operators on the host itself")
        match call:
            case "replicate":
                relay.replicate(str(arguments["primary"]))
            case "promote":
                relay.promote()
            case "demote":
                if not arguments.get("primary"):
                    raise ConfigError("a demoted instance needs a primary to follow")
                relay.replicate(str(arguments["primary"]))
            case "switchover":
                relay.switchover(str(arguments["to"]), route, reply)
                return None
            case "forget":
                if not relay.acks.forget(str(arguments["replica"])):
                    raise ConfigError(f"no replica {arguments['replica']!r} is known")
            case _:
                raise ResponseError("PROTOCOL", f"unknown control call {call!r}")
        return self.status()

    def _shard(self, arguments: dict[str, Any]) -> int:
        shard = int(arguments["shard"])
        if not 0 <= shard < self._relay.logs.shards:
            raise ValueError(f"there is no shard {shard}")
        return shard

    def status(self) -> dict[str, Any]:
        """Role, links and followers, for people and metrics."""
        relay = self._relay
        now, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        identity = relay.identity
        return {
            "instance": relay.snapshot.instance,
            "role": identity.role,
            "replica_id": identity.replica_id,
            "epoch": identity.epoch,
            "history": f"{identity.history:016x}",
            "shards": relay.logs.shards,
            "upstream": identity.upstream,
            "paused": relay.paused,
            "relay": identity.relay_endpoint,
            "log": identity.log_endpoint,
            "lost_writes": relay.lost_writes,
            "published": {
                "records": relay.publisher.records,
                "frames": relay.publisher.frames,
                "bytes": relay.publisher.bytes,
                "overtaken": relay.publisher.overtaken,
            },
            "links": [
                {
                    "upstream": link.address,
                    "instance": link.welcome.instance if link.welcome else "",
                    "state": link.state if not (link.state == "following" and link.is_copying) else "copying",
                    "last_error": link.last_error,
                    "lag_bytes": sum(max(0, s.follower.head - s.applied) for s in link.shards),
                    "lag_ms": now_ms - link.current_as_of_ms if link.current_as_of_ms else None,
                    "caught_up": link.caught_up,
                    "gaps": sum(s.follower.counts.gaps for s in link.shards),
                    "duplicates": sum(s.follower.counts.duplicates for s in link.shards),
                    "fetched": sum(s.follower.counts.fetched for s in link.shards),
                    "copies": link.copies,
                    "in_flight_bytes": relay.applier.bytes_in_flight,
                }
                for link in relay.links.values()
            ],
            "replicas": relay.followers(now),
            "process": process_stats(),
        }
