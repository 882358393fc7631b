"""`shmcache stats`: read all shards twice, print figures and rates; again and again with --watch."""

import json
import time
from typing import Annotated, Any

import typer

from ..options import Json, Timeout, Url

_SAMPLE_S = 0.5


def register(app: typer.Typer) -> None:
    app.command("stats")(stats)


def stats(
    url: Url = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
    watch: Annotated[
        float | None, typer.Option("--watch", "-w", help="Show again every so many seconds.", min=0.1)
    ] = None,
) -> None:
    """Show keys, memory, hits, evictions, rates and latencies: per shard and in total."""
    from ..connection import ControlChannel, hub_address, parse_target, shard_addresses

    target = parse_target(url)
    with ControlChannel(timeout, target.url) as channel:
        addresses = shard_addresses(target, channel)
        hub = hub_address(target, channel)

        def read() -> list[dict[str, Any]]:
            return [channel.call(a.endpoint, "stats", slot=a.slot) for a in addresses]

        def read_hub() -> dict[str, Any] | None:
            return None if hub is None else printable(channel.call(hub, "stats")["hub"])

        readings = _readings(read, read_hub, _SAMPLE_S if watch is None else watch)
        if watch is None:
            found = next(readings)
            print(json.dumps(found)) if as_json else _print(found)
        elif as_json:
            for found in readings:
                print(json.dumps(found), flush=True)
        else:
            _live(readings)


def printable(hub: dict[str, Any]) -> dict[str, Any]:
    """The hub's figures as JSON takes them: names of channels as text."""
    return hub | {"by_channel": [c | {"channel": c["channel"].decode("utf-8", "replace")} for c in hub["by_channel"]]}


def _readings(read: Any, read_hub: Any, seconds: float) -> Any:
    from .figures import fragmentation, hit_ratio, rate, total

    before, then = read(), time.monotonic()
    while True:
        time.sleep(seconds)
        after, now = read(), time.monotonic()
        for old, new in zip(before, after, strict=True):
            new["ops_per_s"] = rate(old, new, now - then)
            new["fragmentation"] = fragmentation(new)
            new["hit_ratio"] = hit_ratio(new)
        whole = total(after) | {"ops_per_s": round(sum(shard["ops_per_s"] for shard in after), 1)}
        yield {"shards": after, "total": whole, "hub": read_hub()}
        before, then = after, now


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console

    from .table import view

    Console().print(view(found))


def _live(readings: Any) -> None:
    from rich.live import Live

    from .table import view

    with Live(view(next(readings)), auto_refresh=False) as live:
        for found in readings:
            live.update(view(found), refresh=True)
