"""SLOWLOG, LATENCY, MEMORY, DEBUG, MONITOR: looking into the server."""

import asyncio
from typing import Any

from ...client.local import read
from ...errors import CommandFailed, ResponseError, ShmcacheError
from . import asking
from .arguments import integer, word
from .connection import Connection
from .rows import ROWS, command, unknown_subcommand, wrong_arity
from .slowlog import SlowLog
from .versions import REDIS_VERSION


@command("SLOWLOG", -2, "Commands that took long: GET [n], LEN, RESET.", "admin", "loading", "stale")
def slowlog(client: Connection, args: list[bytes]) -> Any:
    log = client.gateway.slowlog
    try:
        return _slowlog(log, args)
    finally:
        # Afterwards, so that RESET is in the log that it leaves.
        log.note(0.0, args, client.peer, client.name)


def _slowlog(log: SlowLog, args: list[bytes]) -> Any:
    match word(args[1]), len(args):
        case "GET", 2:
            return log.newest(10)
        case "GET", 3:
            most = integer(args[2], "count should be greater than or equal to -1")
            if most < -1:
                raise CommandFailed("ERR", "count should be greater than or equal to -1")
            return log.newest(most)
        case "LEN", 2:
            return len(log)
        case "RESET", 2:
            log.clear()
            return "OK"
    if word(args[1]) in ("GET", "LEN", "RESET"):
        raise wrong_arity(f"slowlog|{word(args[1])}")
    raise unknown_subcommand(args)


@command("LATENCY", -2, "Latency events: none are recorded here.", "admin", "noscript", "loading", "stale")
def latency(client: Connection, args: list[bytes]) -> Any:
    match word(args[1]):
        case "LATEST" | "HISTORY":
            return []
        case "RESET":
            return 0
        case "DOCTOR":
            return b"I have no latency reports to show: look at `shmcache stats` for the times of each family of commands."
        case "GRAPH":
            raise CommandFailed("ERR", f"No samples available for event '{args[2].decode('utf-8', 'replace') if len(args) > 2 else ''}'")
        case "HISTOGRAM":
            return {}
    raise unknown_subcommand(args)


@command("MEMORY", -2, "Memory: USAGE key, STATS, DOCTOR, PURGE, MALLOC-STATS.", "readonly", keys=(2, 2, 1))
async def memory(client: Connection, args: list[bytes]) -> Any:
    gateway = client.gateway
    match word(args[1]):
        case "USAGE":
            return await gateway.ask("MEMORY", *args[1:])
        case "DOCTOR":
            return b"Sam, I detected no memory issues here: `shmcache doctor` looks at this host."
        case "PURGE":
            return "OK"
        case "MALLOC-STATS":
            return b"Memory is pages of shared memory: see MEMORY STATS."
        case "STATS":
            shards = await asking.call_workers(gateway, "stats")

            def total(name: str) -> int:
                return sum(shard.get(name, 0) for shard in shards)

            keys = total("keys")
            return {
                b"peak.allocated": total("used_bytes"),
                b"total.allocated": total("used_bytes"),
                b"startup.allocated": 0,
                b"overhead.total": total("index_bytes") + total("hints_bytes"),
                b"keys.count": keys,
                b"keys.bytes-per-key": total("used_bytes") // keys if keys else 0,
                b"dataset.bytes": total("heap_used_bytes"),
                b"allocator.allocated": total("heap_used_bytes"),
                b"allocator.resident": total("heap_committed_bytes"),
                b"fragmentation": total("heap_committed_bytes") / max(1, total("heap_used_bytes")),
            }
    raise unknown_subcommand(args)


