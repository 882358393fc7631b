"""`shmcache log`: the write log of an instance, one record a line."""

import json
from typing import Annotated

import typer

from .options import Json


def register(app: typer.Typer) -> None:
    app.command("log")(log)


def log(
    name: Annotated[str, typer.Argument(help="An instance of this host.")] = "default",
    shard: Annotated[int | None, typer.Option("--shard", help="Only this shard.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new records; end with Ctrl-C.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin at the end, not at the oldest record.")] = False,
    as_json: Json = False,
) -> None:
    """Print the records of the write log: every write, expiry and eviction."""
    from shmcache.replication.tail import Missed, tail

    from .reply import quoted

    for item in tail(name, shard, from_="end" if new else "oldest", follow=follow):
        if isinstance(item, Missed):
            print(f"# shard {item.shard}: overtaken, {item.missed_bytes} bytes missed", flush=follow)
            continue
        record = item.record
        if as_json:
            fields = {"shard": item.shard, "position": item.position, "lag_bytes": item.lag_bytes} | record._asdict()
            printable = {k: v.decode("latin-1") if isinstance(v, bytes) else v for k, v in fields.items()}
            print(json.dumps(printable), flush=follow)
            continue
        value = ""
        if record.value is not None and record.kind != "flush":  # of a flush it is a slot bitmap
            value = " " + quoted(record.value[:64]) + ("..." if len(record.value) > 64 else "")
        expiry = f" expires {record.expiry_ms}" if record.expiry_ms else ""
        print(f"{item.shard} {record.seq} {record.stamp} {record.kind} {quoted(record.key)}{value}{expiry}", flush=follow)
