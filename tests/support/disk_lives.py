"""Lives of an instance's persistence on a disk that loses power: real owners, logs, append-only file and snapshots in one process.

A `Life` begins with what a folder holds, goes through a random but repeatable run of commands, snapshots, ends of the keeper and faults of the disk, and
notes after which operation of the disk what was said to be durable. `check` looks at a folder that a cut has left: read into shards again, each
of the life's shards must be exactly as it was at some moment, not before what was durable.
"""

import errno
import os
import random
import secrets
import struct
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from shmcache import _engine
from shmcache.persistence.files import OS_FILES, Files
from shmcache.persistence.recovery import NOWHERE, close_open_segments, find_restore, load, prepare_folder
from shmcache.protocol import persistence
from shmcache.protocol.persistence import PersistenceRegion, Row, State, Word
from tests.engine.regions import new_regions
from tests.support.small_keeper import SmallKeeper
from tests.support.torn_disk import Operation, TornDisk

_MEMORY_BYTES = 2 << 20
_LOG_BYTES = 1 << 17
_SLOTS = _engine.SLOT_COUNT
_MASK = (1 << 64) - 1
_FAR_MS = 4_000_000_000_000
KEYS = [f"key{n}" for n in range(24)]


class NoLog:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def _add(self, text: str, **fields: Any) -> None:
        self.lines.append((text, fields))

    info = warning = error = debug = _add


