"""`shmcache status`: the instances of this host."""

import json
import time
from typing import Annotated, Any

import typer

from .options import Json


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def describe(name: str, now_s: float) -> dict[str, Any]:
    """What the directory and /dev/shm say about one instance. Raises InstanceNotFound."""
    import psutil

    from shmcache.errors import InstanceNotFound, LayoutMismatch
    from shmcache.protocol.directory import Directory
    from shmcache.server import regions

    objects = regions.list_objects(name)
    if not objects:
        raise InstanceNotFound(f"there is no instance {name!r} on this host")
    found: dict[str, Any] = {
        "instance": name,
        "state": "not running",
        "running": regions.supervisor_alive(name),
        "memory_bytes": sum(item.allocated_bytes for item in objects),
        "regions": len(objects),
    }
    try:
        directory = Directory.open(name)
    except (InstanceNotFound, LayoutMismatch):
        return found
    snapshot = directory.snapshot()
    directory.close()
    found |= {
        "state": snapshot.state if found["running"] else "not running",
        "pid": snapshot.supervisor_pid,
        "uptime_s": round(now_s - snapshot.supervisor_started_ms / 1000, 1),
        "epoch": snapshot.epoch,
        "router_endpoints": list(snapshot.router_endpoints),
        "shards": [
            {
                "shard": record.shard,
                "owner_pid": record.owner_pid,
                "owner_alive": record.owner_pid > 0 and psutil.pid_exists(record.owner_pid),
                "generation": record.generation,
                "endpoints": list(record.endpoints),
            }
            for record in snapshot.shards
        ],
    }
    return found


def as_text(found: dict[str, Any]) -> str:
    """One instance in a few lines."""
    from shmcache.config import format_size

    memory = format_size(found["memory_bytes"])
    if not found["running"]:
        return f"{found['instance']}: not running; its regions in /dev/shm take {memory}"
    shards = found["shards"]
    alive = sum(shard["owner_alive"] for shard in shards)
    lines = [
        f"{found['instance']}: {found['state']}, pid {found['pid']}, up {found['uptime_s']:.0f} s",
        f"  owners  {alive} of {len(shards)} alive"
        + "".join(f", shard {s['shard']} is down" for s in shards if not s["owner_alive"]),
        f"  memory  {memory} of /dev/shm",
        f"  router  {' '.join(found['router_endpoints']) or 'none'}",
    ]
    lines += [f"  shard {s['shard']}  pid {s['owner_pid']}  {' '.join(s['endpoints'])}" for s in shards]
    return "\n".join(lines)


def status(
    name: Annotated[str | None, typer.Argument(help="One instance; all of this host without it.")] = None,
    as_json: Json = False,
) -> None:
    """Show the instances on this host: processes, shards, memory, endpoints."""
    from shmcache.server import regions

    names = [name] if name else sorted({item.instance for item in regions.list_objects()})
    found = [describe(each, time.time()) for each in names]
    if as_json:
        print(json.dumps(found[0] if name else found, indent=1))
    else:
        print("\n".join(map(as_text, found)) or "no instance on this host")
