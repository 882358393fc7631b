"""Where a client connects: `shm://NAME` or `tcp://HOST:PORT`, the latter with `?server_key=...`."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from ..errors import ConfigError

DEFAULT_INSTANCE = "default"
OPTIONS = ("server_key", "client_key", "curve")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True)
class Address:
    """Exactly one is set: an instance on this host, or a router's endpoint."""

    instance: str | None = None
    endpoint: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    """Those of OPTIONS that the URL of an endpoint has."""


def parse(url: str | None) -> Address:
    """Raises `ConfigError`."""
    if url is None:
        return Address(instance=DEFAULT_INSTANCE)
    scheme, separator, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    rest = rest.rstrip("/")
    if separator and scheme == "shm" and not query:
        if not _NAME.fullmatch(rest or DEFAULT_INSTANCE):
            raise ConfigError(f"{url!r}: an instance name is 1 to 40 letters, digits, _ or -")
        return Address(instance=rest or DEFAULT_INSTANCE)
    if separator and scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if host and port.isdecimal() and 0 < int(port) < 65536:
            return Address(endpoint=f"tcp://{host}:{int(port)}", options=_options(url, query))
    raise ConfigError(f"{url!r} is neither shm://NAME nor tcp://HOST:PORT")


def _options(url: str, query: str) -> dict[str, str]:
    options = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in OPTIONS:
            raise ConfigError(
                f"{url!r}: after ? stand {', '.join(OPTIONS)}; in a key & % # ? + must be percent-encoded "
                "(`shmcache keys show --url`)"
            )
        options[name] = unquote(value)
    return options