@cache
def slot_bitmap(shard: int, shards: int) -> bytes:
    bitmap = bytearray(_SLOTS // 8)
    for slot in range(_SLOTS):
        if slot * shards // _SLOTS == shard:
            bitmap[slot // 8] |= 1 << slot % 8
    return bytes(bitmap)


@cache
def slot_table(shards: int) -> bytes:
    return struct.pack(f"<{_SLOTS}H", *(slot * shards // _SLOTS for slot in range(_SLOTS)))


class Shards:
    """Owners of so many shards, in anonymous memory."""

    def __init__(self, count: int, policy: str = "noeviction", memory_bytes: int = _MEMORY_BYTES) -> None:
        self.count, self.slots = count, slot_table(count)
        self.regions = [new_regions() for _ in range(count)]
        self.owners = []
        for shard, region in enumerate(self.regions):
            owner = region.create(
                memory_bytes, shard=shard, shards=count, log_bytes=_LOG_BYTES, capacity_bytes=_MEMORY_BYTES, policy=policy
            )
            owner.set_slots(slot_bitmap(shard, count))
            self.owners.append(owner)
        self.reader = _engine.Reader([(region.data, region.hints) for region in self.regions], self.slots)

    def shard_of(self, key: str) -> int:
        return _engine.key_slot(key) * self.count // _SLOTS

    def digests(self, parts: int) -> tuple[int, ...]:
        """Of the slots of each shard, if there were `parts` of them."""
        if parts == self.count:
            return tuple(owner.digest() for owner in self.owners)
        sums = [0] * _SLOTS
        for shard in range(self.count):
            for slot, digest in enumerate(array("Q", self.reader.slot_digests(shard, 1))):
                if digest:
                    sums[slot] += digest
        return tuple(
            sum(sums[-(-part * _SLOTS // parts) : -(-(part + 1) * _SLOTS // parts)]) & _MASK for part in range(parts)
        )

    def close(self) -> None:
        for owner in self.owners:
            owner.close()
        for region in self.regions:
            region.close()


def new_region(shards: int) -> PersistenceRegion:
    """A persistence region in anonymous memory."""
    fd = os.memfd_create("shmcache-test-persistence")
    os.ftruncate(fd, persistence._BYTES)
    os.pwrite(fd, persistence._HEADER.pack(persistence._MAGIC, persistence.PERSISTENCE_LAYOUT_VERSION, shards), 0)
    region = PersistenceRegion("test", fd, writable=True)
    os.close(fd)
    return region


def read_back(folder: Path, shards: Shards, files: Files = OS_FILES, log: Any = None) -> int:
    """A cold start; returns the segment that the append-only file goes on after."""
    prepare_folder(folder, files)
    close_open_segments(files, folder, None, log or NoLog())
    restore = find_restore(folder)
    if restore is None:
        return 0
    for shard, owner in enumerate(shards.owners):
        load(restore, shard, shards.count, shards.slots, owner.apply)
    return restore.last_segment


class Faults:
    """Makes operations fail: for a while, of one kind."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng, self._share = rng, share
        self._kind, self._left = "", 0

    def begin(self) -> None:
        """Perhaps begin to fail."""
        if self._rng.random() < self._share:
            self._kind = self._rng.choice(("full", "full", "sync", "write", "sync_folder", "create"))
            self._left = self._rng.randint(1, 6)

    def end(self) -> None:
        self._left = 0

    def __call__(self, operation: Operation) -> OSError | None:
        if not self._left:
            return None
        if self._kind == "full" and operation.name in ("write", "create", "make_folder"):
            self._left -= 1
            return OSError(errno.ENOSPC, "No space left on device")
        if operation.name == self._kind:
            self._left -= 1
            return OSError(errno.EIO, "Input/output error")
        return None


class Life:
    """From a folder to the power cut."""

    def __init__(
        self, folder: Path, seed: int, policy: str, shards: int, *, fault_share: float = 0.0, on_warm_data: bool = False,
        policy_of_keys: str = "noeviction", memory_bytes: int = _MEMORY_BYTES,
    ) -> None:  # fmt: skip
        """`on_warm_data`: there were data already when persistence was turned on (of an empty folder)."""
        self.rng = random.Random(seed)
        self.folder, self.policy, self.shards = folder, policy, Shards(shards, policy_of_keys, memory_bytes)
        self.faults = Faults(self.rng, fault_share)
        self.disk = TornDisk(folder, self.faults)
        self.region = new_region(shards)
        self.log = NoLog()
        self.history: list[dict[int, int]] = [{} for _ in range(shards)]
        """Per shard: digest of a state -> the last log position at which it was that."""
        self.notes: list[tuple[int, tuple[int, ...]]] = []
        """(operations of the disk, what was durable then by shard)."""
        self.now = 0.0
        continues = read_back(folder, self.shards, self.disk, self.log)
        if on_warm_data:
            for number in range(20):
                self.command("SET", KEYS[number], f"before{number}")
        self._remember()
        if on_warm_data:
            for history in self.history:
                history[0] = 0
        bases = [owner.log_position for owner in self.shards.owners]
        self.notes.append((0, tuple([0] * shards if on_warm_data else bases)))
        self.region.store(Word.LINEAGE, secrets.randbits(63) | 1)
        self.region.store(Word.CONTINUES, continues)
        self.region.store(Word.STATE, State.STARTING)
        for shard, base in enumerate(bases):
            self.region.store_row(shard, Row.BASE, NOWHERE if on_warm_data else base)
        self.keeper = SmallKeeper(self)

    def _remember(self) -> None:
        for shard, (history, owner) in enumerate(zip(self.history, self.shards.owners, strict=True)):
            del shard
            history[owner.digest()] = owner.log_position

    def note(self) -> None:
        """What is durable has grown."""
        rows = tuple(self.region.row(shard, Row.DURABLE) for shard in range(self.shards.count))
        self.notes.append((len(self.disk.record), rows))

    def durable(self, operations: int) -> tuple[int, ...]:
        """What was durable after so many operations."""
        return max((note for note in self.notes if note[0] <= operations), key=lambda note: (note[0], note[1]))[1]

    def command(self, *words: str | int | bytes) -> None:
        self.shards.owners[self.shards.shard_of(str(words[1]))].command(*words)

    # --- what happens in it -------------------------------------------------------------------------
    def run(self, steps: int) -> None:
        """To a moment at which everything may be lost."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """Some commands, then some turns of the keeper; rarely something worse."""
        rng = self.rng
        if self.region.state not in (State.FULL, State.FAILED):
            # As with `aof_on_error refuse`.
            for _ in range(rng.randint(0, 4)):
                self._any_command()
                self._remember()
        self.faults.begin()
        chance = rng.random()
        if chance < 0.06:
            self.keeper.kill()
            self.faults.end()
            self.keeper = SmallKeeper(self)
        elif chance < 0.14:
            self.keeper.snapshot()
        elif chance < 0.18:
            self.faults.end()
        for _ in range(rng.randint(1, 3)):
            self.now += rng.choice((0.01, 0.3, 1.1))
            self.keeper.turn(self.now)

    def _any_command(self) -> None:
        rng = self.rng
        key, value = rng.choice(KEYS), f"{rng.getrandbits(40):x}" * rng.choice((1, 1, 1, 20, 200))
        match rng.randrange(12):
            case 0 | 1 | 2 | 3 | 4:
                self.command("SET", key, value)
            case 5:
                self.command("SET", key, value, "PXAT", _FAR_MS)
            case 6 | 7:
                self.command("DEL", key)
            case 8:
                self.command("PEXPIREAT", key, _FAR_MS + rng.randrange(1000))
            case 9:
                tag = rng.choice("abc")
                words: Sequence[str] = [word for n in range(3) for word in (f"{{{tag}}}{n}", value[:20] + str(n))]
                self.command("MSET", *words)
            case 10:
                self.command("SET", f"big{rng.randrange(2)}", rng.randbytes(40_000) if rng.random() < 0.3 else b"small")
            case 11:
                if rng.random() < 0.2:
                    rng.choice(self.shards.owners).command("FLUSHALL")

    def close(self) -> None:
        self.keeper.kill()
        self.shards.close()
        self.region.close()

    # --- after it -----------------------------------------------------------------------------------
    def check(self, folder: Path, operations: int, shards: int) -> tuple[int, ...]:
        """What a cut after so many operations has left is right, read into this number of shards; returns the positions that were found."""
        again = Shards(shards)
        try:
            read_back(folder, again)
            found = again.digests(self.shards.count)
        finally:
            again.close()
        durable = self.durable(operations)
        positions = []
        for shard, (digest, history) in enumerate(zip(found, self.history, strict=True)):
            assert digest in history, f"shard {shard} is in a state in which it never was"
            assert history[digest] >= durable[shard], (
                f"shard {shard} is back at position {history[digest]}, it was durable up to {durable[shard]}"
            )
            positions.append(history[digest])
        return tuple(positions)


