"""The configuration of a server, as it is read: `options` declares what there is.

An option's value comes from the command line, else the environment (`SHMCACHE_<NAME>`), else the TOML file
(its group is the table), else the default. The reference page and the command line are made from it.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from .collection_options import CollectionsConfig
from .errors import ConfigError
from .option_values import format_size, parse_size
from .options import (
    ChannelsConfig,
    InstanceConfig,
    LimitsConfig,
    LogConfig,
    MemoryConfig,
    MetricsConfig,
    NetworkConfig,
    PersistenceConfig,
    ReplicationConfig,
    SecurityConfig,
)
from .resp_options import RespConfig

__all__ = ["OPTIONS", "Config", "Option", "format_size", "load", "parse_size", "reference"]


class Config(BaseModel):
    """All options of one server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: InstanceConfig = InstanceConfig()
    memory: MemoryConfig = MemoryConfig()
    collections: CollectionsConfig = CollectionsConfig()
    network: NetworkConfig = NetworkConfig()
    replication: ReplicationConfig = ReplicationConfig()
    persistence: PersistenceConfig = PersistenceConfig()
    security: SecurityConfig = SecurityConfig()
    limits: LimitsConfig = LimitsConfig()
    channels: ChannelsConfig = ChannelsConfig()
    metrics: MetricsConfig = MetricsConfig()
    resp: RespConfig = RespConfig()
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
        "<!-- Generated from shmcache/options.py by `python -m shmcache.config`; do not edit. -->",
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
