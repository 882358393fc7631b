"""Comparing two instances by per-slot digests, and naming the keys that differ.

While writes go on, slots differ by what is on its way. So those that differ are compared again, a few times: what is on its way
arrives, what is really different stays.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from shmcache._engine import Busy, Reader
from shmcache.errors import ResponseError
from shmcache.protocol.attach import open_reader
from shmcache.protocol.directory import SLOTS, Directory

_ROUNDS: Final = 5
_PAUSE_S: Final = 0.3
_ENTRIES_MAX: Final = 1_000_000
_BUSY_TRIES: Final = 50
_BUSY_PAUSE_S: Final = 0.02
_Result = TypeVar("_Result")

Ask = Callable[[str, dict[str, Any]], Any]
"""(Call, arguments) -> result, of the other instance's relay."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key. `what`: only here, only there, or other value."""

    key: bytes
    slot: int
    what: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`keys`: live keys of this instance."""

    keys: int
    slots_differing: int
    differences: list[Difference]


def compare(instance: str, their_shards: int, ask: Ask, most: int) -> Comparison:
    """Compare an instance of this host with another; names at most `most` keys. Raises ShmcacheError, EngineError."""
    directory = Directory.open(instance)
    snapshot = directory.snapshot()
    directory.close()
    reader = open_reader(snapshot)
    shards = len(snapshot.shards)
    differing: set[int] = set(range(SLOTS))
    for round_ in range(_ROUNDS):
        if round_:
            time.sleep(_PAUSE_S)
        now_ms = time.time_ns() // 1_000_000
        ours = _total(_patiently(reader.slot_digests, shard, now_ms) for shard in range(shards))
        theirs = _total(_patiently(ask, "digests", {"shard": shard, "now_ms": now_ms})["digests"] for shard in range(their_shards))
        differing &= {int(slot) for slot in np.flatnonzero(ours != theirs)}
        if not differing:
            break
    keys = sum(reader.shard_info(shard)["keys"] for shard in range(shards))
    if not differing:
        return Comparison(keys, 0, [])
    return Comparison(keys, len(differing), _name(reader, shards, their_shards, ask, differing, most))


def _patiently(call: Callable[..., _Result], *arguments: Any) -> _Result:
    """Its result; asked again while a writer keeps a bucket, which it may have lost its core in the middle of changing. Raises what it raises."""
    for _ in range(_BUSY_TRIES):
        try:
            return call(*arguments)
        except Busy:
            pass
        except ResponseError as error:
            if error.code != "BUSY":
                raise
        time.sleep(_BUSY_PAUSE_S)
    return call(*arguments)


def _total(digests: Any) -> Any:
    total = np.zeros(SLOTS, np.uint64)
    for digest in digests:
        total += np.frombuffer(digest, "<u8")
    return total


def _name(reader: Reader, shards: int, their_shards: int, ask: Ask, slots: set[int], most: int) -> list[Difference]:
    from shmcache._engine import key_slot

    bits = bytearray(SLOTS // 8)
    # Some slots are enough to name a few keys, and bound what is fetched.
    for slot in sorted(slots)[: max(1, most)]:
        bits[slot >> 3] |= 1 << (slot & 7)
    now_ms = time.time_ns() // 1_000_000
    ours: dict[bytes, int] = {}
    theirs: dict[bytes, int] = {}
    for shard in range(shards):
        entries = _patiently(reader.slot_entries, shard, bytes(bits), now_ms, _ENTRIES_MAX)
        ours |= {key: digest for key, _, _, digest in entries}
    for shard in range(their_shards):
        arguments = {"shard": shard, "slots": bytes(bits), "now_ms": now_ms, "most": _ENTRIES_MAX}
        theirs |= {key: digest for key, _, _, digest in _patiently(ask, "entries", arguments)["entries"]}
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            what = "only there" if key not in ours else "only here" if key not in theirs else "other value, stamp or deadline"
            found.append(Difference(key, key_slot(key), what))
    return found[:most]
