"""The replication region: what the relay of an instance knows and others need.

The relay is its only writer. Workers read from it how far replicas have acknowledged, clients how current a
replica is, and the next relay (after a kill or a warm restart) who it was and how far it had come. It exists only
where there is or was a relay, and lives as long as the data regions.

    offset  size    content
    0       8       magic "SHMCREPL"
    8       4       layout version
    12      4       shards of this instance
    16      48      zero
    64      64 x 8  words, uint64: see `Word`
    576     8192    stamps: for each shard of the upstream, up to which stamp its log is applied here
    8768    262144  acks: 32 replicas x 1024 shards, uint64: log position that the replica has applied
    270912  524288  two bodies of 262144: length (4), crc32 (4), JSON of `Identity`; word BODY names the one in force

Every word is written whole, by one aligned store. Positions and stamps only grow while a link lasts.
"""

import dataclasses
import json
import mmap
import secrets
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, Self

from ..limits import REPLICAS_MAX
from .directory import SHARDS_MAX
from .names import replication_name
from .small_regions import mapped, opened, taken

REPLICATION_LAYOUT_VERSION: Final = 1
_MAGIC: Final = b"SHMCREPL"
_HEADER: Final = struct.Struct("<8sII48x")
_WORDS_AT: Final = 64
_STAMPS_AT: Final = _WORDS_AT + 64 * 8
_ACKS_AT: Final = _STAMPS_AT + SHARDS_MAX * 8
_BODIES_AT: Final = _ACKS_AT + REPLICAS_MAX * SHARDS_MAX * 8
BODY_BYTES: Final = 1 << 18
_BYTES: Final = _BODIES_AT + 2 * BODY_BYTES
# Native: read and written in one move, not byte by byte.
_U64: Final = struct.Struct("@Q")
_BODY_HEAD: Final = struct.Struct("<II")

Role = Literal["primary", "replica"]


class Word(IntEnum):
    """Places of the words."""

    BODY = 0
    """Which body is in force."""
    IS_REPLICA = 1
    EPOCH = 2
    CURRENT_AS_OF_MS = 3
    """A replica holds all that its upstream had written until then (unix ms of this host)."""
    UPSTREAM_SHARDS = 4
    REPLICAS_GOOD = 5
    """Replicas that are connected and not further behind than the limit."""
    REPLICAS_KNOWN = 6
    """Replicas that count for quorum and all."""
    FORWARD_WRITES = 7


@dataclass(frozen=True, slots=True)
class Fork:
    """Where an instance left its upstream's history to become a primary."""

    history: int
    """Of the former upstream."""
    epoch: int
    """With which it was promoted."""
    positions: dict[int, int]
    """Upstream's shard -> log position up to which everything was applied."""
    heads: dict[int, int]
    """Own shard -> own log position at that moment: the same state."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How far another instance's logs are applied here."""

    history: int
    positions: dict[int, int]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instance is to other instances. Outlives its processes, as the data do."""

    replica_id: str
    history: int
    """Names the lineage of this instance's own logs: a new one when what is in them no longer leads to the data
    (a start without data, a full copy from elsewhere)."""
    role: Role = "primary"
    epoch: int = 1
    upstream: str = ""
    """Of a replica: its primary's address."""
    followed: dict[str, Followed] = field(default_factory=dict)
    """By address."""
    syncing: bool = False
    """A full copy was begun and is not complete: the data are no state of anyone."""
    fork: Fork | None = None
    fence: str = ""
    """Of a primary that took over: the former primary's address, until that one knows."""
    configured: str = ""
    """The option `replica_of` at the last start: a changed one is obeyed, the same one does not undo what was done live."""
    relay_endpoint: str = ""
    log_endpoint: str = ""
    """Where other instances reach this relay."""


def new_identity() -> Identity:
    """Of an instance that starts without a past."""
    return Identity(secrets.token_hex(8), secrets.randbits(63))


def _int_keys(table: dict[str, int]) -> dict[int, int]:
    return {int(key): value for key, value in table.items()}


def _unpack_identity(data: dict[str, Any]) -> Identity:
    data["followed"] = {
        address: Followed(item["history"], _int_keys(item["positions"]))
        for address, item in data["followed"].items()
    }
    if data["fork"] is not None:
        fork = data["fork"]
        data["fork"] = Fork(
            fork["history"], fork["epoch"], _int_keys(fork["positions"]), _int_keys(fork["heads"])
        )
    return Identity(**data)


