"""Commands that wait for an element: how long, and how often they are tried. No I/O.

The server tries such a command once. A client that gets nil tries it again, until its time is over.
"""

from collections.abc import Iterator
from typing import Any, Final

from ..protocol.commands import TABLE, Args

WAITING: Final = frozenset(name for name, spec in TABLE.items() if "blocking" in spec.flags)
"""Commands whose nil is no answer yet."""
_TIMEOUT_FIRST: Final = frozenset({"BLMPOP", "BZMPOP"})
_PAUSE_FIRST_S: Final = 0.001
_PAUSE_LAST_S: Final = 0.02


def seconds_of(args: Args) -> float:
    """Seconds that a command may wait (0: for ever), as it says itself; -1 for what is no number, which the server refuses."""
    given: Any = args[1] if args[0] in _TIMEOUT_FIRST else args[-1]
    try:
        return float(given)
    except (TypeError, ValueError):
        return -1.0


def pauses() -> Iterator[float]:
    """Seconds between one try and the next, for ever. They grow."""
    pause = _PAUSE_FIRST_S
    while True:
        yield pause
        pause = min(pause * 2, _PAUSE_LAST_S)
