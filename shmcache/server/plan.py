"""What the configuration means on this host: numbers, names, settings of the children. No processes here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _engine
from ..config import Config, format_size
from ..errors import ConfigError
from ..limits import PAGE_BYTES
from ..protocol.directory import SHARDS_MAX, even_slots
from ..protocol.security import Security, security_settings
from ..protocol.slots import slot_ranges
from ..resp_options import RespConfig
from .paths import ipc_endpoint


@dataclass(frozen=True, slots=True)
class Plan:
    """An instance to be started."""

    instance: str
    workers: int
    shard_memory_bytes: int
    folder: Path
    gid: int
    epoch: int
    cores: tuple[int, ...]
    """One for each worker; empty when they are not pinned."""


def make_plan(config: Config, cores: set[int], folder: Path, gid: int, epoch: int) -> Plan:
    """The plan for a host with these usable cores. Raises ConfigError when the options contradict each
    other.
    """
    # People with Redis clients give several keys to one command, which must be in one shard: more shards are their choice.
    workers = min(config.instance.workers or (1 if config.resp.resp or config.resp.resp_tls else len(cores)), SHARDS_MAX)
    shard_memory = config.memory.memory // workers
    if shard_memory < _engine.MIN_MEMORY_BYTES:
        raise ConfigError(
            f"memory: {format_size(config.memory.memory)} over {workers} workers is "
            f"{format_size(shard_memory)} each; a shard needs at least "
            f"{format_size(_engine.MIN_MEMORY_BYTES)}: give more memory or fewer workers"
        )
    pinned = config.instance.pin and len(cores) >= workers
    return Plan(
        config.instance.name,
        workers,
        shard_memory,
        folder,
        gid,
        epoch,
        tuple(sorted(cores)[:workers] if pinned else ()),
    )


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


def worker_settings(config: Config, plan: Plan, shard: int, create: bool) -> dict[str, Any]:
    """Settings of one worker process, as JSON can carry them."""
    return {
        "instance": plan.instance,
        "shard": shard,
        "shards": plan.workers,
        "create": create,
        "apply_options": True,
        "memory": {
            "memory_bytes": plan.shard_memory_bytes,
            "policy": config.memory.policy,
            "samples": config.memory.samples,
            "lfu_log_factor": config.memory.lfu_log_factor,
            "lfu_decay_ms": config.memory.lfu_decay,
        },
        "compact": config.collections.model_dump(),
        "log_bytes": -(-config.memory.log_size // PAGE_BYTES) * PAGE_BYTES,
        "message_bytes": config.limits.message_size,
        "endpoint": ipc_endpoint(plan.folder, plan.instance, f"w{shard}"),
        "epoch": plan.epoch,
        "gid": plan.gid,
        "core": plan.cores[shard] if plan.cores else None,
        "folder": str(plan.folder),
        "data_dir": _absolute(config.persistence.data_dir),
        "data_key_file": _absolute(config.persistence.data_key_file),
        "restore": None,
        "replica_of": "",
        "node": config.replication.node,
        "tombstone_life_ms": config.replication.tombstone_life,
        "ack": config.replication.ack,
        "ack_timeout_ms": config.replication.ack_timeout,
        "min_replicas": config.replication.min_replicas_to_write,
        "script_time_ms": config.limits.script_time,
        "log_level": config.log.log_level,
        "log_format": config.log.log_format,
    }


def router_settings(config: Config, plan: Plan) -> dict[str, Any]:
    """Settings of the router process."""
    return {
        "instance": plan.instance,
        "listen": [*config.network.listen, ipc_endpoint(plan.folder, plan.instance, "router")],
        "message_bytes": config.limits.message_size,
        "outstanding_per_client": config.limits.outstanding_per_client,
        "outstanding_per_shard": config.limits.outstanding_per_shard,
        "unavailable_wait_ms": config.limits.unavailable_wait,
        "security": security_settings(config),
        "gid": plan.gid,
        "log_level": config.log.log_level,
        "log_format": config.log.log_format,
    }


def keeper_settings(config: Config, plan: Plan) -> dict[str, Any] | None:
    """Settings of the process that keeps data on disk; None if there is nothing to keep. Raises ConfigError."""
    options = config.persistence
    if not options.data_dir:
        if options.aof != "off" or options.snapshot_every or options.snapshot_after_writes or options.until or options.archive or options.restore:
            raise ConfigError("data_dir: a folder is needed for snapshots, the append-only file, archive and restore: give --data-dir")
        return None
    return {
        "instance": plan.instance,
        "endpoint": ipc_endpoint(plan.folder, plan.instance, "keeper"),
        "data_dir": str(Path(options.data_dir).absolute()),
        "aof": options.aof,
        "aof_segment_bytes": options.aof_segment_size,
        "snapshot_every_ms": options.snapshot_every,
        "snapshot_after_writes": options.snapshot_after_writes,
        "snapshot_keep": options.snapshot_keep,
        "snapshot_level": options.snapshot_compression,
        "data_key_file": _absolute(options.data_key_file),
        "archive": options.archive,
        "archive_every_ms": options.archive_every,
        "archive_keep": options.archive_keep,
        "archive_verify": options.archive_verify,
        "message_bytes": config.limits.message_size,
        "folder": str(plan.folder),
        "gid": plan.gid,
        "log_level": config.log.log_level,
        "log_format": config.log.log_format,
    }


def needs_relay(config: Config) -> bool:
    """Whether anything is configured that is the relay's to do."""
    return bool(config.replication.relay_listen or config.replication.replica_of or config.replication.peers)


