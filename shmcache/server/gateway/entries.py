"""Replies that are not there yet, in their places: where the lanes put the results. No I/O."""

from typing import TYPE_CHECKING, Any

from ...errors import ShmcacheError
from ...protocol.commands import Plan
from .replies import Encoder

if TYPE_CHECKING:
    from .connection import Connection


class Entry:
    """A reply that is not there yet, in its place among the others."""

    __slots__ = ("connection", "data", "encode")

    def __init__(self, connection: "Connection", encode: Encoder) -> None:
        self.connection, self.encode = connection, encode
        self.data: bytes | None = None

    def take(self, results: list[Any]) -> None:
        self.data = self.encode(results[0])
        self.connection.gateway.touched.add(self.connection)

    def at(self, number: int) -> "Entry":
        return self


class Run(Entry):
    """The replies of consecutive commands with one key each. Their results come in parts, by shard."""

    __slots__ = ("encoders", "left", "replies")

    def __init__(self, connection: "Connection", encoders: list[Encoder]) -> None:
        self.connection, self.encoders = connection, encoders
        self.data = None
        self.left = len(encoders)
        self.replies: list[bytes] = []

    def take(self, results: list[Any]) -> None:
        """All of them, in order."""
        self.data = b"".join([encode(result) for encode, result in zip(self.encoders, results, strict=True)])
        self.connection.gateway.touched.add(self.connection)

    def at(self, number: int) -> "Places":  # type: ignore[override]
        return Places(self, [number])


class Places:
    """Some of a run."""

    __slots__ = ("places", "run")

    def __init__(self, run: Run, places: list[int]) -> None:
        self.run, self.places = run, places

    def take(self, results: list[Any]) -> None:
        run = self.run
        replies, encoders = run.replies, run.encoders
        if not replies:
            replies += [b""] * len(encoders)
        for place, result in zip(self.places, results, strict=True):
            replies[place] = encoders[place](result)
        run.left -= len(results)
        if not run.left:
            run.data = b"".join(replies)
            run.connection.gateway.touched.add(run.connection)

    def at(self, number: int) -> "Places":
        return Places(self.run, [self.places[number]])


class Parts:
    """The results of one command over several shards."""

    __slots__ = ("entry", "left", "plan", "results")

    def __init__(self, entry: Entry, planned: Plan) -> None:
        self.entry, self.plan = entry, planned
        self.left = len(planned.parts)
        self.results: list[Any] = [None] * self.left


class Part:
    __slots__ = ("number", "parts")

    def __init__(self, parts: Parts, number: int) -> None:
        self.parts, self.number = parts, number

    def at(self, number: int) -> "Part":
        return self

    def take(self, results: list[Any]) -> None:
        parts = self.parts
        parts.results[self.number] = results[0]
        parts.left -= 1
        if not parts.left:
            failed = next((r for r in parts.results if isinstance(r, ShmcacheError)), None)
            parts.entry.take([failed if failed is not None else parts.plan.merge(parts.results)])
