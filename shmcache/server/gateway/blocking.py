"""Commands that wait for a key (flag `blocking`): the engine tries once and answers nil, here it is tried again. The one place for that.

Waiting is by looking again. What would tell that a key was written (the write log, as the hub reads it for key events) can take the place of `_PAUSES_S`.
Who waited longest is not served first.
"""

import asyncio
from typing import Any, Final

from ...errors import CommandFailed, ResponseError
from .rows import Row

_PAUSES_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Between two looks; the last one goes on."""
_TIMEOUT_FIRST: Final = frozenset({"BLMPOP", "BZMPOP"})
"""Commands whose timeout is the first argument; else it is the last."""
_SECONDS_MAX: Final = 2**63 / 1000


async def wait(client: Any, row: Row, args: list[Any]) -> Any:
    """The command's result, or nil when its timeout (seconds, 0: none) is over. Raises ShmcacheError."""
    seconds = timeout_of(row, args)
    gateway = client.gateway
    loop = gateway.loop
    until = loop.time() + seconds if seconds else float("inf")
    woken: asyncio.Future[bool] = loop.create_future()
    gateway.blocked[client.id] = lambda with_error: woken.done() or woken.set_result(with_error)
    try:
        attempt = 0
        while True:
            result = await gateway.ask(*args)
            left = until - loop.time()
            if result is not None or left <= 0:
                return result
            pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            attempt += 1
            done, _ = await asyncio.wait([woken], timeout=min(pause, left))
            if done:
                if woken.result():
                    raise ResponseError("UNBLOCKED", "client unblocked via CLIENT UNBLOCK")
                return None
    finally:
        gateway.blocked.pop(client.id, None)


def timeout_of(row: Row, args: list[Any]) -> float:
    """Raises CommandFailed as Redis does."""
    text = args[1] if row.name in _TIMEOUT_FIRST else args[-1]
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if seconds != seconds:
        raise CommandFailed("ERR", "timeout is not a float or out of range")
    # Redis says so of what its clock cannot count, too.
    if seconds < 0 or seconds >= _SECONDS_MAX:
        raise CommandFailed("ERR", "timeout is negative")
    return seconds
