"""Telling a replaced primary that it is none any more: it may come back at any time and must not go on as one."""

import time
from collections.abc import Callable
from typing import Any, Final

_PAUSE_S: Final = 1.0

Ask = Callable[[str, str, dict[str, Any]], None]
"""(Endpoint, call, arguments): the answer comes to `Fencer.answer`."""


class Fencer:
    """Tries, once a second, until the former primary has understood. `ask` must not block."""

    def __init__(self, address: str, ask: Ask, arguments: Callable[[], dict[str, Any]]) -> None:
        self.address, self._ask, self._arguments = address, ask, arguments
        self._next_at = 0.0
        self.done = False

    def tick(self, now: float) -> None:
        if not self.done and now >= self._next_at:
            self._next_at = now + _PAUSE_S
            self._ask(self.address, "replication", {})

    def answer(self, call: str, result: Any) -> None:
        """What the former primary's router or relay said."""
        if isinstance(result, Exception):
            return
        if call == "replication":
            self._ask(result["relay"], "fence", self._arguments())
        elif call == "fence":
            self.done = bool(result["understood"])
            self._next_at = time.monotonic() + _PAUSE_S
