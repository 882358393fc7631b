"""The figures as Rich tables."""

from collections.abc import Callable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shmcache.config import format_size


def _count(value: Any) -> str:
    return f"{value:,.0f}"


def _ratio(value: Any) -> str:
    return "-" if value is None else f"{value:.2%}"


_ROWS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("keys", "keys", _count),
    ("memory used", "used_bytes", format_size),
    ("memory limit", "memory_bytes", format_size),
    ("fragmentation", "fragmentation", lambda value: f"{value:.3f}"),
    ("hits", "hits", _count),
    ("misses", "misses", _count),
    ("hit ratio", "hit_ratio", _ratio),
    ("evictions", "evicted", _count),
    ("expiries", "expired", _count),
    ("operations/s", "ops_per_s", _count),
    ("clients", "clients", _count),
)


def view(found: dict[str, Any]) -> Group:
    """Two tables: the figures of each shard, and the owners' execution times by command family."""
    columns = [*found["shards"], found["total"]]
    figures = Table(box=None, pad_edge=False)
    figures.add_column("")
    for shard in found["shards"]:
        figures.add_column(f"shard {shard['shard']}", justify="right")
    figures.add_column("total", justify="right", style="bold")
    for title, name, text in _ROWS:
        figures.add_row(title, *(text(column.get(name, 0)) for column in columns))

    times = Table(box=None, pad_edge=False)
    for title in ("family", "count", "p50 us", "p99 us", "p99.9 us", "max us"):
        times.add_column(title, justify="left" if title == "family" else "right")
    for family, numbers in sorted(found["total"]["latencies"].items()):
        us = [f"{numbers[name] / 1000:.2f}" for name in ("p50_ns", "p99_ns", "p999_ns", "max_ns")]
        times.add_row(family, _count(numbers["count"]), *us)
    parts = [figures, "", "time in the owner (of several shards: the slowest)", times]
    return Group(*parts, *(["", *_channels(found["hub"])] if found.get("hub") else []))


_HUB_LINE = ("published", "delivered", "dropped", "subscriptions", "patterns", "replay_messages", "refused_subscriptions")


def _channels(hub: dict[str, Any]) -> list[Any]:
    """The hub in one line, and its busiest channels."""
    line = "channels: " + ", ".join(f"{_count(hub[name])} {name.replace('_', ' ')}" for name in _HUB_LINE)
    if hub["upstream"]["endpoints"]:
        line += f", upstream {'up' if hub['upstream']['up'] else 'DOWN'}"
    busiest = Table(box=None, pad_edge=False)
    for title in ("channel", "messages", "dropped", "subscribers"):
        busiest.add_column(title, justify="left" if title == "channel" else "right")
    for channel in hub["by_channel"]:
        busiest.add_row(
            Text(channel["channel"]), *(_count(channel[name]) for name in ("messages", "dropped", "subscribers"))
        )
    return [line, busiest] if hub["by_channel"] else [line]