def relay_settings(config: Config, plan: Plan) -> dict[str, Any]:
    """Settings of the relay process. Raises ConfigError when the options contradict each other."""
    options = config.replication
    if options.peers and options.replica_of:
        raise ConfigError("peers: an instance is a replica or has two-way peers, not both")
    if options.peers and not options.node:
        raise ConfigError("node: two-way peers need a number each, 1 to 511, no two the same: give --node")
    return {
        "instance": plan.instance,
        "endpoint": ipc_endpoint(plan.folder, plan.instance, "relay"),
        "relay_listen": options.relay_listen or _relay_address(config),
        "replica_of": options.replica_of,
        "peers": list(options.peers),
        "node": options.node,
        "announce": options.announce,
        "forward_writes": options.forward_writes,
        "replicas": options.replicas,
        "lag_bytes_max": options.min_replicas_lag,
        "compress": options.compress,
        "lost_writes_folder": options.lost_writes_folder,
        "security": security_settings(config),
        "slot_ranges": slot_ranges(even_slots(plan.workers)),
        "message_bytes": config.limits.message_size,
        "folder": str(plan.folder),
        "gid": plan.gid,
        "log_level": config.log.log_level,
        "log_format": config.log.log_format,
    }


def _relay_address(config: Config) -> str:
    """Where the relay listens if nothing is said: beside the router, at free ports."""
    listen = config.network.listen
    return listen[0].rpartition(":")[0] + ":0" if listen else ""


def hub_settings(config: Config, plan: Plan) -> dict[str, Any]:
    """Settings of the process of the pub/sub channels."""
    channels = config.channels
    listen = [ipc_endpoint(plan.folder, plan.instance, part) for part in ("hub", "channels")]
    security = Security(**security_settings(config))
    routers = config.network.listen
    if channels.channels_listen:
        secured = security.needs_curve(channels.channels_listen)
        if routers and all(security.needs_curve(endpoint) != secured for endpoint in routers):
            raise ConfigError(
                "channels_listen: CURVE there and none at the router, or the other way round: clients, who ask the router "
                "for it, do the same at both. Let both be loopback or both not, or say --curve on or --curve off"
            )
        host, _, port = channels.channels_listen.rpartition(":")
        listen += [channels.channels_listen, f"{host}:{int(port) + 1 if int(port) else 0}"]
    elif routers:
        listen += [routers[0].rpartition(":")[0] + ":*"] * 2
    security.check(listen, channels.channels_upstream)
    return {
        "instance": plan.instance,
        "listen": listen,
        "message_bytes": channels.channel_message_size,
        "queue_messages": channels.channel_queue,
        "replay_messages": channels.channel_replay_messages,
        "replay_seconds": channels.channel_replay_seconds,
        "replay_bytes": channels.channel_replay_bytes,
        "notify": channels.notify,
        "upstream": list(channels.channels_upstream),
        "security": security_settings(config),
        "gid": plan.gid,
        "log_level": config.log.log_level,
        "log_format": config.log.log_format,
    }


def gateway_settings(config: Config, plan: Plan) -> list[dict[str, Any]]:
    """Settings of the processes of the RESP port, without the port in force; empty if there is none. Raises ConfigError."""
    options = config.resp
    listen = options.resp
    if not listen and not options.resp_tls:
        return []
    host, _, port = listen.rpartition(":")
    common = {
        "instance": plan.instance,
        "listen": listen,
        "host": host.strip("[]"),
        "port": int(port or 0),
        "tls": _tls_settings(options),
        "protected": options.resp_protected,
        "acl_file": _absolute(options.resp_acl_file),
        "processes": config.resp.resp_processes,
        "clients_max": config.resp.resp_clients,
        "timeout_s": config.resp.resp_timeout,
        "output_bytes": config.resp.resp_output,
        "folder": str(plan.folder),
        "memory_bytes": config.memory.memory,
        "policy": config.memory.policy,
        "aof": config.persistence.aof,
        "has_keeper": bool(config.persistence.data_dir),
        "gid": plan.gid,
        "log_level": config.log.log_level,
        "log_format": config.log.log_format,
    }
    return [common | {"number": number, "tls": common["tls"] and dict(common["tls"])} for number in range(config.resp.resp_processes)]


def _tls_settings(options: RespConfig) -> dict[str, Any] | None:
    """Of the RESP port. Raises ConfigError."""
    if not options.resp_tls:
        return None
    if not options.resp_tls_cert or not options.resp_tls_key:
        raise ConfigError("resp_tls: it needs a certificate and its key: resp_tls_cert, resp_tls_key")
    host, _, port = options.resp_tls.rpartition(":")
    return {
        "listen": options.resp_tls,
        "host": host.strip("[]"),
        "port": int(port),
        "cert": _absolute(options.resp_tls_cert),
        "key": _absolute(options.resp_tls_key),
        "ca": _absolute(options.resp_tls_ca),
        "clients": options.resp_tls_clients,
    }


def metrics_settings(config: Config, plan: Plan) -> dict[str, Any] | None:
    """Settings of the process that serves metrics; None if it is not wanted."""
    listen = config.metrics.metrics
    if not listen:
        return None
    host, _, port = listen.rpartition(":")
    return {
        "instance": plan.instance,
        "listen": listen,
        "host": host.strip("[]"),
        "port": int(port),
        "relay": ipc_endpoint(plan.folder, plan.instance, "relay"),
        "log_level": config.log.log_level,
        "log_format": config.log.log_format,
    }
