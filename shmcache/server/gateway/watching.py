"""WATCH: whether keys were changed between then and EXEC.

The engine compares stamps at the head of the transaction's part for each shard (CHECKSTAMP), so that nothing comes between the comparison and the first command.
What it cannot see is told by the write log, which is read up to that moment: that a missing key was there for a while, and, where a primary elsewhere is written to,
changes of keys of other shards than the transaction's.
"""

from typing import Any

from ...client.exchange import Deadline
from ...client.session import pipeline_steps
from ...errors import ResponseError
from ...limits import RESP_TIMEOUT_S
from ...protocol.commands import slot_of_key
from .changes import FLUSHED, WRITTEN, Change


class Watched(dict[bytes, int]):
    """The keys that one client watches, and their stamps; 0 for a key that there was not."""

    def __init__(self, gateway: Any) -> None:
        super().__init__()
        self._gateway = gateway
        self._followed: set[bytes] = set()
        self._is_touched = False

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    async def add(self, keys: list[bytes]) -> None:
        """Watch these, too. Raises ShmcacheError."""
        fresh = [key for key in dict.fromkeys(keys) if key not in self]
        if not fresh:
            return
        # All of them are followed until it is known which are missing.
        followed = set(fresh)
        self._followed |= followed
        self._gateway.changes.need(self, self._changed, self._missed)
        touched = self._is_touched
        self.update(zip(fresh, await stamps(self._gateway, fresh), strict=True))
        slots = self._gateway.slots
        if slots is self._gateway.route.slots or len({slots.shard_of[slot_of_key(key)] for key in self}) < 2:
            self._followed -= {key for key in followed if self[key]}
            if all(self[key] for key in fresh):
                # The stamps say all.
                self._is_touched = touched
        else:
            self._followed |= self.keys()
        if not self._followed:
            self._gateway.changes.release(self)

    def is_touched(self) -> bool:
        """Whether the log has told of a change."""
        if self._followed:
            self._gateway.changes.drain()
        return self._is_touched

    def _changed(self, changes: list[Change]) -> None:
        for what, key, _ in changes:
            if (key in self._followed and (what == WRITTEN or self.get(key))) or (what == FLUSHED and any(self.get(key) for key in self._followed)):
                self._is_touched = True

    def _missed(self) -> None:
        self._is_touched = True

    def close(self) -> None:
        """Watch nothing any more."""
        self._gateway.changes.release(self)


def forget(client: Any) -> None:
    """The client watches nothing any more."""
    watched, client.watched = client.watched, None
    if watched is not None:
        watched.close()


async def stamps(gateway: Any, keys: list[bytes]) -> list[int]:
    """The stamp of each key, 0 if there is none. Raises ShmcacheError."""
    commands = [("KEYSTAMP", key) for key in keys]
    # From the owners, not from shared memory: what they have accepted counts.
    found = await gateway.lanes.run(pipeline_steps(gateway.route, commands, Deadline.after(RESP_TIMEOUT_S)))
    for result in found:
        if isinstance(result, Exception):
            raise result
    return [int(stamp) for stamp in found]


def guard(watched: dict[bytes, int]) -> list[Any] | None:
    """The command that goes ahead of a transaction; None if nothing is watched."""
    return ["CHECKSTAMP", *(part for pair in watched.items() for part in pair)] if watched else None


def is_conflict(result: Any) -> bool:
    """Whether the guard's result says that a key was changed."""
    return isinstance(result, ResponseError) and result.code == "ABORTED"
