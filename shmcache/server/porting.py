"""What the supervisor does for the RESP port before its gateways start: users, certificates, and the ports themselves."""

import socket
from typing import Any

from ..config import Config
from ..errors import ConfigError
from ..limits import RESP_SECRET_BYTES_MAX
from ..protocol.curve import is_loopback
from ..protocol.secret_files import read_secret
from .plan import Plan
from .reserving import reserve_port


def begin_port(config: Config, plan: Plan, ported: list[dict[str, Any]], log: Any) -> list[socket.socket]:
    """Check all that the gateways need and take the ports; their numbers go into the settings. The sockets hold the ports until they are closed.

    Raises ConfigError, also if anybody in the network could use the port.
    """
    # Only with a RESP port: all its commands are loaded to check the rules.
    from .gateway import catalogue, tls
    from .gateway.acl.shared import begin

    catalogue.complete()
    options = config.resp
    first = ported[0]
    default = begin(plan.folder, plan.instance, options.resp_acl_file, _password(config))
    for listen, encrypted in ((first["listen"], False), (first["tls"] and first["tls"]["listen"], True)):
        if not listen or is_loopback(f"tcp://{listen}"):
            continue
        if default.is_open and options.resp_protected:
            raise ConfigError(
                f"resp: {listen} can be reached from other hosts, and the default user has no password: give it one (resp_password, "
                "resp_password_file, or resp_acl_file), listen at loopback only, or say --resp-protected no"
            )
        if default.is_open:
            log.warning("everybody who reaches the RESP port may use it: the default user has no password", listen=listen)
        if not encrypted:
            log.warning("passwords and data cross the network as they are: this RESP address has no TLS", listen=listen)
    if first["tls"]:
        tls.make_context(first["tls"])
    held: list[socket.socket] = []
    try:
        for settings in (first if first["listen"] else None, first["tls"]):
            if settings:
                held.append(reserve_port(settings["host"], settings["port"]))
                port = held[-1].getsockname()[1]
                for each in ported:
                    (each if settings is first else each["tls"])["port"] = port
    except BaseException:
        end_port(held)
        raise
    return held


def end_port(held: list[socket.socket]) -> None:
    for one in held:
        one.close()


def forget_users(plan: Plan) -> None:
    """The instance has ended: its users in the runtime folder go too."""
    from .gateway.acl.shared import end

    end(plan.folder, plan.instance)


def addresses(ported: list[dict[str, Any]]) -> str:
    """For the ready line, with the ports in force."""
    found = ""
    for settings, what in ((ported[0], "RESP at"), (ported[0]["tls"], "RESP with TLS at")) if ported else ():
        if settings and settings["listen"]:
            found += f"{what} {settings['listen'].rpartition(':')[0]}:{settings['port']}, "
    return found


def _password(config: Config) -> str:
    """Raises ConfigError."""
    password, path = config.resp.resp_password, config.resp.resp_password_file
    if not path:
        return password
    if password:
        raise ConfigError("resp_password_file: there is a resp_password too: give one of them")
    text = read_secret("resp_password_file:", path, RESP_SECRET_BYTES_MAX)
    found = text.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
    if not found or len(text) > RESP_SECRET_BYTES_MAX or "\n" in found:
        raise ConfigError(f"resp_password_file: {path} must hold one line of at most {RESP_SECRET_BYTES_MAX} bytes")
    return found
