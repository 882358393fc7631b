"""Where the shards are: from the directory region on this host, or through a router.

Both are shared by all threads of a client: what changes is replaced whole, under a lock.
"""

import array
import contextlib
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from .._engine import Reader
from ..errors import InstanceNotFound, LayoutMismatch, ProtocolError, ShmcacheError, Unavailable
from ..protocol import frames
from ..protocol.attach import open_reader
from ..protocol.clocks import RemoteClock
from ..protocol.codec import decode_results, encode_control
from ..protocol.commands import SlotMap
from ..protocol.directory import SLOTS, Directory, DirectorySnapshot, ShardRecord, even_slots
from ..protocol.replication import ReplicationRegion, Word
from .exchange import Deadline, Receive, Request, Step, Target, exchange
from .policy import retry_delay


@dataclass(frozen=True, slots=True)
class Attachment:
    """One mapping of an instance: its directory, the reader of its regions, the slot table."""

    directory: Directory
    snapshot: DirectorySnapshot
    version: int
    reader: Reader
    slots: SlotMap
    targets: tuple[Target | None, ...]
    """By shard; None while it has no worker."""


def _slot_map(snapshot: DirectorySnapshot) -> SlotMap:
    return SlotMap.of(array.array("H", snapshot.slots), len(snapshot.shards))


def _target(record: ShardRecord) -> Target | None:
    if not record.endpoints or record.owner_pid == 0 or record.state in ("down", "failed", "draining"):
        return None
    return Target(record.endpoints[0], (record.owner_pid, record.generation))


def _same_regions(old: DirectorySnapshot, new: DirectorySnapshot) -> bool:
    names = [[(r.data_name, r.hints_name) for r in snapshot.shards] for snapshot in (old, new)]
    return names[0] == names[1] and old.slots == new.slots


