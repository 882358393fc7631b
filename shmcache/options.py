"""Every option of a server, declared once: group, name, type, unit, default, meaning. `config` reads them."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .errors import ConfigError
from .limits import CHANNEL_MESSAGE_BYTES_MAX, CHANNEL_UPSTREAMS_MAX, PEERS_MAX, REPLICAS_MAX
from .option_values import NOTIFY_LETTERS, Duration, Moment, Size, TextList, is_tcp
from .protocol.directory import ROUTER_ENDPOINTS_MAX, SHARDS_MAX
from .protocol.names import check_address, check_instance_name
from .protocol.needs import parse_ack

POLICIES = (
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
)


class Group(BaseModel):
    """Options that stand in one table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InstanceConfig(Group):
    """What the instance is and how it starts and stops."""

    name: str = Field(default="default", description="Name of the instance; local clients find it by this.")
    workers: int = Field(
        default=0, ge=0, le=SHARDS_MAX, description="Worker processes (= shards); 0 is one per core, with `resp` one in all: keys of one Redis command must share a shard."
    )
    pin: bool = Field(
        default=True, description="Bind each worker to a core of its own, when there are enough cores."
    )
    cold: bool = Field(default=False, description="Start empty: remove what an earlier run left in /dev/shm.")
    ephemeral: bool = Field(
        default=False, description="Remove all data from /dev/shm at a stop; else it stays for a warm start."
    )
    group: str = Field(
        default="", description="Unix group whose members may use the instance; empty is the own user only."
    )
    runtime_dir: str = Field(
        default="",
        description="Folder of the sockets; empty: `$XDG_RUNTIME_DIR/shmcache`, else `/tmp/shmcache-<uid>`.",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        try:
            return check_instance_name(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None


class MemoryConfig(Group):
    """How much is kept, and what goes when it is full."""

    memory: Size = Field(
        default=1 << 30,
        ge=1,
        description="Memory for data, over all shards.",
        json_schema_extra={"unit": "bytes"},
    )
    policy: Literal[POLICIES] = Field(
        default="allkeys-lru", description="What is evicted when the memory is full."
    )  # type: ignore[valid-type]
    samples: int = Field(default=10, ge=1, le=64, description="Entries compared for each eviction.")
    lfu_log_factor: int = Field(
        default=10, ge=0, le=1000, description="How slowly the frequency counter of lfu grows."
    )
    lfu_decay: int = Field(
        default=60_000,
        ge=0,
        description="Time after which an unused frequency counter loses one.",
        json_schema_extra={"unit": "ms"},
    )
    log_size: Size = Field(
        default=16 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Write log ring of each shard.",
        json_schema_extra={"unit": "bytes"},
    )


class NetworkConfig(Group):
    """Where clients that are not on the host connect."""

    listen: TextList = Field(
        default=(), description="Endpoints of the router, `tcp://HOST:PORT`; port 0 takes a free one."
    )

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in value:
            if not re.fullmatch(r"tcp://(\[[0-9a-fA-F:]+\]|[^:/\s]+):(\d{1,5}|\*)", endpoint):
                raise ValueError(f"{endpoint!r} is not tcp://HOST:PORT")
            if not endpoint.endswith("*") and int(endpoint.rpartition(":")[2]) > 65535:
                raise ValueError(f"{endpoint!r}: ports end at 65535")
            if len(endpoint) > 120:
                raise ValueError(f"{endpoint!r} is longer than 120 characters")
        if len(value) >= ROUTER_ENDPOINTS_MAX:
            raise ValueError(f"at most {ROUTER_ENDPOINTS_MAX - 1} endpoints")
        return value


class SecurityConfig(Group):
    """Who may connect from other hosts, and encryption on the way: docs/security.md."""

    curve: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Encrypt and authenticate tcp connections; `auto`: wherever it is not loopback.",
    )
    server_key: str = Field(
        default="",
        description="File with this instance's key pair (`shmcache keys generate`), mode 0600.",
    )
    authorized: str = Field(
        default="",
        description="Public keys of clients and peers that may connect: a folder of `.pub` files, or a "
        "file of lines `KEY NAME`. Changes hold at once for new connections.",
    )
    peer_keys: str = Field(
        default="",
        description="Server keys of peer instances: one public key or its file, or a folder or file as "
        "for `authorized` with keys named by host.",
    )


class LimitsConfig(Group):
    """What one client can make the server hold."""

    message_size: Size = Field(
        default=528 << 20,
        ge=1 << 10,
        description="Largest request; a client that sends a larger one is disconnected.",
        json_schema_extra={"unit": "bytes"},
    )
    outstanding_per_client: int = Field(
        default=1_000,
        ge=1,
        description="Requests of one client that the router holds unanswered.",
        json_schema_extra={"unit": "requests"},
    )
    outstanding_per_shard: int = Field(
        default=10_000,
        ge=1,
        description="Requests for one shard that the router holds unanswered.",
        json_schema_extra={"unit": "requests"},
    )
    script_time: int = Field(default=4_000, ge=10, le=600_000, json_schema_extra={"unit": "ms"}, description="How long a script (EVAL, FCALL) may run.")
    unavailable_wait: int = Field(
        default=1_000,
        ge=0,
        description="How long the router holds a request for a shard that is down.",
        json_schema_extra={"unit": "ms"},
    )


def _check_address(value: str) -> str:
    try:
        return check_address(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


class PersistenceConfig(Group):
    """What is kept on disk, and when."""

    data_dir: str = Field(
        default="", description="Folder for snapshots and the append-only file; empty: nothing is kept on disk."
    )
    aof: Literal["off", "no", "everysec", "always"] = Field(
        default="off",
        description="Append-only file: `always` answers a write when it is on the disk, `everysec` syncs once a second, `no` leaves it to the system.",
    )
    aof_on_error: Literal["refuse", "continue"] = Field(
        default="refuse", description="What happens to writes while the append-only file is full or has failed."
    )
    aof_segment_size: Size = Field(
        default=64 << 20,
        ge=1 << 16,
        description="A larger file of the log is ended and the next begun.",
        json_schema_extra={"unit": "bytes"},
    )
    snapshot_every: Duration = Field(
        default=0, ge=0, description="Time between two snapshots (`300s`, `5m`); 0: none by time.", json_schema_extra={"unit": "ms"}
    )
    snapshot_after_writes: int = Field(
        default=0, ge=0, description="Log records after which a snapshot is made; 0: none by number."
    )
    snapshot_keep: int = Field(default=3, ge=1, le=1_000, description="Snapshots that are kept, with the log that follows them.")
    data_key_file: str = Field(
        default="",
        description="Encrypt what is written to disk, with the first key in this file (`shmcache keys generate --data FILE`), mode 0600.",
    )
    archive: str = Field(
        default="",
        description="Where finished snapshots and log segments are copied to: `s3://BUCKET/PREFIX`, `gs://`, `az://` or `file:///FOLDER`. "
        "Credentials and endpoint come from the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).",
    )
    archive_every: Duration = Field(
        default=60_000,
        ge=100,
        description="A log segment with records is ended and archived after this time.",
        json_schema_extra={"unit": "ms"},
    )
    archive_keep: int = Field(default=7, ge=1, le=10_000, description="Snapshots that the archive keeps, with the log that follows them.")
    archive_verify: bool = Field(default=False, description="Read back and compare every object that was archived.")
    restore: str = Field(
        default="",
        description="URL of an archive to begin with, if there are no data in /dev/shm and in the data folder; with `--replica-of` the log is "
        "then followed from there.",
    )
    snapshot_compression: int = Field(default=1, ge=0, le=19, description="Level of zstd; 0: not compressed.")
    until: Moment = Field(
        default=0,
        ge=0,
        description="With `--cold`: begin with the data as they were at that time (`2026-11-24T18:00:00Z`, or unix seconds).",
        json_schema_extra={"unit": "ms"},
    )

    @field_validator("archive", "restore")
    @classmethod
    def _store(cls, value: str) -> str:
        if value and not re.fullmatch(r"(s3|gs|az)://[^/\s]+(/\S*)?|file:///\S+", value):
            raise ValueError("expected s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER")
        return value.rstrip("/")


class ReplicationConfig(Group):
    """Other instances: which one this follows, and who follows this one."""

    relay_listen: str = Field(
        default="",
        description="Where replicas connect, `tcp://HOST:PORT`; the next port publishes the logs. Port 0 takes free ones.",
    )
    replica_of: str = Field(
        default="", description="Router address (`--listen`) of the primary that this instance follows, `tcp://HOST:PORT`."
    )
    peers: TextList = Field(
        default=(), description="Router addresses of instances that this one replicates with in both directions."
    )
    node: int = Field(
        default=0, ge=0, le=511, description="Number of this instance among two-way peers, 1 to 511; 0: it has none."
    )
    tombstone_life: int = Field(
        default=3_600_000,
        ge=1_000,
        description="How long two-way peers remember a deletion; a longer separation may bring deleted keys back.",
        json_schema_extra={"unit": "ms"},
    )
    announce: str = Field(
        default="",
        description="Router address by which other instances reach this one; empty: the first of `--listen` that names a host.",
    )
    forward_writes: bool = Field(
        default=False, description="A replica passes writes on to its primary instead of refusing them."
    )
    ack: str = Field(
        default="0", description="Replicas that must have a write before it is answered: a number, `quorum` or `all`."
    )
    ack_timeout: int = Field(
        default=1_000, ge=1, description="Patience for these acknowledgements.", json_schema_extra={"unit": "ms"}
    )
    replicas: int = Field(
        default=0,
        ge=0,
        le=REPLICAS_MAX,
        description="Replicas that count for `quorum` and `all` also while they are away; 0: all that have ever connected.",
    )
    min_replicas_to_write: int = Field(
        default=0, ge=0, le=REPLICAS_MAX, description="Writes are refused while fewer replicas are connected and close."
    )
    min_replicas_lag: Size = Field(
        default=16 << 20,
        ge=0,
        description="How far behind a replica may be to count as close.",
        json_schema_extra={"unit": "bytes"},
    )
    compress: bool = Field(default=False, description="Publish the logs compressed (zstd).")
    lost_writes_folder: str = Field(
        default="",
        description="Where a former primary saves the writes that its successor never got; empty: they are counted only.",
    )

    @field_validator("relay_listen", "replica_of", "announce")
    @classmethod
    def _address(cls, value: str) -> str:
        return _check_address(value) if value else value

    @field_validator("peers")
    @classmethod
    def _peers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > PEERS_MAX:
            raise ValueError(f"at most {PEERS_MAX} peers")
        return tuple(map(_check_address, value))

    @field_validator("ack")
    @classmethod
    def _ack(cls, value: str) -> str:
        try:
            return str(parse_ack(value))
        except ConfigError as error:
            raise ValueError(str(error)) from None


class ChannelsConfig(Group):
    """Pub/sub channels (docs/pubsub.md)."""

    channels: bool = Field(
        default=True, description="Run the hub, the process that carries pub/sub messages."
    )
    channels_listen: str = Field(
        default="",
        description="Where the hub listens for other hosts, `tcp://HOST:PORT` (messages go out at PORT + 1); "
        "empty: free ports of the first `--listen` host, if there is one.",
    )
    channels_upstream: TextList = Field(
        default=(), description="Routers of the instance that this one's channels are joined to; one is used."
    )
    channel_message_size: Size = Field(
        default=1 << 20,
        ge=1,
        le=CHANNEL_MESSAGE_BYTES_MAX,
        description="Largest message.",
        json_schema_extra={"unit": "bytes"},
    )
    channel_queue: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Messages that wait for one slow subscriber; what comes then is dropped for it.",
        json_schema_extra={"unit": "messages"},
    )
    channel_replay_messages: int = Field(
        default=0,
        ge=0,
        description="Newest messages of each channel kept for late subscribers; 0: as many as the time "
        "allows.",
        json_schema_extra={"unit": "messages"},
    )
    channel_replay_seconds: int = Field(
        default=0,
        ge=0,
        description="Age up to which messages are kept; 0: of any age. Nothing is kept if both are 0.",
        json_schema_extra={"unit": "s"},
    )
    channel_replay_bytes: Size = Field(
        default=64 << 20,
        ge=1,
        description="Memory for kept messages, over all channels; the oldest go first.",
        json_schema_extra={"unit": "bytes"},
    )
    notify: str = Field(
        default="",
        description="Events of keys as messages: letters K E g $ l s h z x e A as in Redis' notify-keyspace-events, "
        "and I for `__invalidate__`; empty is none.",
    )

    @field_validator("channels_listen")
    @classmethod
    def _channels_listen(cls, value: str) -> str:
        if value and not is_tcp(value):
            raise ValueError(f"{value!r} is not tcp://HOST:PORT")
        return value

    @field_validator("channels_upstream")
    @classmethod
    def _channels_upstream(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > CHANNEL_UPSTREAMS_MAX:
            raise ValueError(f"at most {CHANNEL_UPSTREAMS_MAX} endpoints")
        for endpoint in value:
            if not is_tcp(endpoint):
                raise ValueError(f"{endpoint!r} is not tcp://HOST:PORT")
        return value

    @field_validator("notify")
    @classmethod
    def _notify(cls, value: str) -> str:
        unknown = set(value) - set(NOTIFY_LETTERS)
        if unknown:
            raise ValueError(f"unknown letters {''.join(sorted(unknown))!r}, there are {NOTIFY_LETTERS}")
        return value