class ReplicationRegion:
    """Read-only view of an instance's replication region; the relay has a writable one."""

    def __init__(self, instance: str, fd: int, *, writable: bool = False) -> None:
        """Map an open descriptor, which stays the caller's. Raises InstanceNotFound, LayoutMismatch."""
        whose = f"the replication region of instance {instance!r}"
        self._map = mapped(fd, _MAGIC, REPLICATION_LAYOUT_VERSION, _BYTES, whose, "start with --cold", writable=writable)
        self.shards = _HEADER.unpack_from(self._map)[2]
        self._acks = memoryview(self._map)[_ACKS_AT : _ACKS_AT + 8 * REPLICAS_MAX * SHARDS_MAX].cast("Q")

    @classmethod
    def open(cls, instance: str) -> Self:
        """Raises InstanceNotFound if the instance has no relay, LayoutMismatch."""
        absent = f"instance {instance!r} has no replication (no relay ever ran)"
        with opened(replication_name(instance), instance, absent) as fd:
            return cls(instance, fd)

    @classmethod
    def take(cls, instance: str, shards: int, *, gid: int = -1) -> Self:
        """The relay's own view: the region as an earlier relay left it, or a new one with a new identity.

        Raises NoSpace, LayoutMismatch.
        """
        def form(region: mmap.mmap) -> None:
            _HEADER.pack_into(region, 0, bytes(8), REPLICATION_LAYOUT_VERSION, shards)

        with taken(replication_name(instance), _MAGIC, _BYTES, gid, "the replication region", form) as fd:
            region_ = cls(instance, fd, writable=True)
        if region_.identity() is None:
            region_.store_identity(new_identity())
        return region_

    def word(self, word: Word) -> int:
        return int(_U64.unpack_from(self._map, _WORDS_AT + 8 * word)[0])

    def store(self, word: Word, value: int) -> None:
        _U64.pack_into(self._map, _WORDS_AT + 8 * word, value)

    def stamp(self, shard: int) -> int:
        """Up to which stamp the log of this shard of the upstream is applied here."""
        return int(_U64.unpack_from(self._map, _STAMPS_AT + 8 * shard)[0])

    def store_stamp(self, shard: int, stamp: int) -> None:
        _U64.pack_into(self._map, _STAMPS_AT + 8 * shard, stamp)

    def clear_stamps(self) -> None:
        """Nothing is known of the upstream's logs any more: whoever waits for a write of its own goes on waiting."""
        for shard in range(SHARDS_MAX):
            self.store_stamp(shard, 0)

    def acks(self, shard: int) -> list[int]:
        """Of every row: the position in this shard's log up to which that replica has applied it; 0 = none."""
        return self._acks[shard::SHARDS_MAX].tolist()

    def store_ack(self, row: int, shard: int, position: int) -> None:
        _U64.pack_into(self._map, _ACKS_AT + 8 * (SHARDS_MAX * row + shard), position)

    def clear_row(self, row: int) -> None:
        """No replica has this row any more."""
        start = _ACKS_AT + 8 * SHARDS_MAX * row
        self._map[start : start + 8 * SHARDS_MAX] = bytes(8 * SHARDS_MAX)

    def identity(self) -> Identity | None:
        """As stored last; None if there is none (or the region is damaged)."""
        start = _BODIES_AT + (self.word(Word.BODY) & 1) * BODY_BYTES
        length, checksum = _BODY_HEAD.unpack_from(self._map, start)
        data = self._map[start + 8 : start + 8 + min(length, BODY_BYTES - 8)]
        if length == 0 or zlib.crc32(data) != checksum:
            return None
        return _unpack_identity(json.loads(data))

    def store_identity(self, identity: Identity) -> None:
        """Write the body that is not in force, then name it: a kill in between leaves the old one."""
        data = json.dumps(dataclasses.asdict(identity)).encode()
        assert len(data) <= BODY_BYTES - 8, "shards and peers are bounded"
        body = self.word(Word.BODY) & 1 ^ 1
        start = _BODIES_AT + body * BODY_BYTES
        self._map[start : start + 8 + len(data)] = _BODY_HEAD.pack(len(data), zlib.crc32(data)) + data
        self.store(Word.BODY, body)

    def close(self) -> None:
        """Unmap."""
        self._acks.release()
        self._map.close()
