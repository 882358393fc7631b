"""The benchmarks that have no options but their size: how they are called, and how their results are shown.

A benchmark is a function `run(keys) -> list[Row]`, in a module of its own; its defaults give the figures of docs/benchmarks.md.
"""

import dataclasses
import importlib
import json
from dataclasses import dataclass
from typing import Annotated

import typer

from ..options import Json

BENCHMARKS: dict[str, tuple[int, str]] = {
    "local": (10_000_000, "Reads from shared memory against redis-py over a unix socket, LMDB and a dict."),
    "network": (10_000, "Round trips and pipelines over ZeroMQ against a bare echo, redis-py, redis-benchmark, memcached."),
    "resp": (50_000, "The RESP port against Redis on the same two cores: redis-benchmark, with and without pipelining."),
    "pubsub": (10_000, "PUBLISH to a local subscriber, and fan-out to 100 of them, against Redis."),
    "replication": (1_000_000, "A primary and its replica against a Redis pair: rate, lag, acknowledged writes, full copy."),
    "persistence": (2_000_000, "Snapshots, restarts and the append-only file on this disk, against Redis on the same."),
    "memory": (10_000_000, "Bytes per key above key and value, against Redis."),
    "collections": (1_000_000, "Reads of small collections against redis-py, memory of many small ones and a large one against Redis."),
    "growth": (10_000_000, "Longest single SET while the cache grows from nothing."),
    "contention": (1_000, "Reads of keys that the owner overwrites without pause."),
    "attach": (10_000_000, "Time to map a warm region, and the cost of a log record."),
}
"""Name -> default number of keys, what it measures."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `ratio` is how many times better than the peer named in `peer`; `value` in `unit` is the headline."""

    work: str
    value: float | None
    unit: str
    target: str = ""
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    note: str = ""


def missing(work: str, peer: str, reason: str) -> Row:
    """A peer that is not here is a row, too."""
    return Row(work, None, "", peer=peer, note=f"peer missing: {reason}")


def add_suite(group: typer.Typer) -> None:
    for name, (keys, text) in BENCHMARKS.items():
        group.command(name, help=text)(_command(name, keys))


def _command(name: str, default_keys: int):  # type: ignore[no-untyped-def]
    def command(
        keys: Annotated[int, typer.Option("--keys", "-n", help="Keys to work on; fewer is faster.", min=100)] = default_keys,
        as_json: Json = False,
    ) -> None:
        rows = importlib.import_module(f".{name}", __package__).run(keys)
        if as_json:
            print(json.dumps({"benchmark": name, "keys": keys, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1))
        else:
            _print(name, keys, rows)

    return command


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _print(name: str, keys: int, rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name}, {keys:,} keys", title_justify="left", box=None, pad_edge=False)
    for title in ("work", "value", "unit", "target", "peer", "peer's", "ratio", "p50 us", "p99 us", "p99.9 us", "note"):
        table.add_column(title, justify="left" if title in ("work", "unit", "target", "peer", "note") else "right")
    for row in rows:
        times = [_number(value) for value in (row.p50_us, row.p99_us, row.p999_us)]
        values = (_number(row.value), row.unit, row.target, row.peer, _number(row.peer_value), _number(row.ratio))
        table.add_row(row.work, *values, *times, row.note)
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width: whole lines are easier to read there than 80 columns.
        console = Console(width=200)
    console.print(table)
