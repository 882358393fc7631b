"""ACL LOG: what was refused lately. No I/O."""

from dataclasses import dataclass
from typing import Any

from ....limits import ACL_LOG_ENTRIES, ACL_LOG_OBJECT_CHARS_MAX

_SAME_S = 60.0


@dataclass(slots=True)
class Refusal:
    """One kind of refusal, and how often it came."""

    reason: str
    """auth, command, key, channel"""
    context: str
    """toplevel, multi, lua"""
    what: str
    user: str
    client: str
    at: float
    count: int = 1

    def shown(self, now: float) -> dict[bytes, Any]:
        return {
            b"count": self.count,
            b"reason": self.reason.encode(),
            b"context": self.context.encode(),
            b"object": self.what.encode("utf-8", "surrogateescape"),
            b"username": self.user.encode("utf-8", "surrogateescape"),
            b"age-seconds": f"{max(0.0, now - self.at):.3f}".encode(),
            b"client-info": self.client.encode("utf-8", "surrogateescape"),
        }


class Journal:
    """The newest first; at most `length_max`."""

    def __init__(self) -> None:
        self.length_max = ACL_LOG_ENTRIES
        self.entries: list[Refusal] = []

    def add(self, reason: str, context: str, what: str, user: str, client: str, now: float) -> None:
        """What is like an entry of the last minute counts that up and brings it to the front."""
        what, user = what[:ACL_LOG_OBJECT_CHARS_MAX], user[:ACL_LOG_OBJECT_CHARS_MAX]
        for place, entry in enumerate(self.entries):
            if (entry.reason, entry.context, entry.what, entry.user) == (reason, context, what, user) and now - entry.at < _SAME_S:
                entry.count += 1
                entry.at, entry.client = now, client
                self.entries.insert(0, self.entries.pop(place))
                return
        self.entries.insert(0, Refusal(reason, context, what, user, client, now))
        del self.entries[self.length_max :]

    def shown(self, most: int, now: float) -> list[dict[bytes, Any]]:
        return [entry.shown(now) for entry in self.entries[: max(0, most)]]

    def clear(self) -> None:
        self.entries.clear()
