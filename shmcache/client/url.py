"""Where a client connects: `shm://NAME` or `tcp://HOST:PORT`."""

import re
from dataclasses import dataclass

from ..errors import ConfigError

DEFAULT_INSTANCE = "default"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True)
class Address:
    """Exactly one is set: an instance on this host, or a router's endpoint."""

    instance: str | None = None
    endpoint: str | None = None


def parse(url: str | None) -> Address:
    """Raises `ConfigError`."""
    if url is None:
        return Address(instance=DEFAULT_INSTANCE)
    scheme, separator, rest = url.partition("://")
    rest = rest.rstrip("/")
    if separator and scheme == "shm":
        if not _NAME.fullmatch(rest or DEFAULT_INSTANCE):
            raise ConfigError(f"{url!r}: an instance name is 1 to 40 letters, digits, _ or -")
        return Address(instance=rest or DEFAULT_INSTANCE)
    if separator and scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if host and port.isdecimal() and 0 < int(port) < 65536:
            return Address(endpoint=f"tcp://{host}:{int(port)}")
    raise ConfigError(f"{url!r} is neither shm://NAME nor tcp://HOST:PORT")
