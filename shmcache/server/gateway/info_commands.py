"""INFO in Redis' sections."""

import asyncio
import os
import platform
import resource
import time
from typing import Any, Final

from ...option_values import format_size
from . import asking
from .arguments import word
from .connection import Connection
from .replies import Verbatim
from .rows import command
from .versions import OWN_VERSION, REDIS_VERSION

SECTIONS: Final = (
    "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "errorstats", "cluster", "keyspace",
)  # fmt: skip
_ALL: Final = frozenset({"default", "all", "everything"})
_RUN_ID: Final = os.urandom(20).hex()


def _human(size: int) -> str:
    return format_size(size).replace(" ", "").replace("bytes", "B").replace("KB", "K").replace("MB", "M").replace("GB", "G")


@command("INFO", -1, "State and counters as text [section ...].", "loading", "stale")
async def info(client: Connection, args: list[bytes]) -> Any:
    asked = {word(part).lower() for part in args[1:]}
    chosen = [name for name in SECTIONS if not asked or asked & _ALL or name in asked]
    gateway = client.gateway
    shards = await asking.call_workers(gateway, "stats") if set(chosen) & {"memory", "stats", "keyspace", "persistence"} else []
    text = []
    for name in chosen:
        build = globals()[f"_{name}"]
        fields = build(client, shards)
        if asyncio.iscoroutine(fields):
            fields = await fields
        text.append(f"# {name.capitalize() if name != 'cpu' else 'CPU'}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items()))
    return Verbatim("\r\n".join(text))


def _total(shards: list[Any], name: str) -> int:
    return sum(shard.get(name, 0) for shard in shards)


def _server(client: Connection, shards: list[Any]) -> dict[str, Any]:
    gateway = client.gateway
    uptime = int(time.time() - gateway.started)
    return {
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": 0,
        "redis_mode": "standalone",
        "shmcache_version": OWN_VERSION,
        "instance": gateway.instance,
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": 64,
        "multiplexing_api": "epoll",
        "gateway_processes": gateway.settings["processes"],
        "process_id": os.getpid(),
        "process_supervised": "yes",
        "run_id": _RUN_ID,
        "tcp_port": gateway.settings["port"],
        "server_time_usec": time.time_ns() // 1000,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime // 86_400,
        "hz": 10,
        "configured_hz": 10,
        "executable": "shmcache",
        "config_file": "",
    }


def _clients(client: Connection, shards: list[Any]) -> dict[str, Any]:
    others = client.gateway.clients.values()
    return {
        "connected_clients": len(others),
        "cluster_connections": 0,
        "maxclients": client.gateway.clients_max,
        "client_recent_max_input_buffer": max((other.requests.waiting_bytes for other in others), default=0),
        "client_recent_max_output_buffer": max((other.transport.get_write_buffer_size() for other in others), default=0),
        "blocked_clients": len(client.gateway.blocked),
        "tracking_clients": len(client.gateway.tracking.clients),
        "pubsub_clients": sum(other.subscriber is not None and other.subscriber.total > 0 for other in others),
        "clients_in_timeout_table": 0,
    }


def _memory(client: Connection, shards: list[Any]) -> dict[str, Any]:
    used, limit = _total(shards, "used_bytes"), _total(shards, "memory_bytes")
    committed = _total(shards, "heap_committed_bytes")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_rss": committed + rss,
        "used_memory_peak": used,
        "used_memory_peak_human": _human(used),
        "used_memory_dataset": _total(shards, "heap_used_bytes"),
        "total_system_memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "used_memory_lua": 0,
        "used_memory_scripts": 0,
        "maxmemory": limit,
        "maxmemory_human": _human(limit),
        "maxmemory_policy": shards[0].get("policy", client.gateway.settings["policy"]),
        "mem_fragmentation_ratio": f"{committed / max(1, used):.2f}",
        "mem_allocator": "shmcache",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": 0,
    }


