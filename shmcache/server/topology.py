"""The `topology` call: the slot table in the form that remote clients get."""

import struct
from typing import Any

from ..errors import Unavailable
from ..protocol.directory import SLOTS, DirectorySnapshot, even_slots
from ..protocol.replication import ReplicationRegion


def slot_ranges(slots: bytes) -> list[list[int]]:
    """[[first, last, shard], ...] of a slot table, in order and without gaps."""
    ranges: list[list[int]] = []
    for slot, shard in enumerate(struct.unpack(f"<{SLOTS}H", slots)):
        if ranges and ranges[-1][2] == shard:
            ranges[-1][1] = slot
        else:
            ranges.append([slot, slot, shard])
    return ranges


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
    }


def slot_bitmap(slots: bytes, shard: int) -> bytes:
    """The slots of one shard as 2048 bytes; slot s is bit s % 8 of byte s // 8."""
    bits = bytearray(SLOTS // 8)
    for slot, owner in enumerate(struct.unpack(f"<{SLOTS}H", slots)):
        if owner == shard:
            bits[slot >> 3] |= 1 << (slot & 7)
    return bytes(bits)


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
