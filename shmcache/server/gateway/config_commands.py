"""CONFIG: Redis' names for what can be set here, and for what is fixed."""

from collections.abc import Callable
from typing import Any, Final

from ...errors import CommandFailed, ConfigError
from ...limits import ACL_LOG_ENTRIES_MAX, COMPACT_BYTES_MAX, RESP_TRACKED_KEYS_MAX
from ...option_values import parse_size
from ...options import POLICIES
from ...protocol.channels import compile_glob
from . import asking, notifications
from .acl.users import DEFAULT
from .acl_commands import set_user
from .arguments import word
from .connection import Connection
from .rows import command, unknown_subcommand, wrong_arity

_ACCEPTED: Final = {
    "hash-max-listpack-entries": "128",
    "hash-max-listpack-value": "64",
    "hash-max-ziplist-entries": "128",
    "hash-max-ziplist-value": "64",
    "list-max-listpack-size": "-2",
    "list-max-ziplist-size": "-2",
    "list-compress-depth": "0",
    "set-max-intset-entries": "512",
    "set-max-listpack-entries": "128",
    "set-max-listpack-value": "64",
    "zset-max-listpack-entries": "128",
    "zset-max-listpack-value": "64",
    "zset-max-ziplist-entries": "128",
    "zset-max-ziplist-value": "64",
    "hll-sparse-max-bytes": "3000",
    "client-query-buffer-limit": "1073741824",
    "lazyfree-lazy-eviction": "no",
    "lazyfree-lazy-expire": "no",
    "lazyfree-lazy-server-del": "no",
    "lazyfree-lazy-user-del": "no",
    "latency-monitor-threshold": "0",
    "latency-tracking": "yes",
    "loglevel": "notice",
    "lua-time-limit": "5000",
    "busy-reply-threshold": "5000",
    "maxmemory-clients": "0",
    "oom-score-adj": "no",
    "proto-max-bulk-len": "536870912",
    "repl-backlog-size": "1048576",
    "stop-writes-on-bgsave-error": "yes",
    "active-expire-effort": "1",
    "activedefrag": "no",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "appendfsync": "everysec",
    "auto-aof-rewrite-percentage": "100",
    "rdbcompression": "yes",
    "close-on-replica-write": "yes",
    "hz": "10",
    "dynamic-hz": "yes",
    "tcp-keepalive": "300",
    "maxmemory-eviction-tenacity": "10",
    "replica-serve-stale-data": "yes",
    "set-proc-title": "yes",
    "slave-read-only": "yes",
    "replica-read-only": "yes",
    "min-replicas-to-write": "0",
    "min-slaves-to-write": "0",
}
"""What may be set to anything and read back: it changes nothing here."""


_TLS_CLIENTS: Final = {"required": "yes", "optional": "optional"}
_HIDDEN: Final = "(hidden)"
"""For a password that is set: only its hash is known."""


def _fixed(client: Connection) -> dict[str, str]:
    """What cannot be changed while the server runs."""
    settings = client.gateway.settings
    return {
        "databases": "1",
        "bind": settings["host"],
        "port": str(settings["port"]),
        "appendonly": "no" if settings["aof"] == "off" else "yes",
        "save": "",
        "dir": settings["folder"],
        "cluster-enabled": "no",
        "io-threads": str(settings["processes"]),
        "unixsocket": "",
        "masterauth": "",
        "logfile": "",
        "daemonize": "no",
        "tls-port": str(settings["tls"]["port"] if settings["tls"] else 0),
        "tls-auth-clients": _TLS_CLIENTS.get(settings["tls"]["clients"] if settings["tls"] else "", "no"),
        "tls-cert-file": settings["tls"]["cert"] if settings["tls"] else "",
        "tls-key-file": settings["tls"]["key"] if settings["tls"] else "",
        "tls-ca-cert-file": settings["tls"]["ca"] if settings["tls"] else "",
        "aclfile": settings["acl_file"],
        "protected-mode": "yes" if settings["protected"] else "no",
        "dbfilename": "dump.rdb",
        "appendfilename": "appendonly.aof",
    }


_COMPACT: Final = {
    f"{kind}-max-{form}-{theirs}": f"{kind}_compact_{ours}"
    for kind in ("hash", "set", "zset")
    for form in ("listpack", "ziplist")
    for theirs, ours in (("entries", "entries"), ("value", "bytes"))
    if (kind, form) != ("set", "ziplist")
}
"""Redis' names of the limits of compact collections, and ours."""


