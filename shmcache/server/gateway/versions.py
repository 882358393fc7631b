"""What this server says that it is."""

from importlib import metadata
from typing import Final

REDIS_VERSION: Final = "7.4.0"
"""The commands mean what they mean in 7.0.15, with which the tests compare them, and those that came up to 7.4 (deadlines of fields) are there: clients decide by
this what they may send, redis-py for one whether it caches."""

try:
    OWN_VERSION = metadata.version("shmcache")
except metadata.PackageNotFoundError:
    OWN_VERSION = "unknown"
