"""The options of the RESP port, as `options` declares the others."""

from pydantic import Field, field_validator

from .limits import RESP_CLIENTS_MAX, RESP_PROCESSES_MAX
from .options import Group, Size, is_tcp


class RespConfig(Group):
    """The port for Redis clients (docs/resp.md)."""

    resp: str = Field(
        default="",
        description="Speak the Redis protocol at `HOST:PORT`, or a port of 127.0.0.1; empty: nowhere. Port 0 takes a free one.",
    )
    resp_processes: int = Field(
        default=1, ge=1, le=RESP_PROCESSES_MAX, description="Processes that serve this port; the kernel divides the connections among them."
    )
    resp_clients: int = Field(
        default=10_000, ge=1, le=RESP_CLIENTS_MAX, description="Connections of each of these processes; one more is refused.",
        json_schema_extra={"unit": "connections"},
    )
    resp_timeout: int = Field(
        default=0, ge=0, description="A connection that is idle for so long is closed; 0: never.", json_schema_extra={"unit": "s"}
    )
    resp_output: Size = Field(
        default=1 << 30,
        ge=1 << 20,
        description="Replies that wait for one client; with more it is closed.",
        json_schema_extra={"unit": "bytes"},
    )

    @field_validator("resp")
    @classmethod
    def _resp(cls, value: str) -> str:
        if not value:
            return value
        full = f"127.0.0.1:{value}" if value.isdecimal() else value.removeprefix("tcp://")
        if not is_tcp(f"tcp://{full}"):
            raise ValueError(f"{value!r} is neither HOST:PORT nor a port")
        return full
