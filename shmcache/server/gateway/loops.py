"""NOLOOP: which changes of a key are a client's own, so that it is not told of them.

The log does not say who wrote. So a write of such a client goes in one message with questions for the keys' stamps before and after it. What the log
says of these keys meanwhile is held back; when the reply has come, the records between the two stamps are its own, and all others are told.
A command over several shards is not asked that way: its client is told of its own change, which costs it one more read.
"""

from typing import Any

from ...errors import ShmcacheError
from ...protocol import frames
from ...protocol.commands import plan, request_flags
from .lanes import Group
from .rows import Row
from .transactions import Collected


class OwnWrites:
    """The write of one client that is under way."""

    def __init__(self) -> None:
        self.keys: dict[bytes, None] = {}
        self._held: list[tuple[int, bytes, int]] = []

    def hold(self, change: tuple[int, bytes, int]) -> bool:
        """Keep a change back if it may be its own."""
        if change[1] in self.keys:
            self._held.append(change)
            return True
        return False

    def carried_out(self, client: Any, row: Row, args: list[Any]) -> Any:
        """A coroutine with the command's result, or None if it is not carried out this way."""
        slots = client.gateway.slots
        try:
            keys = list(dict.fromkeys(row.keys_in(args)))
            planned = plan(args, slots, by_shard=True)  # type: ignore[arg-type]
        except (ShmcacheError, ValueError, IndexError):
            return None
        if not keys or len(planned.parts) != 1:
            return None
        return self._run(client, planned.parts[0], keys)

    async def _run(self, client: Any, part: Any, keys: list[bytes]) -> Any:
        gateway = client.gateway
        tracking = client.tracking
        gateway.changes.drain()
        self.keys = dict.fromkeys(keys)
        collected = Collected(gateway.loop)
        ask = [["KEYSTAMP", key] for key in keys]
        batch = [*ask, list(part.args), *ask]
        flags = frames.TRANSACTION | request_flags(batch, only_reads=False)
        gateway.lanes.add_group(part.shard, Group(part.slot, batch, flags, collected))
        others = list(keys)
        try:
            results = await collected.future
            # What the command has written is in the log by now.
            gateway.changes.drain()
            stamps = list(zip(results[: len(keys)], results[len(keys) + 1 :], strict=False))
            if len(results) == 2 * len(keys) + 1 and not any(isinstance(stamp, Exception) for pair in stamps for stamp in pair):
                others = self._of_others(dict(zip(keys, stamps, strict=True)))
        finally:
            self.keys, self._held = {}, []
            if tracking is not None and client.tracking is tracking:
                gateway.tracking.settle(tracking, others)
        result = results[len(keys)] if len(results) > len(keys) else results[0]
        if isinstance(result, Exception):
            raise result
        return result

    def _of_others(self, stamps: dict[bytes, tuple[int, int]]) -> list[bytes]:
        """Keys of held changes that lie outside of what the command did."""
        found: dict[bytes, None] = {}
        deleted: set[bytes] = set()
        for _, key, stamp in self._held:
            before, after = stamps[key]
            if after:
                is_own = before < stamp <= after
            else:
                # It was deleted by the command: that is the first record behind the stamp it had.
                is_own = bool(before) and stamp > before and key not in deleted
                deleted.add(key) if is_own else None
            if not is_own:
                found[key] = None
        return list(found)