async def _persistence(client: Connection, shards: list[Any]) -> dict[str, Any]:
    settings = client.gateway.settings
    status: dict[str, Any] = {}
    try:
        status = await asking.call_process(client.gateway, "keeper", "status")
    except Exception:
        status = {}
    last = status.get("last_snapshot") or {}
    return {
        "loading": 0,
        "async_loading": 0,
        "rdb_changes_since_last_save": status.get("records_since_snapshot", _total(shards, "log_seq")),
        "rdb_bgsave_in_progress": int(bool(status.get("making"))),
        "rdb_last_save_time": last.get("ended_ms", int(client.gateway.started * 1000)) // 1000,
        "rdb_last_bgsave_status": "err" if status.get("last_error") else "ok",
        "rdb_last_bgsave_time_sec": -1,
        "rdb_current_bgsave_time_sec": -1,
        "aof_enabled": int(settings["aof"] != "off"),
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": "ok",
    }


def _stats(client: Connection, shards: list[Any]) -> dict[str, Any]:
    gateway = client.gateway
    base = gateway.base
    return {
        "total_connections_received": gateway.connections,
        "total_commands_processed": gateway.commands,
        "instantaneous_ops_per_sec": gateway.rate,
        "total_net_input_bytes": gateway.bytes_in,
        "total_net_output_bytes": gateway.bytes_out,
        "rejected_connections": gateway.rejected,
        "sync_full": 0,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_keys": _total(shards, "expired") - base.get("expired", 0),
        "evicted_keys": _total(shards, "evicted") - base.get("evicted", 0),
        "keyspace_hits": _total(shards, "hits") - base.get("hits", 0),
        "keyspace_misses": _total(shards, "misses") - base.get("misses", 0),
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
        "latest_fork_usec": 0,
        "tracking_total_keys": gateway.tracking.keys,
        "tracking_total_items": gateway.tracking.items,
        "tracking_total_prefixes": gateway.tracking.prefixes,
        "total_error_replies": sum(gateway.errors.values()),
        "worker_batches": gateway.lanes.batches,
        "worker_commands": gateway.lanes.commands,
    }


async def _replication(client: Connection, shards: list[Any]) -> dict[str, Any]:
    from .server_commands import replication_state

    state = await replication_state(client.gateway)
    fields: dict[str, Any] = {"role": "slave" if state["is_replica"] else "master"}
    if state["is_replica"]:
        fields |= {
            "master_host": state["host"],
            "master_port": state["port"],
            "master_link_status": "up" if state["is_up"] else "down",
            "master_last_io_seconds_ago": 0 if state["is_up"] else -1,
            "master_sync_in_progress": int(state["is_copying"]),
            "slave_read_only": 1,
            "slave_repl_offset": state["offset"],
        }
    fields["connected_slaves"] = len(state["replicas"])
    for number, replica in enumerate(state["replicas"]):
        fields[f"slave{number}"] = f"ip={replica['host']},port={replica['port']},state=online,offset={replica['offset']},lag=0"
    return fields | {
        "master_failover_state": "no-failover",
        "master_replid": state["history"],
        "master_repl_offset": state["offset"],
        "repl_backlog_active": 1,
    }


def _cpu(client: Connection, shards: list[Any]) -> dict[str, Any]:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "used_cpu_sys": f"{own.ru_stime:.6f}",
        "used_cpu_user": f"{own.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
    }


def _modules(client: Connection, shards: list[Any]) -> dict[str, Any]:
    return {}


def _errorstats(client: Connection, shards: list[Any]) -> dict[str, Any]:
    return {f"errorstat_{code}": f"count={count}" for code, count in sorted(client.gateway.errors.items())}


def _cluster(client: Connection, shards: list[Any]) -> dict[str, Any]:
    return {"cluster_enabled": 0}


def _keyspace(client: Connection, shards: list[Any]) -> dict[str, Any]:
    keys = _total(shards, "keys")
    if not keys:
        return {}
    return {"db0": f"keys={keys},expires={_total(shards, 'expires')},avg_ttl=0"}
