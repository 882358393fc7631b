"""Slots as ranges and as bitmaps, from the slot table: the forms in which they are told to others and to the engine."""

import struct

from .directory import SLOTS

Ranges = list[list[int]]
"""[[first, last, shard], ...]"""


def slot_ranges(slots: bytes) -> Ranges:
    """Of a slot table, in order and without gaps."""
    ranges: Ranges = []
    for slot, shard in enumerate(struct.unpack(f"<{SLOTS}H", slots)):
        if ranges and ranges[-1][2] == shard:
            ranges[-1][1] = slot
        else:
            ranges.append([slot, slot, shard])
    return ranges


def slot_bitmap(ranges: Ranges, shard: int) -> bytes:
    """The slots of one shard as 2048 bytes; slot s is bit s % 8 of byte s // 8."""
    bits = 0
    for first, last, owner in ranges:
        if owner == shard:
            bits |= (1 << last + 1) - (1 << first)
    return bits.to_bytes(SLOTS // 8, "little")