@command("DEBUG", -2, "For test suites: SLEEP, OBJECT, SET-ACTIVE-EXPIRE, ...", "admin", "noscript", "loading", "stale")
async def debug(client: Connection, args: list[bytes]) -> Any:
    match word(args[1]):
        case "SLEEP" if len(args) == 3:
            try:
                seconds = float(args[2])
            except ValueError:
                raise CommandFailed("ERR", "value is not a valid float") from None
            # This connection only: there is no reason why others should wait.
            await asyncio.sleep(max(0.0, seconds))
            client.gateway.slowlog.note(seconds, args, client.peer, client.name)
            return "OK"
        case "ERROR" if len(args) == 3:
            # For tests of clients: any error that a server could give.
            code, _, text = args[2].decode("utf-8", "replace").partition(" ")
            raise ResponseError(code, text)
        case "OBJECT" if len(args) >= 3:
            return await _object(client, args[2])
        case "SET-ACTIVE-EXPIRE" | "JMAP" | "QUICKLIST-PACKED-THRESHOLD" | "REPLYBUFFER" | "SET-DISABLE-DENY-SCRIPTS" | "STRINGMATCH-LEN":
            return "OK"
        case "CHANGE-REPL-ID" | "DICT-RESIZING" | "PAUSE-CRON" | "LISTPACK" | "LISTPACK-ENTRIES" | "CLIENT-EVICTION":
            return "OK"
        case "RELOAD" | "LOADAOF":
            # The data are in shared memory, not in this process: nothing can be lost by not reading them again.
            return "OK"
        case "PROTOCOL" if len(args) == 3:
            return _protocol(client, word(args[2]))
        case "DIGEST":
            stats = await asking.call_workers(client.gateway, "stats")
            return f"{sum(shard.get('last_stamp', 0) for shard in stats) & ((1 << 160) - 1):040x}"
        case "HELP":
            return ["DEBUG <subcommand> [<arg> ...]. Subcommands: SLEEP, OBJECT, ERROR, SET-ACTIVE-EXPIRE, PROTOCOL, RELOAD, HELP"]
    raise unknown_subcommand(args)


async def _object(client: Connection, key: bytes) -> Any:
    attachment = client.gateway.attachment()
    if attachment is None or not read(attachment, ("EXISTS", key)):
        raise CommandFailed("ERR", "no such key")
    encoding = "raw"
    if "OBJECT" in ROWS:
        try:
            found = await client.gateway.ask("OBJECT", "ENCODING", key)
            encoding = found.decode() if isinstance(found, bytes) else str(found)
        except ShmcacheError:
            encoding = "raw"
    size = await client.gateway.ask("MEMORY", "USAGE", key)
    return f"Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{size} lru:0 lru_seconds_idle:0"


def _protocol(client: Connection, kind: str) -> Any:
    from .replies import NIL_ARRAY, Members, Push, Verbatim

    values: dict[str, Any] = {
        "STRING": b"Hello World",
        "INTEGER": 12345,
        "DOUBLE": 3.141,
        "NULL": None,
        "ARRAY": [0, 1, 2],
        "SET": Members((0, 1, 2)),
        "MAP": {0: False, 1: True, 2: False},
        "TRUE": True,
        "FALSE": False,
        "VERBATIM": Verbatim("This is a verbatim\nstring"),
        "PUSH": Push([b"server-cpu-usage", 42]),
        "NULLARRAY": NIL_ARRAY,
    }
    if kind not in values:
        raise CommandFailed("ERR", "Wrong protocol type name. Please use one of the following: " + "|".join(values).lower())
    return values[kind]


@command("MONITOR", 1, "Show all commands of this gateway process.", "admin", "noscript", "loading", "stale", "no_multi", "nomonitor")
def monitor(client: Connection, args: list[bytes]) -> Any:
    client.is_monitor = True
    client.gateway.monitors.add(client)
    client.gateway.refresh()
    return "OK"


@command("LOLWUT", -1, "The version.", "fast", "readonly")
def lolwut(client: Connection, args: list[bytes]) -> Any:
    return f"Redis ver. {REDIS_VERSION} (shmcache)\n".encode()
