"""The options of metrics and of the log, as `options` declares the others."""

from typing import Literal

from pydantic import Field, field_validator

from .option_values import is_tcp
from .options import Group


class MetricsConfig(Group):
    """Figures for Prometheus (docs/stats.md)."""

    metrics: str = Field(
        default="",
        description="Serve metrics at http://HOST:PORT/metrics: `HOST:PORT`, or a port of 127.0.0.1. Plain HTTP, for all "
        "who reach it; port 0 takes a free one.",
    )

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, value: str) -> str:
        if not value:
            return value
        full = f"127.0.0.1:{value}" if value.isdecimal() else value
        if not is_tcp(f"tcp://{full}"):
            raise ValueError(f"{value!r} is neither HOST:PORT nor a port")
        return full


class LogConfig(Group):
    """What the server says about itself, on stderr."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important level shown."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto` is console on a terminal, else json."
    )
