"""Persistence, replication and the end of the server: asked of the processes that do it."""

import time
from typing import Any

from ...client.exchange import Deadline
from ...client.session import command_steps
from ...errors import CommandFailed, ResponseError, ShmcacheError
from ...limits import WAIT_MARGIN_MS
from . import asking
from .arguments import integer, syntax, word
from .connection import NO_REPLY, Connection
from .rows import command

_ADMIN = ("admin", "noscript")
_SAVE_S_MAX = 3_600.0


@command("SAVE", 1, "Make a snapshot and wait for it.", *_ADMIN, "no_multi")
async def save(client: Connection, args: list[bytes]) -> Any:
    await _keeper(client, "save", _SAVE_S_MAX, wait=True)
    return "OK"


@command("BGSAVE", -1, "Begin a snapshot [SCHEDULE].", *_ADMIN)
async def bgsave(client: Connection, args: list[bytes]) -> Any:
    if len(args) > 2 or (len(args) == 2 and word(args[1]) != "SCHEDULE"):
        raise syntax()
    await _keeper(client, "save", 10.0, wait=False)
    return "Background saving started"


@command("BGREWRITEAOF", 1, "Begin a snapshot, after which older segments of the append-only file go.", *_ADMIN)
async def bgrewriteaof(client: Connection, args: list[bytes]) -> Any:
    await _keeper(client, "save", 10.0, wait=False)
    return "Background append only file rewriting started"


@command("LASTSAVE", 1, "When the last snapshot ended, unix seconds.", "fast", "loading", "stale")
async def lastsave(client: Connection, args: list[bytes]) -> Any:
    try:
        status = await _keeper(client, "status", 5.0)
    except ResponseError:
        return int(client.gateway.started)
    last = status.get("last_snapshot")
    return int(last["ended_ms"] // 1000 if last else client.gateway.started)


async def _keeper(client: Connection, call: str, timeout: float, **arguments: Any) -> Any:
    if not client.gateway.has_keeper:
        raise CommandFailed("ERR", "this instance keeps nothing on disk: it was started without --data-dir")
    return await asking.call_process(client.gateway, "keeper", call, timeout, **arguments)


async def replication_state(gateway: Any) -> dict[str, Any]:
    """Role and links, as ROLE and INFO need them; of an instance without a relay: a primary without replicas."""
    state: dict[str, Any] = {
        "is_replica": False, "host": "", "port": 0, "is_up": False, "is_copying": False, "offset": 0, "history": "0" * 40, "replicas": [],
    }  # fmt: skip
    try:
        found = await asking.call_process(gateway, "relay", "replicas")
    except ShmcacheError:
        return state
    state["history"] = str(found.get("history", "")).ljust(40, "0")
    if found["role"] == "replica":
        host, _, port = str(found["upstream"]).removeprefix("tcp://").rpartition(":")
        links = found["links"]
        state |= {
            "is_replica": True,
            "host": host,
            "port": int(port or 0),
            "is_up": any(link["state"] in ("following", "copying") for link in links),
            "is_copying": any(link["state"] == "copying" for link in links),
        }
    state["replicas"] = [_replica(replica) for replica in found["replicas"]]
    return state


def _replica(found: dict[str, Any]) -> dict[str, Any]:
    host, _, port = str(found.get("router") or found.get("address") or "").removeprefix("tcp://").rpartition(":")
    return {"host": host or "unknown", "port": int(port) if port.isdecimal() else 0, "offset": int(found.get("position", 0) or 0)}


@command("ROLE", 1, "Primary or replica, and of whom.", "fast", "noscript", "loading", "stale")
async def role(client: Connection, args: list[bytes]) -> Any:
    state = await replication_state(client.gateway)
    if state["is_replica"]:
        link = b"sync" if state["is_copying"] else b"connected" if state["is_up"] else b"connect"
        return [b"slave", state["host"].encode(), state["port"], link, state["offset"]]
    replicas = [[r["host"].encode(), b"%d" % r["port"], b"%d" % r["offset"]] for r in state["replicas"]]
    return [b"master", state["offset"], replicas]


@command("REPLICAOF", 3, "Follow another instance (its router's address), or NO ONE.", *_ADMIN, "no_multi", "stale")
async def replicaof(client: Connection, args: list[bytes]) -> Any:
    gateway = client.gateway
    if word(args[1]) == "NO" and word(args[2]) == "ONE":
        state = await replication_state(gateway)
        if state["is_replica"]:
            await asking.call_process(gateway, "relay", "promote")
        return "OK"
    port = integer(args[2], "Invalid master port")
    if not 0 < port < 65536:
        raise CommandFailed("ERR", "Invalid master port")
    until = time.monotonic() + 10.0
    while not (await asking.call_supervisor(gateway, "start", role="relay"))["ready"]:
        if time.monotonic() > until:
            raise CommandFailed("ERR", "the relay does not start")
    try:
        await asking.call_process(gateway, "relay", "replicate", primary=f"tcp://{args[1].decode('latin-1')}:{port}")
    except ShmcacheError as error:
        raise CommandFailed("ERR", str(error)) from None
    return "OK"


@command("SLAVEOF", 3, "As REPLICAOF.", *_ADMIN, "no_multi", "stale")
async def slaveof(client: Connection, args: list[bytes]) -> Any:
    return await replicaof(client, args)


@command("WAIT", 3, "How many replicas have all writes so far; waits for that many, at most so many ms.", "noscript")
async def wait(client: Connection, args: list[bytes]) -> Any:
    replicas, timeout_ms = integer(args[1]), integer(args[2], "timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandFailed("ERR", "timeout is negative")
    state = await replication_state(client.gateway)
    if not state["replicas"] and (replicas <= 0 or timeout_ms > 0):
        # Nobody can acknowledge: Redis waits for the time, too.
        if replicas > 0:
            import asyncio

            await asyncio.sleep(timeout_ms / 1000)
        return 0
    seconds = (timeout_ms or 3_600_000) / 1000 + 2 * WAIT_MARGIN_MS / 1000
    return await client.gateway.lanes.run(command_steps(client.gateway.route, ("WAIT", replicas, timeout_ms), Deadline.after(seconds)))


@command("SHUTDOWN", -1, "Stop the instance [NOSAVE|SAVE] [NOW] [FORCE] [ABORT].", *_ADMIN, "no_multi", "loading", "stale")
async def shutdown(client: Connection, args: list[bytes]) -> Any:
    options = {word(part) for part in args[1:]}
    if options - {"NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"} or {"SAVE", "NOSAVE"} <= options:
        raise syntax()
    if "ABORT" in options:
        raise CommandFailed("ERR", "No shutdown in progress.")
    if "SAVE" in options:
        await _keeper(client, "save", _SAVE_S_MAX, wait=True)
    await asking.call_supervisor(client.gateway, "stop")
    return NO_REPLY
