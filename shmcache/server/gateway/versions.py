"""What this server says that it is."""

from importlib import metadata
from typing import Final

REDIS_VERSION: Final = "7.0.15"
"""The commands mean what they mean there; clients decide by this what they may send."""

try:
    OWN_VERSION = metadata.version("shmcache")
except metadata.PackageNotFoundError:
    OWN_VERSION = "unknown"
