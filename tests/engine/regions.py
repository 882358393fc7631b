"""The three regions of a shard in anonymous memory, and batches for it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack

from shmcache import _engine

MEMORY_BYTES = 16 << 20
ONE_SHARD = bytes(2 * _engine.SLOT_COUNT)
"""A slot table in which shard 0 owns everything."""


@dataclass(frozen=True)
class Regions:
    """Descriptors of a shard's shared memory objects."""

    data: int
    hints: int
    log: int

    def create(self, memory_bytes: int = MEMORY_BYTES, **options: Any) -> _engine.Owner:
        return _engine.Owner.create(self.data, self.hints, self.log, memory_bytes=memory_bytes, **options)

    def attach(self) -> _engine.Owner:
        return _engine.Owner.attach(self.data, self.hints, self.log)

    def reader(self) -> _engine.Reader:
        return _engine.Reader([(self.data, self.hints)], ONE_SHARD)

    def close(self) -> None:
        for descriptor in (self.data, self.hints, self.log):
            os.close(descriptor)


def new_regions() -> Regions:
    return Regions(*(os.memfd_create(f"shmcache-test-{part}") for part in ("data", "hints", "log")))


@contextmanager
def regions() -> Iterator[Regions]:
    made = new_regions()
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class ErrorReply:
    """A failed command in a batch's results."""

    code: str
    message: str


def decode_error(kind: int, data: bytes) -> Any:
    assert kind == 1
    return ErrorReply(*msgpack.unpackb(data))


def unpack(reply: bytes) -> list[Any]:
    """Results of a reply: data as bytes, statuses as str, errors as `ErrorReply`."""
    results = msgpack.unpackb(reply, ext_hook=decode_error)
    assert isinstance(results, list)
    return results


def execute(owner: _engine.Owner, commands: Sequence[Sequence[Any]], flags: int = 0) -> list[Any]:
    return unpack(owner.execute(msgpack.packb([list(command) for command in commands]), flags))


def settle(owner: _engine.Owner) -> None:
    """Let the owner finish its housekeeping."""
    for _ in range(10_000):
        if not owner.tick():
            return
    raise AssertionError("the owner's housekeeping never ends")
