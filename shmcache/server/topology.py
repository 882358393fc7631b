"""The `topology` call: the slot table in the form that remote clients get."""

from typing import Any

from ..errors import Unavailable
from ..protocol.clocks import now_us
from ..protocol.directory import DirectorySnapshot, even_slots
from ..protocol.replication import ReplicationRegion
from ..protocol.slots import slot_ranges


def topology(snapshot: DirectorySnapshot, forward_shards: int = 0) -> dict[str, Any]:
    """What the call `topology` returns (docs/protocol.md). `forward_shards`: of the primary that writes are forwarded to, if they are."""
    forwarded = {"write_slots": slot_ranges(even_slots(forward_shards))} if forward_shards else {}
    return forwarded | {
        "instance": snapshot.instance,
        "epoch": snapshot.epoch,
        "shards": [
            {"shard": record.shard, "endpoints": list(record.endpoints)} for record in snapshot.shards
        ],
        "slots": slot_ranges(snapshot.slots),
        "clock_us": now_us(),
    }


def relay_addresses(instance: str) -> dict[str, str]:
    """What the call `replication` returns. Raises InstanceNotFound, Unavailable."""
    region = ReplicationRegion.open(instance)
    try:
        identity = region.identity()
    finally:
        region.close()
    if identity is None or not identity.relay_endpoint:
        raise Unavailable(f"the relay of instance {instance!r} listens at no tcp address: start it with --relay-listen")
    return {"relay": identity.relay_endpoint, "log": identity.log_endpoint}
