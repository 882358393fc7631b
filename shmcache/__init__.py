"""A Redis-like cache in POSIX shared memory.

import shmcache
cache = shmcache.connect()            # the instance `default` on this host
cache.set("greeting", "hello", ex=60)
cache.get("greeting")                 # b"hello", read from shared memory
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .errors import ShmcacheError

if TYPE_CHECKING:
    from . import aio
    from .client.blocking import Client, Pipeline, connect

__all__ = ["Client", "Pipeline", "ShmcacheError", "aio", "connect", "errors"]

_CLIENT = ("Client", "Pipeline", "connect")


def __getattr__(name: str) -> Any:
    """The clients are imported when they are asked for: servers and tools use parts of the package without them."""
    if name in _CLIENT:
        return getattr(import_module(".client.blocking", __name__), name)
    if name == "aio":
        return import_module(".aio", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
