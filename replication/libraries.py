"""Libraries of functions: a replica has its primary's. It asks for them when it begins to follow, and then every second whether they are still the same.

Nothing is told by itself: what is asked for again can get lost. Two-way peers keep their own, as nothing says whose are the newer ones. A chain works as for
data: a replica answers as its primary does.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from shmcache.errors import ResponseError, ShmcacheError
from shmcache.limits import LIBRARIES_ASK_MS

from .link import Link


class Store(Protocol):
    """Where the libraries of this instance are (server/libraries.py)."""

    data: bytes
    digest: str

    def look(self) -> bool:
        """Bring `data` and `digest` up to date. Raises OSError."""

    def keep(self, data: Any) -> int:
        """Put these in their place; how many there are. Raises ShmcacheError, OSError."""


class Libraries:
    """The relay's part."""

    def __init__(self, store: Store, log: Any) -> None:
        self._store, self._log = store, log
        self._due = 0.0
        self._last_error = ""

    def answer(self, known: str) -> dict[str, Any]:
        """To a replica that has those with the digest `known`. Raises ResponseError."""
        try:
            self._store.look()
        except OSError as error:
            raise ResponseError("ERR", f"the libraries cannot be read: {error.strerror}") from None
        is_known = known == self._store.digest
        return {"digest": self._store.digest, "data": None if is_known else self._store.data}

    def tick(self, links: Iterable[Link], now: float) -> None:
        """Ask, if this is a replica and it is time."""
        upstream = next((link for link in links if not link.merge and link.state == "following"), None)
        if upstream is None:
            self._due = 0.0
            return
        if now < self._due:
            return
        self._due = now + LIBRARIES_ASK_MS / 1000
        try:
            self._store.look()
        except OSError as error:
            return self._failed(error)
        upstream.ask_beside("libraries", {"known": self._store.digest}, self._take)

    def _take(self, result: Any) -> None:
        if isinstance(result, Exception):
            # An older release does not know the call.
            return self._failed(result)
        try:
            if result["data"] is not None:
                self._log.info("libraries of functions taken over", count=self._store.keep(result["data"]))
        except (ShmcacheError, OSError, KeyError, TypeError) as error:
            return self._failed(error)
        self._last_error = ""

    def _failed(self, error: Exception) -> None:
        if str(error) != self._last_error:
            self._last_error = str(error)
            self._log.warning("libraries of functions are not taken over", reason=self._last_error)