async def _live(client: Connection) -> dict[str, str]:
    """What is asked of the workers, and the gateway's own."""
    gateway = client.gateway
    shards = await asking.call_workers(gateway, "configure")
    return {
        "maxmemory": str(sum(shard["memory_bytes"] for shard in shards)),
        "maxmemory-policy": shards[0]["policy"],
        "maxmemory-samples": str(shards[0].get("samples", 0)),
        "lfu-log-factor": str(shards[0].get("lfu_log_factor", 10)),
        "lfu-decay-time": str(shards[0].get("lfu_decay_ms", 60_000) // 60_000),
        **{name: str(shards[0][option]) for name, option in _COMPACT.items()},
        "maxclients": str(gateway.clients_max),
        "requirepass": "" if gateway.guard.default.is_open else _HIDDEN,
        "acllog-max-len": str(gateway.guard.journal.length_max),
        "timeout": str(gateway.timeout_s),
        "slowlog-log-slower-than": str(gateway.slowlog.threshold_us),
        "slowlog-max-len": str(gateway.slowlog.length_max),
        "tracking-table-max-keys": str(gateway.tracking.keys_max),
        notifications.OPTION: notifications.shown(await notifications.current(gateway)),
    }


def _number(low: int, high: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not text.lstrip("-").isdigit() or not low <= int(text) <= high:
            raise ConfigError(f"argument must be between {low} and {high} inclusive")
        return int(text)

    return check


def _compact(text: str) -> int:
    """Any number that Redis takes; more than the most is the most."""
    return min(_number(0, 2**63 - 1)(text), COMPACT_BYTES_MAX)


def _memory(text: str) -> int:
    try:
        found = parse_size(text)
    except ValueError:
        found = None
    if not isinstance(found, int) or found <= 0:
        raise ConfigError("argument must be a memory value above 0: this cache always has a limit")
    return found


def _policy(text: str) -> str:
    if text.lower() not in POLICIES:
        raise ConfigError(f"argument(s) must be one of the following: {', '.join(POLICIES)}")
    return text.lower()


_SETTABLE: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(_COMPACT, _compact),
    "maxmemory": _memory,
    "maxmemory-policy": _policy,
    "maxmemory-samples": _number(1, 64),
    "lfu-log-factor": _number(0, 1000),
    "lfu-decay-time": _number(0, 2**31 - 1),
    "maxclients": _number(1, 2**32 - 1),
    "requirepass": str,
    "acllog-max-len": _number(0, ACL_LOG_ENTRIES_MAX),
    "timeout": _number(0, 2**31 - 1),
    "slowlog-log-slower-than": _number(-1, 2**63 - 1),
    "slowlog-max-len": _number(0, 2**63 - 1),
    "tracking-table-max-keys": _number(1, RESP_TRACKED_KEYS_MAX),
    notifications.OPTION: notifications.checked,
}
_FORMER: Final = {"slave-read-only": "replica-read-only"}


@command("CONFIG", -2, "Options.", "admin", "noscript", "loading", "stale", "nomonitor")
async def config(client: Connection, args: list[bytes]) -> Any:
    name = word(args[1])
    if name == "GET":
        if len(args) < 3:
            raise wrong_arity("config|get")
        return await _get(client, args[2:])
    if name == "SET":
        if len(args) < 4 or len(args) % 2:
            raise wrong_arity("config|set")
        return await _set(client, args[2:])
    if name == "RESETSTAT":
        gateway = client.gateway
        gateway.commands = gateway.connections = gateway.rejected = gateway.bytes_in = gateway.bytes_out = 0
        gateway.errors.clear()
        gateway.rates.clear()
        gateway.rates.append((gateway.loop.time(), 0))
        gateway.base = await gateway.totals()
        return "OK"
    if name == "REWRITE":
        raise CommandFailed("ERR", "The server is running without a config file")
    raise unknown_subcommand(args)


async def _get(client: Connection, patterns: list[bytes]) -> dict[bytes, bytes]:
    known = _ACCEPTED | client.gateway.options | _fixed(client) | await _live(client)
    found = {}
    for pattern in patterns:
        match = compile_glob(pattern.lower()).fullmatch
        found |= {name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape") for name, value in known.items() if match(name.encode("utf-8", "surrogateescape"))}
    return found


def _failed(name: str, reason: str) -> CommandFailed:
    return CommandFailed("ERR", f"CONFIG SET failed (possibly related to argument '{name}') - {reason}")


async def _set(client: Connection, words: list[bytes]) -> Any:
    texts = [part.decode("utf-8", "surrogateescape") for part in words]
    wanted: dict[str, Any] = {}
    fixed = _fixed(client)
    for name, value in zip(texts[::2], texts[1::2], strict=True):
        lower = name.lower()
        if lower in wanted:
            raise _failed(name, "duplicate parameter")
        if lower in _SETTABLE:
            try:
                wanted[lower] = _SETTABLE[lower](value)
            except ConfigError as error:
                raise _failed(name, str(error)) from None
        elif lower in _ACCEPTED:
            wanted[lower] = value
        elif lower in fixed:
            if value != fixed[lower]:
                raise _failed(name, "can't set immutable config")
        else:
            raise CommandFailed("ERR", f"Unknown option or number of arguments for CONFIG SET - '{name}'")
    await _apply(client, wanted)
    return "OK"


async def _apply(client: Connection, wanted: dict[str, Any]) -> None:
    gateway = client.gateway
    engine: dict[str, Any] = {}
    for name, value in wanted.items():
        match name:
            case "maxmemory":
                engine["memory_bytes"] = value // gateway.route.slots.shards
            case "maxmemory-policy":
                engine["policy"] = value
            case "maxmemory-samples":
                engine["samples"] = value
            case "lfu-log-factor":
                engine["lfu_log_factor"] = value
            case "lfu-decay-time":
                engine["lfu_decay_ms"] = value * 60_000
            case _ if name in _COMPACT:
                engine[_COMPACT[name]] = value
            case "maxclients":
                gateway.clients_max = value
            case "requirepass":
                set_user(gateway.guard, DEFAULT, ["resetpass", ">" + value if value else "nopass"])
            case "acllog-max-len":
                gateway.guard.journal.length_max = value
            case "timeout":
                gateway.timeout_s = value
            case "slowlog-log-slower-than":
                gateway.note_slower_than(value)
            case "slowlog-max-len":
                gateway.slowlog.length_max = value
            case "tracking-table-max-keys":
                gateway.tracking.keys_max = value
            case notifications.OPTION:
                await notifications.change(gateway, value)
            case _:
                gateway.options[name] = value
    if engine:
        await asking.call_workers(gateway, "configure", **engine)
