"""WATCH: whether keys were changed between then and EXEC. The one place that knows how the engine tells.

With the engine's CHECKSTAMP at the head of the transaction's batch nothing can come between the check and the first command. Without it (an
engine that has none) the stamps are read once more just before, which leaves a gap of one message.
"""

from typing import Any, Final

from ...client.exchange import Deadline
from ...client.session import pipeline_steps
from ...errors import ResponseError
from ...limits import RESP_TIMEOUT_S
from ...protocol.commands import TABLE

_HAS_STAMPS: Final = "KEYSTAMP" in TABLE
ATOMIC: Final = "CHECKSTAMP" in TABLE
"""The batch itself can check."""


async def stamps(gateway: Any, keys: list[bytes]) -> list[int]:
    """The stamp of each key, 0 if there is none. Raises ShmcacheError."""
    name = "KEYSTAMP" if _HAS_STAMPS else "GETSTAMP"
    commands = [(name, key) for key in keys]
    # From the owners, not from shared memory: what they have accepted counts.
    found = await gateway.lanes.run(pipeline_steps(gateway.route, commands, Deadline.after(RESP_TIMEOUT_S), False))
    for result in found:
        if isinstance(result, Exception) and not (isinstance(result, ResponseError) and result.code == "WRONGTYPE"):
            raise result
    if _HAS_STAMPS:
        return [int(stamp) for stamp in found]
    return [int(result[1]) if isinstance(result, list) else 0 for result in found]


def guard(watched: dict[bytes, int]) -> list[Any] | None:
    """The command that goes ahead of a transaction; None if the engine has none."""
    if not ATOMIC or not watched:
        return None
    return ["CHECKSTAMP", *(part for pair in watched.items() for part in pair)]


def is_conflict(result: Any) -> bool:
    """Whether the guard's result says that a key was changed."""
    return result is None or result == 0 or (isinstance(result, ResponseError) and result.code == "ABORTED")
