"""`shmcache replicas | replicate | promote | demote | switchover | verify`: one instance among others."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, Timeout

Name = Annotated[str, typer.Argument(help="An instance of this host.")]
Address = Annotated[str, typer.Argument(help="Router address of the primary, tcp://HOST:PORT.")]


def register(app: typer.Typer) -> None:
    for command in (replicas, replicate, promote, demote, switchover, verify):
        app.command(command.__name__)(command)


def relay_call(name: str, call: str, arguments: dict[str, Any] | None = None, timeout: float = 5.0, *, start: bool = False) -> Any:
    """A control call to the relay of an instance on this host; with `start` the relay is started if there is none."""
    from .connection import call_process, process_endpoint

    if start:
        from shmcache.server.requests import ask_supervisor

        folder = Path(process_endpoint(name, "relay").removeprefix("ipc://")).parent
        until = time.monotonic() + timeout
        while not ask_supervisor(folder, name, "start", role="relay")["ready"] and time.monotonic() < until:
            time.sleep(0.05)
    return call_process(name, "relay", call, arguments, timeout)


def replicas(name: Name = "default", as_json: Json = False, timeout: Timeout = 5.0) -> None:
    """Role, links and followers: who replicates what from whom, how far behind, and the last error. For Prometheus: `serve --metrics`."""
    found = relay_call(name, "replicas", timeout=timeout)
    print(json.dumps(found, indent=1) if as_json else as_text(found))


def as_text(found: dict[str, Any]) -> str:
    """The relay's state in a few lines."""
    from shmcache.config import format_size

    lines = [
        f"{found['instance']}: {found['role']}, epoch {found['epoch']}, {found['shards']} shard(s)"
        + (", takes no writes (switching over)" if found["paused"] else "")
        + (f", dropped {found['lost_writes']} writes that were never replicated" if found["lost_writes"] else "")
    ]
    for link in found["links"]:
        lag = "unknown" if link["lag_ms"] is None else f"{link['lag_ms']} ms"
        lines.append(
            f"  follows {link['upstream']}  {link['state']}  behind {lag}, {format_size(link['lag_bytes'])}  "
            f"gaps {link['gaps']}" + (f"  last error: {link['last_error']}" if link["last_error"] else "")
        )
    for replica in found["replicas"]:
        state = "connected" if replica["connected"] else f"silent for {replica['silent_ms'] / 1000:.1f} s"
        lines.append(
            f"  replica {replica['name']}  {state}  behind {replica['lag_ms']} ms, "
            f"{replica['lag_records']} records, {format_size(replica['lag_bytes'])}  {replica['router']}"
        )
    return "\n".join(lines)


def replicate(primary: Address, name: Annotated[str, typer.Option("--name", help="The instance.")] = "default", timeout: Timeout = 30.0) -> None:
    """Make an instance a replica of another, live."""
    print(as_text(relay_call(name, "replicate", {"primary": primary}, timeout, start=True)))


def promote(name: Name = "default", timeout: Timeout = 10.0) -> None:
    """Make a replica the primary. The former one, if it comes back, becomes a replica of it."""
    print(as_text(relay_call(name, "promote", timeout=timeout)))


def demote(primary: Address, name: Annotated[str, typer.Option("--name", help="The instance.")] = "default", timeout: Timeout = 10.0) -> None:
    """Make a primary a replica of another; what that one never got of it is dropped."""
    print(as_text(relay_call(name, "demote", {"primary": primary}, timeout, start=True)))


def switchover(
    to: Annotated[str, typer.Argument(help="Name, id or router address of the replica that takes over.")],
    name: Annotated[str, typer.Option("--name", help="The primary.")] = "default",
    timeout: Timeout = 20.0,
) -> None:
    """Hand the role over to a replica without losing a write."""
    found = relay_call(name, "switchover", {"to": to}, timeout)
    print(f"the primary is {found['primary']}, epoch {found['epoch']}")


def verify(
    name: Name = "default",
    against: Annotated[str | None, typer.Option("--against", help="Router address tcp://HOST:PORT, with keys after ? if it has some; default: what this instance follows.")] = None,
    most: Annotated[int, typer.Option("--most", help="Differing keys to name at most.")] = 20,
    as_json: Json = False,
    timeout: Timeout = 60.0,
) -> None:
    """Compare an instance with another, slot by slot, and name the keys that differ."""
    from shmcache.errors import ConfigError
    from shmcache.replication.verifying import compare

    from .connection import ControlChannel, parse_target
    from .reply import quoted

    target = parse_target(against) if against else None
    if target is not None and target.endpoint is None:
        raise ConfigError(f"--against {against}: the other instance is named by its router's address, tcp://HOST:PORT")
    status = relay_call(name, "replicas", timeout=timeout)
    followed = status["upstream"] or next((link["upstream"] for link in status["links"]), "")
    address = (target.endpoint if target else None) or followed
    if not address:
        raise ConfigError(f"instance {name!r} follows nobody: name the other one with --against")
    # Router and relay of an instance have the same keys.
    with ControlChannel(timeout, target.url if target else None) as channel:
        relay = channel.call(address, "replication")["relay"]
        from shmcache.replication.greeting import reachable

        relay = reachable(relay, address)
        other = channel.call(relay, "replicas")
        found = compare(name, other["shards"], lambda call, arguments: channel.call(relay, call, arguments), most)
    if as_json:
        keys = [{"key": d.key.decode("latin-1"), "what": d.what, "slot": d.slot} for d in found.differences]
        print(json.dumps({"against": address, "keys": found.keys, "slots_differing": found.slots_differing, "differences": keys}))
    else:
        print(f"{found.keys} keys here; {found.slots_differing} of 16384 slots differ from {address}")
        for difference in found.differences:
            print(f"  slot {difference.slot}  {quoted(difference.key)}  {difference.what}")
    raise typer.Exit(1 if found.slots_differing else 0)
