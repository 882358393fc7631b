"""The options of the RESP port, as `options` declares the others."""

from typing import Literal

from pydantic import Field, field_validator

from .limits import RESP_CLIENTS_MAX, RESP_PROCESSES_MAX
from .option_values import Size, is_tcp
from .options import Group


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

    resp_password: str = Field(
        default="",
        description="Password of the user `default`. On the command line every user of the host can read it: rather by the variable or by a file.",
    )
    resp_password_file: str = Field(default="", description="File with that password as its only line, mode 0600.")
    resp_acl_file: str = Field(
        default="", description="Users and their rules, one `user NAME ...` a line; ACL LOAD reads it again, ACL SAVE replaces it (docs/resp.md)."
    )
    resp_protected: bool = Field(
        default=True, description="Refuse addresses and clients of other hosts as long as the user `default` needs no password."
    )
    resp_tls: str = Field(default="", description="The same with TLS, at `HOST:PORT`, or a port of 127.0.0.1; beside `resp` or without it.")
    resp_tls_cert: str = Field(default="", description="Certificate of the server and those between it and the CA, PEM. Read again when it changes.")
    resp_tls_key: str = Field(default="", description="Its key, PEM without a passphrase, mode 0600. Read again when it changes.")
    resp_tls_ca: str = Field(default="", description="Certificates, PEM, of those who sign the certificates of clients; empty: clients show none.")
    resp_tls_clients: Literal["required", "optional"] = Field(
        default="required", description="With `resp_tls_ca`: whether a client must show a certificate. One that is wrong is refused either way."
    )

    @field_validator("resp", "resp_tls")
    @classmethod
    def _resp(cls, value: str) -> str:
        if not value:
            return value
        full = f"127.0.0.1:{value}" if value.isdecimal() else value.removeprefix("tcp://")
        if not is_tcp(f"tcp://{full}"):
            raise ValueError(f"{value!r} is neither HOST:PORT nor a port")
        return full
