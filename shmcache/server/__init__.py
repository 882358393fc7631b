"""The server side of one instance: supervisor, workers, router.

`run(config)` is a whole server in the foreground; `stop(instance)` ends one; `regions` looks after /dev/shm.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .instance import run as run
    from .stopping import stop as stop

__all__ = ["run", "stop"]


def __getattr__(name: str) -> Any:
    # On demand: a worker that is restarted must not wait for the import of what only the supervisor needs.
    if name == "run":
        from .instance import run

        return run
    if name == "stop":
        from .stopping import stop

        return stop
    raise AttributeError(name)
