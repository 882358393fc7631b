"""Arithmetic of the figures: totals over shards, rates between two readings. No I/O."""

from typing import Any

SUMMED = (
    "keys", "used_bytes", "memory_bytes", "heap_used_bytes", "heap_committed_bytes", "heap_free_page_bytes",
    "index_bytes", "hints_bytes", "hits", "misses", "local_hits", "local_misses", "expired", "evicted", "commands", "errors",
)  # fmt: skip


def fragmentation(shard: dict[str, Any]) -> float:
    """Committed heap over used heap: 1.0 is perfect. 1.0 for an empty one; pages that any class may take do not count."""
    used = shard.get("heap_used_bytes", 0)
    taken = shard.get("heap_committed_bytes", 0) - shard.get("heap_free_page_bytes", 0)
    return round(taken / used, 3) if used else 1.0


def hit_ratio(figures: dict[str, Any]) -> float | None:
    """Hits over lookups, None before the first."""
    lookups = figures["hits"] + figures["misses"]
    return round(figures["hits"] / lookups, 4) if lookups else None


def total(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """One column for all shards. A percentile of several shards is the worst of them: percentiles cannot be added.
    A client maps every shard, so that the number of clients is the largest one."""
    summed: dict[str, Any] = {name: sum(shard.get(name, 0) for shard in shards) for name in SUMMED}
    summed["clients"] = max((shard.get("clients", 0) for shard in shards), default=0)
    families: dict[str, dict[str, int]] = {}
    for shard in shards:
        for family, numbers in shard.get("latencies", {}).items():
            merged = families.setdefault(family, dict.fromkeys(numbers, 0))
            for name, value in numbers.items():
                merged[name] = merged[name] + value if name == "count" else max(merged[name], value)
    summed["latencies"] = families
    summed["fragmentation"] = fragmentation(summed)
    summed["hit_ratio"] = hit_ratio(summed)
    return summed


def operations(figures: dict[str, Any]) -> int:
    """Commands that owners ran and lookups that readers made without them."""
    return int(figures.get("commands", 0) + figures.get("local_hits", 0) + figures.get("local_misses", 0))


def rate(before: dict[str, Any], after: dict[str, Any], seconds: float) -> float:
    """Operations per second between two readings. A restart resets the counters: then what it has counted since."""
    difference = operations(after) - operations(before)
    return round((difference if difference >= 0 else operations(after)) / seconds, 1) if seconds > 0 else 0.0
