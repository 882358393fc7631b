"""The slices of one full copy at the replica: which to ask for, and in what order they count. Pure decisions, no I/O, no clock of its own.

    wants(now, patience)   ->  the numbers to ask for now, again where an answer has not come
    offer(number, slice)   ->  the slices to apply now, in order

No slice may be left out: what a copy does not bring is deleted at its end. So they are numbered, an answer that was lost is asked for again (the upstream
keeps as many as may be on their way), and one that overtook another waits.
"""

import secrets
from typing import Any

from shmcache.limits import SLICES_IN_FLIGHT


class Window:
    """One copy of one shard. `token` tells it from an earlier one."""

    def __init__(self) -> None:
        self.token = secrets.randbits(48)
        self._next = 0
        self._last: int | None = None
        """Number of the slice that ends the copy, once it is known."""
        self._asked_at: dict[int, float] = {}
        self._come: dict[int, dict[str, Any]] = {}

    def wants(self, now: float, patience_s: float) -> list[int]:
        """Numbers to ask for, in order; what was asked for less than `patience_s` ago is waited for."""
        end = self._next + SLICES_IN_FLIGHT if self._last is None else self._last + 1
        due = [
            number
            for number in range(self._next, end)
            if number not in self._come and now - self._asked_at.get(number, -patience_s) >= patience_s
        ]
        self._asked_at |= dict.fromkeys(due, now)
        return due

    def again(self, number: int) -> None:
        """The upstream could not read that slice just now."""
        self._asked_at.pop(number, None)

    def all_again(self) -> None:
        """Nothing that was asked for will be answered any more: the connection is another one."""
        self._asked_at.clear()

    def offer(self, number: int, result: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a slice in."""
        if not self._next <= number < self._next + SLICES_IN_FLIGHT or number in self._come:
            return []
        self._come[number] = result
        if result["done"]:
            self._last = number
        ready = []
        while self._next in self._come:
            ready.append(self._come.pop(self._next))
            self._asked_at.pop(self._next, None)
            self._next += 1
        return ready
