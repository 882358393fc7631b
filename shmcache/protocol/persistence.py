"""The persistence region: what of an instance's data is on disk, for workers, the keeper and operators.

The supervisor makes it before any worker starts. It lives as long as the data regions: positions in it are positions of their logs.

    offset  size      content
    0       8         magic "SHMCKEEP"
    8       4         layout version
    12      4         shards
    16      48        zero
    64      64 x 8    words, uint64: see `Word`
    576     1024 x 64 a row of eight uint64 for each shard: see `Row`

Every word is written whole, by one aligned store, and by one process: `Row.BASE` and `Row.RESTORING` by the shard's worker, all else by the keeper,
before that by the supervisor.
"""

import mmap
import secrets
import struct
from enum import IntEnum
from typing import Final, Self

from .directory import SHARDS_MAX
from .names import persistence_name
from .small_regions import mapped, opened, taken

PERSISTENCE_LAYOUT_VERSION: Final = 1
_MAGIC: Final = b"SHMCKEEP"
_HEADER: Final = struct.Struct("<8sII48x")
_WORDS_AT: Final = 64
_ROWS_AT: Final = _WORDS_AT + 64 * 8
_ROW_BYTES: Final = 64
_BYTES: Final = _ROWS_AT + SHARDS_MAX * _ROW_BYTES
# Native: read and written in one move, not byte by byte.
_U64: Final = struct.Struct("@Q")


class State(IntEnum):
    """How the append-only file does."""

    OFF = 0
    """There is none."""
    STARTING = 1
    """No keeper has taken it up yet."""
    BASING = 2
    """It cannot go on from what is on disk: a snapshot is made that it goes on from. Nothing new is durable before that."""
    GOOD = 3
    FULL = 4
    """The disk takes no more; tried again every second."""
    FAILED = 5
    """A sync or a write failed: what is on the disk is not known. A new snapshot that succeeds ends this."""


class Word(IntEnum):
    """Places of the words."""

    LINEAGE = 0
    """A number for these logs, drawn when their regions were new."""
    CONTINUES = 1
    """Segment of the append-only file that the data were read up to at a cold start, and after which it goes on; 0: none."""
    STATE = 2
    ALWAYS = 3
    """1: a reply to a write waits until it is on the disk (`aof always`)."""
    REFUSES = 4
    """1: writes are refused while the state is FULL or FAILED (`aof_on_error refuse`)."""
    LAST_SNAPSHOT_MS = 5
    SNAPSHOTTING = 6
    """Number of the snapshot that is being made; 0: none."""


class Row(IntEnum):
    """Places in a shard's row."""

    DURABLE = 0
    """Log position up to which everything is on the disk."""
    BASE = 1
    """Log position of the shard when it was ready: it had what was on disk then, and nothing else."""
    RESTORING = 2
    """1 while the shard is being read from disk: a start that finds this does not take its region for data."""
    LOGGED = 3
    """Log position up to which everything is written, synced or not."""


class PersistenceRegion:
    """One process' view of it."""

    def __init__(self, instance: str, fd: int, *, writable: bool = False) -> None:
        """Map an open descriptor, which stays the caller's. Raises InstanceNotFound, LayoutMismatch."""
        whose = f"the persistence region of instance {instance!r}"
        self._map = mapped(fd, _MAGIC, PERSISTENCE_LAYOUT_VERSION, _BYTES, whose, "start with --cold", writable=writable)
        self.shards = _HEADER.unpack_from(self._map)[2]

    @classmethod
    def open(cls, instance: str, *, writable: bool = False) -> Self:
        """Raises InstanceNotFound if the instance keeps nothing on disk, LayoutMismatch."""
        absent = f"instance {instance!r} keeps nothing on disk (no --data-dir)"
        with opened(persistence_name(instance), instance, absent, writable=writable) as fd:
            return cls(instance, fd, writable=writable)

    @classmethod
    def take(cls, instance: str, shards: int, *, gid: int = -1) -> Self:
        """The supervisor's view: as an earlier run left it, or a new one with a new lineage. Raises NoSpace, LayoutMismatch."""
        def form(region: mmap.mmap) -> None:
            _HEADER.pack_into(region, 0, bytes(8), PERSISTENCE_LAYOUT_VERSION, shards)
            _U64.pack_into(region, _WORDS_AT + 8 * Word.LINEAGE, secrets.randbits(63) | 1)

        with taken(persistence_name(instance), _MAGIC, _BYTES, gid, "the persistence region", form) as fd:
            return cls(instance, fd, writable=True)

    def word(self, word: Word) -> int:
        return int(_U64.unpack_from(self._map, _WORDS_AT + 8 * word)[0])

    def store(self, word: Word, value: int) -> None:
        _U64.pack_into(self._map, _WORDS_AT + 8 * word, value)

    def row(self, shard: int, row: Row) -> int:
        return int(_U64.unpack_from(self._map, _ROWS_AT + _ROW_BYTES * shard + 8 * row)[0])

    def store_row(self, shard: int, row: Row, value: int) -> None:
        _U64.pack_into(self._map, _ROWS_AT + _ROW_BYTES * shard + 8 * row, value)

    @property
    def state(self) -> State:
        return State(self.word(Word.STATE))

    @property
    def is_restoring(self) -> bool:
        """Whether any shard was left in the middle of being read from disk."""
        return any(self.row(shard, Row.RESTORING) for shard in range(self.shards))

    def close(self) -> None:
        """Unmap."""
        self._map.close()
