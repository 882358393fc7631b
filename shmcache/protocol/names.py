"""Names of an instance and of its objects in /dev/shm."""

import re
from typing import Final, Literal

from ..errors import ConfigError

RegionKind = Literal["data", "hints", "log"]
REGION_KINDS: Final[tuple[RegionKind, ...]] = ("data", "hints", "log")
NAME_PREFIX: Final = "/shmcache."
_ADDRESS: Final = re.compile(r"tcp://(?:\[[0-9a-fA-F:]+\]|[^:/\s]+):(\d{1,5})", re.ASCII)
_INSTANCE: Final = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


def check_instance_name(name: str) -> str:
    """The name itself. Raises ConfigError if it cannot name an instance."""
    if not _INSTANCE.fullmatch(name):
        raise ConfigError(f"instance name {name!r} is not 1 to 40 of the characters A-Z a-z 0-9 _ -")
    return name


def check_address(address: str) -> str:
    """The address itself, `tcp://HOST:PORT`. Raises ConfigError if it is none."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[1]) > 65535:
        raise ConfigError(f"{address!r} is not tcp://HOST:PORT")
    return address


def directory_name(instance: str) -> str:
    """POSIX name of the region that every client maps first."""
    return f"{NAME_PREFIX}{check_instance_name(instance)}.directory"


def region_name(instance: str, shard: int, kind: RegionKind) -> str:
    """POSIX name of one of a shard's regions."""
    return f"{NAME_PREFIX}{check_instance_name(instance)}.{shard}.{kind}"


def replication_name(instance: str) -> str:
    """POSIX name of the region that the relay keeps."""
    return f"{NAME_PREFIX}{check_instance_name(instance)}.replication"


def persistence_name(instance: str) -> str:
    """POSIX name of the region that says what is on disk."""
    return f"{NAME_PREFIX}{check_instance_name(instance)}.persistence"


def instance_of(object_name: str) -> str | None:
    """Instance that an object of /dev/shm (with or without the leading slash) belongs to; None if it is not
    one of ours.
    """
    parts = object_name.removeprefix("/").split(".")
    if len(parts) < 3 or parts[0] != "shmcache" or not _INSTANCE.fullmatch(parts[1]):
        return None
    is_directory = parts[2:] in (["directory"], ["replication"], ["persistence"])
    is_region = len(parts) == 4 and parts[2].isdecimal() and parts[3] in REGION_KINDS
    return parts[1] if is_directory or is_region else None
