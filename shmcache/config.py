"""Every option of a server, declared once: group, name, type, unit, default, meaning.

An option's value comes from the command line, else the environment (`SHMCACHE_<NAME>`), else the TOML file
(its group is the table), else the default here. The reference page and the command line are made from it.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from .errors import ConfigError
from .limits import CHANNEL_MESSAGE_BYTES_MAX, CHANNEL_UPSTREAMS_MAX
from .protocol.directory import ROUTER_ENDPOINTS_MAX, SHARDS_MAX
from .protocol.names import check_instance_name

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
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(value: object) -> object:
    """Bytes of "4GB", "512 MiB", "65536" (powers of 1024, as in Redis). What is not text is left to the type
    check.
    """
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("expected a size such as 512MB or 4GB")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def format_size(size_bytes: float) -> str:
    """ "4.0 GB" for people; the unit is a power of 1024."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TB"


def _parse_list(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


Size = Annotated[int, BeforeValidator(parse_size)]
TextList = Annotated[tuple[str, ...], BeforeValidator(_parse_list)]


NOTIFY_LETTERS: Final = "KEg$xeAI"


def _is_tcp(endpoint: str) -> bool:
    match = re.fullmatch(r"tcp://(?:\[[0-9a-fA-F:]+\]|[^:/\s]+):(\d{1,5})", endpoint)
    return match is not None and int(match[1]) <= 65535 and len(endpoint) <= 120


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InstanceConfig(_Group):
    """What the instance is and how it starts and stops."""

    name: str = Field(default="default", description="Name of the instance; local clients find it by this.")
    workers: int = Field(
        default=0, ge=0, le=SHARDS_MAX, description="Worker processes (= shards); 0 is one per core."
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


class MemoryConfig(_Group):
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


class NetworkConfig(_Group):
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


class LimitsConfig(_Group):
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
    unavailable_wait: int = Field(
        default=1_000,
        ge=0,
        description="How long the router holds a request for a shard that is down.",
        json_schema_extra={"unit": "ms"},
    )


class ChannelsConfig(_Group):
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
        description="Events of keys as messages: letters K E g $ x e A as in Redis' notify-keyspace-events, "
        "and I for `__invalidate__`; empty is none.",
    )

    @field_validator("channels_listen")
    @classmethod
    def _channels_listen(cls, value: str) -> str:
        if value and not _is_tcp(value):
            raise ValueError(f"{value!r} is not tcp://HOST:PORT")
        return value

    @field_validator("channels_upstream")
    @classmethod
    def _channels_upstream(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > CHANNEL_UPSTREAMS_MAX:
            raise ValueError(f"at most {CHANNEL_UPSTREAMS_MAX} endpoints")
        for endpoint in value:
            if not _is_tcp(endpoint):
                raise ValueError(f"{endpoint!r} is not tcp://HOST:PORT")
        return value

    @field_validator("notify")
    @classmethod
    def _notify(cls, value: str) -> str:
        unknown = set(value) - set(NOTIFY_LETTERS)
        if unknown:
            raise ValueError(f"unknown letters {''.join(sorted(unknown))!r}, there are {NOTIFY_LETTERS}")
        return value


class LogConfig(_Group):
    """What the server says about itself, on stderr."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important level shown."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto` is console on a terminal, else json."
    )


class Config(BaseModel):
    """All options of one server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: InstanceConfig = InstanceConfig()
    memory: MemoryConfig = MemoryConfig()
    network: NetworkConfig = NetworkConfig()
    limits: LimitsConfig = LimitsConfig()
    channels: ChannelsConfig = ChannelsConfig()
    log: LogConfig = LogConfig()


@dataclass(frozen=True, slots=True)
class Option:
    """One option as the command line and the documentation see it."""

    group: str
    name: str
    kind: type
    """bool, int, str or tuple (a list of texts, comma-separated or repeated)."""
    choices: tuple[str, ...]
    default: Any
    unit: str
    doc: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        return "SHMCACHE_" + self.name.upper()

    @property
    def default_text(self) -> str:
        if self.kind is tuple:
            return ",".join(self.default)
        return (
            format_size(self.default).replace(" ", "") if self.unit == "bytes" else str(self.default).lower()
        )


def _option(group: str, name: str, field: FieldInfo) -> Option:
    kind: Any = field.annotation
    choices: tuple[str, ...] = ()
    if get_origin(kind) is Literal:
        kind, choices = str, get_args(kind)
    elif get_origin(kind) is tuple:
        kind = tuple
    assert kind in (bool, int, str, tuple), name
    assert field.description, name
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return Option(group, name, kind, choices, field.default, str(extra.get("unit", "")), field.description)


OPTIONS: Final = tuple(
    _option(group, name, field)
    for group, model in Config.model_fields.items()
    for name, field in model.annotation.model_fields.items()  # type: ignore[union-attr]
)
_BY_NAME: Final = {option.name: option for option in OPTIONS}
assert len(_BY_NAME) == len(OPTIONS), "option names are flags and variables: unique over all groups"


def _from_file(path: str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path}: {error}") from None
    values: dict[str, Any] = {}
    for group, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{group}: options stand in a table such as [instance] (from file {path})")
        for name, value in table.items():
            option = _BY_NAME.get(name)
            if option is None or option.group != group:
                raise ConfigError(f"{group}.{name}: there is no such option (from file {path})")
            values[name] = value
    return values


def load(
    arguments: Mapping[str, Any] | None = None,
    config_file: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration in force. `arguments` are those of the command line by option name; None is "not
    given".

    Raises ConfigError that names the option and where its value came from. Unknown variables in the
    environment
    are left alone: Kubernetes puts its own SHMCACHE_... there for a service of that name.
    """
    values: dict[str, tuple[Any, str]] = {}
    if config_file is not None:
        values |= {name: (value, f"file {config_file}") for name, value in _from_file(config_file).items()}
    for option in OPTIONS:
        if option.env in environ:
            values[option.name] = (environ[option.env], f"environment variable {option.env}")
    for name, value in (arguments or {}).items():
        if name not in _BY_NAME:
            raise ConfigError(f"{name}: there is no such option (from the command line)")
        if value is not None:
            values[name] = (value, f"command line {_BY_NAME[name].flag}")
    groups: dict[str, dict[str, Any]] = {}
    for name, (value, _) in values.items():
        groups.setdefault(_BY_NAME[name].group, {})[name] = value
    try:
        return Config.model_validate(groups)
    except ValidationError as error:
        first = error.errors()[0]
        option_name = str(first["loc"][1])
        value, source = values[option_name]
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{option_name}: {reason}, got {value!r} (from {source})") from None


def reference() -> str:
    """The text of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "<!-- Generated from shmcache/config.py by `python -m shmcache.config`; do not edit. -->",
        "",
        "An option comes from the command line, else the environment, else the TOML file given by",
        "`--config` (its group is the table), else the default. Sizes take KB, MB, GB, TB (powers of 1024).",
        "Options that do not exist, in the file or on the command line, are errors.",
    ]
    for group, model in Config.model_fields.items():
        lines += ["", f"## [{group}]", "", str(model.annotation.__doc__), ""]
        lines += ["| option | variable | type | default | meaning |", "| --- | --- | --- | --- | --- |"]
        for option in (option for option in OPTIONS if option.group == group):
            kind = " \\| ".join(option.choices) or ("list" if option.kind is tuple else option.kind.__name__)
            unit = f", {option.unit}" if option.unit else ""
            default = f"`{option.default_text}`" if option.default_text else "(empty)"
            lines.append(f"| `{option.flag}` | `{option.env}` | {kind}{unit} | {default} | {option.doc} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
