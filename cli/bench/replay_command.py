"""`shmcache bench replay`: options, the server that is used, what is printed."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import Json, Url


def replay(
    file: Annotated[Path, typer.Argument(help="Trace: text or .npy, also .gz .xz .bz2 .zst", exists=True, dir_okay=False)],
    clients: Annotated[int, typer.Option("--clients", "-c", help="Client processes.", min=1, max=256)] = 1,
    policy: Annotated[str, typer.Option("--policy", help="Eviction policy of the temporary instance.")] = "allkeys-lru",
    memory: Annotated[str | None, typer.Option("--memory", help="Memory of the temporary instance, e.g. 64MB.")] = None,
    entries: Annotated[int | None, typer.Option("--entries", help="Memory that holds this many entries instead.", min=1)] = None,
    capacity_percent: Annotated[
        float, typer.Option("--capacity-percent", help="Memory that holds this share of the trace's keys instead.", min=0.01)
    ] = 10.0,
    samples: Annotated[int | None, typer.Option("--samples", help="Entries compared per eviction.", min=1, max=64)] = None,
    workers: Annotated[int, typer.Option("--workers", help="Workers of the temporary instance.", min=1)] = 1,
    value_bytes: Annotated[int, typer.Option("--value-bytes", help="Size of a value, if the trace has no sizes.", min=0)] = 64,
    limit: Annotated[int | None, typer.Option("--limit", help="Replay only the first so many requests.", min=1)] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Replay a recorded trace: get each key; on a miss, set it. Without --url on a temporary instance."""
    from shmcache.config import parse_size

    from ..connection import client_url
    from . import temporary
    from .trace import Trace, read

    trace = read(file)
    if limit is not None:
        trace = Trace(trace.ids[:limit], None if trace.sizes is None else trace.sizes[:limit])
    if url is not None:
        found = _measured(client_url(url), trace, clients, value_bytes, quiet=as_json) | {"server": url}
    else:
        if memory is not None:
            memory_bytes = parse_size(memory)
        else:
            memory_bytes = _memory(trace, entries, capacity_percent, value_bytes, workers)
        options: dict[str, Any] = {"memory": memory_bytes, "policy": policy, "workers": workers, "pin": "false"}
        options |= {} if samples is None else {"samples": samples}
        with temporary.instance(**options) as name:
            found = _measured(f"shm://{name}", trace, clients, value_bytes, quiet=as_json)
        found |= {"server": "temporary", **options}
    found |= {"trace": file.name, "unique": trace.unique, "clients": clients}
    print(json.dumps(found, indent=1)) if as_json else _print(found)


def _memory(trace: Any, entries: int | None, percent: float, value_bytes: int, workers: int) -> int:
    """Memory for `entries`, or for the share of the keys; entries of a mean size if the trace has sizes."""
    from .capacity import memory_for_entries

    mean = value_bytes if trace.sizes is None else trace.footprint_bytes(value_bytes) // trace.unique
    return memory_for_entries(entries or max(1, round(trace.unique * percent / 100)), mean, workers)


def _evictions(url: str | None) -> tuple[int, int]:
    from ..connection import ControlChannel, parse_target, shard_addresses

    target = parse_target(url)
    with ControlChannel(10.0, target.url) as channel:
        figures = [channel.call(a.endpoint, "stats", slot=a.slot) for a in shard_addresses(target, channel)]
    return sum(shard["evicted"] for shard in figures), sum(shard["keys"] for shard in figures)


def _measured(url: str | None, trace: Any, clients: int, value_bytes: int, quiet: bool) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from .replay import run

    evicted_before, _ = _evictions(url)
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("replay", total=len(trace.ids))
        result = run(url, trace, clients, value_bytes, lambda requests: bar.update(task, completed=requests))
    evicted, keys = _evictions(url)
    return {
        "requests": result.requests,
        "hits": result.hits,
        "hit_ratio": round(result.hit_ratio, 5),
        "miss_ratio": round(1 - result.hit_ratio, 5),
        "evictions": evicted - evicted_before,
        "keys_at_end": keys,
        "refused_sets": result.refused,
        "seconds": round(result.seconds, 3),
        "operations_per_s": round(result.operations_per_s),
        "get": dataclasses.asdict(result.gets),
        "set": dataclasses.asdict(result.sets),
    }


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from shmcache.config import format_size

    console = Console()
    console.print(f"{found['trace']}: {found['requests']:,} requests for {found['unique']:,} keys by {found['clients']} client(s)")
    if "memory" in found:
        console.print(f"temporary instance: {found['policy']}, {format_size(found['memory'])}, {found['workers']} worker(s)")
    console.print(
        f"hit ratio {found['hit_ratio']:.2%}, {found['evictions']:,} evictions, {found['keys_at_end']:,} keys at the end"
    )
    if found["refused_sets"]:
        console.print(f"{found['refused_sets']:,} sets were refused: the memory was full")
    console.print(f"{found['operations_per_s']:,} operations/s in {found['seconds']} s")
    table = Table("", "count", "p50 us", "p99 us", "p99.9 us", "max us", box=None, pad_edge=False)
    for name in ("get", "set"):
        numbers = found[name]
        times = [f"{numbers[key]:.2f}" for key in ("p50_us", "p99_us", "p999_us", "max_us")]
        table.add_row(name, f"{numbers['count']:,}", *times)
    console.print(table)