class LocalRoute:
    """An instance on this host, found by name."""

    sees_workers = True

    def __init__(self, instance: str, decode: bool) -> None:
        self.where = f"instance {instance!r}"
        self.epoch = 0
        self.clock = RemoteClock()
        self.attachment: Attachment | None = None
        self._replication: tuple[ReplicationRegion | None, int] = (None, -1)
        """The region, and the directory's version at which it was looked for."""
        self.known: SlotMap | None = None
        """The slots of the attachment, which may be out of date: enough where `target` is asked next."""
        self._forward_slots: SlotMap | None = None
        self._instance = instance
        self._decode = decode
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether `slots` are known and up to date."""
        attachment = self.attachment
        return attachment is not None and attachment.directory.version == attachment.version

    @property
    def slots(self) -> SlotMap:
        assert self.attachment is not None
        return self.attachment.slots

    @property
    def write_slots(self) -> SlotMap:
        """By which writes are split: the slots of the primary, if they are forwarded to one."""
        region = self._replication_region()
        if region is None or self.attachment is None or not self._forwards(self.attachment):
            return self.slots
        shards = region.word(Word.UPSTREAM_SHARDS)
        slots = self._forward_slots
        if shards and (slots is None or slots.shards != shards):
            slots = self._forward_slots = SlotMap.of(array.array("H", even_slots(shards)), shards)
        return slots if shards and slots is not None else self.slots

    def after_fork(self) -> None:
        """A thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def detach(self) -> None:
        """Give up the mapping; it is unmapped when no other thread is in it any more."""
        self.attachment = None
        self.known = None
        self._replication = (None, -1)

    def attach(self, *, regions_gone: bool = False) -> Attachment:
        """The mapping as it should be now; opens the directory by name if there is none or it was retired.

        `regions_gone`: a reader was told that its regions are retired. Raises what `Directory.open` does.
        """
        attachment = self.attachment
        if attachment is not None and not regions_gone and attachment.directory.version == attachment.version:
            return attachment
        with self._lock:
            old = self.attachment
            if old is not None and not regions_gone:
                version = old.directory.version
                if version == old.version:
                    return old
                snapshot = old.directory.snapshot()
                if snapshot.state != "retired" and _same_regions(old.snapshot, snapshot):
                    return self._adopt(old.directory, snapshot, version, old.reader, old.slots)
            directory = Directory.open(self._instance)
            version = directory.version
            snapshot = directory.snapshot()
            if snapshot.state in ("starting", "retired"):
                raise Unavailable(f"instance {self._instance!r} is {snapshot.state}")
            self._replication = (None, -1)
            reader = open_reader(snapshot, self._decode)
            return self._adopt(directory, snapshot, version, reader, _slot_map(snapshot))

    def _adopt(
        self, directory: Directory, snapshot: DirectorySnapshot, version: int, reader: Reader, slots: SlotMap
    ) -> Attachment:
        targets = tuple(map(_target, snapshot.shards))
        new = Attachment(directory, snapshot, version, reader, slots, targets)
        self.epoch = snapshot.epoch
        self.attachment = new
        self.known = slots
        return new

    def prepare(self, deadline: Deadline, *, regions_gone: bool = False) -> Generator[Step, Any, None]:
        """Attach. An instance that is starting, or was there before, is waited for; one that never was is
        not.
        """
        attempt = 0
        while True:
            try:
                self.attach(regions_gone=regions_gone)
                return
            except (InstanceNotFound, Unavailable) as error:
                attempt += 1
                never_seen = self.attachment is None and type(error) is InstanceNotFound
                yield from pause(attempt, deadline, self.given_up(error), now_or_never=never_seen)

    def given_up(self, error: Exception) -> ShmcacheError:
        """The one error when an instance does not come (back) in time."""
        if self.attachment is None and isinstance(error, ShmcacheError):
            return error
        return Unavailable(f"{self.where} stopped and did not come back in time: {error}")

    def replica_age(self) -> float | None:
        """Seconds that this replica is behind its primary; None if it is no replica."""
        region = self._replication_region()
        if region is None or not region.word(Word.IS_REPLICA):
            return None
        return time.time() - region.word(Word.CURRENT_AS_OF_MS) / 1000

    def _replication_region(self) -> ReplicationRegion | None:
        attachment = self.attachment
        if attachment is None:
            return None
        known, version = self._replication
        # Looked for again when the directory changes: a relay may have been started meanwhile.
        if known is None and version != attachment.version:
            try:
                known = ReplicationRegion.open(self._instance)
            except (InstanceNotFound, LayoutMismatch):
                pass
            self._replication = (known, attachment.version)
        return known

    def target(self, slot: int, flags: int = 0) -> Target | None:
        attachment = self.attachment
        if attachment is None or attachment.directory.version != attachment.version:
            try:
                attachment = self.attach()
            except (InstanceNotFound, Unavailable):
                return None
        if not flags & (frames.READ_ONLY | frames.CONTROL) and self._forwards(attachment):
            # The router passes it on to the primary.
            return Target(attachment.snapshot.router_endpoints[-1], (0, 0))
        return attachment.targets[attachment.slots.shard_of[slot]]

    def replaced(self, target: Target, slot: int, flags: int = 0) -> bool:
        """A change of roles sends later writes elsewhere; a worker that lives still answers what it has, one that ends in order as well."""
        # To a router: it forgets what it has forwarded when the role changes.
        now = self.target(slot, flags if target.worker == (0, 0) else flags | frames.READ_ONLY)
        if now is not None:
            return now != target
        attachment = self.attachment
        if attachment is None or attachment.directory.version != attachment.version:
            return True
        record = attachment.snapshot.shards[attachment.slots.shard_of[slot]]
        return record.state != "draining" or (record.owner_pid, record.generation) != target.worker

    def _forwards(self, attachment: Attachment) -> bool:
        region = self._replication_region()
        return (
            region is not None
            and bool(region.word(Word.IS_REPLICA) and region.word(Word.FORWARD_WRITES))
            and bool(attachment.snapshot.router_endpoints)
        )

    def arrived(self, slot: int, stamp: int) -> bool:
        """Whether a write of the primary, which this instance forwards to, is here already. True where nothing is forwarded."""
        attachment = self.attachment
        if attachment is None or not self._forwards(attachment):
            return True
        region = self._replication_region()
        assert region is not None
        shards = region.word(Word.UPSTREAM_SHARDS)
        return shards > 0 and region.stamp(slot * shards // SLOTS) >= stamp

    def forget(self) -> None:
        """The directory tells by itself when it has changed."""

    def wrote(self, *, forwarded: bool) -> None:
        """So does the replication region."""


class RouterRoute:
    """An instance behind a router, which forwards by slot: all shards have its one endpoint."""

    sees_workers = False

    def __init__(self, endpoint: str, secured: bool = False) -> None:
        self.where = f"{endpoint} (with CURVE)" if secured else endpoint
        self.epoch = 0
        self.clock = RemoteClock()
        self._target = Target(endpoint, (0, 0))
        self.known: SlotMap | None = None
        self._write_slots: SlotMap | None = None
        self._stale = False
        """What is known may not be true any more."""

    @property
    def ready(self) -> bool:
        """Whether `slots` are known."""
        return self.known is not None and not self._stale and self.clock.ahead_us is not None

    @property
    def slots(self) -> SlotMap:
        assert self.known is not None
        return self.known

    @property
    def write_slots(self) -> SlotMap:
        """By which writes are split: the slots of the primary, if they are forwarded to one."""
        return self._write_slots or self.slots

    def after_fork(self) -> None:
        """Nothing of it belongs to one process."""

    def detach(self) -> None:
        """Ask for the topology again before the next command."""
        self.known = None

    def prepare(self, deadline: Deadline) -> Generator[Step, Any, None]:
        """Ask the router for the topology and its clock, once, and again when an answer shows that one of them has changed."""
        if self.ready:
            return
        request = Request(0, 0, frames.CONTROL, encode_control("topology", {}))
        yield from exchange(self, [request], deadline)
        if not isinstance(request.outcome, bytes):
            assert request.outcome is not None
            raise Unavailable(f"no router answers at {self.where}: {request.outcome}") from request.outcome
        results = decode_results(request.outcome)
        answer = results[0] if results else None
        self.known, self.epoch, clock_us = read_topology(answer)
        self.clock.learn(clock_us)
        self._write_slots = read_slots(answer["write_slots"]) if "write_slots" in answer else None
        self._stale = False

    def target(self, slot: int, flags: int = 0) -> Target | None:
        return self._target

    def replaced(self, target: Target, slot: int, flags: int = 0) -> bool:
        """Not seen from here."""
        return False

    def arrived(self, slot: int, stamp: int) -> bool:
        """Asked of the replica, if a reply says that the write was forwarded."""
        return True

    def forget(self) -> None:
        """The router goes by the slot, so this is a needless split at worst; but for writes that are forwarded elsewhere since."""
        self._stale = True

    def wrote(self, *, forwarded: bool) -> None:
        if forwarded != (self._write_slots is not None):
            # The role of the instance is another one than when it was asked.
            self._stale = True


def read_topology(answer: Any) -> tuple[SlotMap, int, int]:
    """(Slot map, epoch, microseconds of the clock there) of a `topology` reply. Raises `ProtocolError`."""
    if isinstance(answer, Exception):
        raise answer
    with contextlib.suppress(KeyError, TypeError, ValueError):
        slots = read_slots(answer["slots"])
        if slots.shards <= len(answer["shards"]):
            return slots, int(answer["epoch"]), int(answer["clock_us"])
    raise ProtocolError("the topology reply is not as documented")


def read_slots(ranges: Sequence[Any]) -> SlotMap:
    """The map of [[first, last, shard], ...]. Raises `ProtocolError`."""
    shard_of: list[int] = [0] * (frames.SLOT_MAX + 1)
    with contextlib.suppress(KeyError, TypeError, ValueError, IndexError, OverflowError):
        for first, last, shard in ranges:
            shard_of[first : last + 1] = [shard] * (last + 1 - first)
        if len(shard_of) == frames.SLOT_MAX + 1:
            return SlotMap.of(array.array("H", shard_of), max(shard_of) + 1)
    raise ProtocolError("the topology reply is not as documented")


def pause(
    attempt: int, deadline: Deadline, error: ShmcacheError, *, now_or_never: bool = False
) -> Generator[Step, Any, None]:
    """Wait before the next attempt; raises `error` when there is no time for one."""
    until = time.monotonic() + retry_delay(attempt)
    if now_or_never or until >= deadline.at:
        raise error
    yield Receive(until)
