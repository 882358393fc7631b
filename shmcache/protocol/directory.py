"""The directory region: what a client maps first, and all it needs to find the rest.

Byte layout, little-endian. The first 64 bytes are the same in every layout version, so that
any release can retire what another one left behind.

    offset size  header
    0      8     magic "SHMCDIR\\0"
    8      4     layout version
    12     4     retired: 0, or 1 for good once the instance has stopped or a successor took over
    16     8     version: grows with every change; its lowest bit names the body in force
    24     8     body size in bytes
    32     32    zero
    64           body 0, body 1

    offset size  body
    0      4     crc32 of the rest of the body
    4      4     state: 0 starting, 1 serving, 2 stopping
    8      4     epoch of the slot table
    12     4     supervisor's pid
    16     8     supervisor's start, unix ms
    24     4     number of shards
    28     4     number of router endpoints
    32     64    instance name (text fields: UTF-8, filled up with zero bytes)
    96     1024  8 router endpoints of 128
    1120   32768 slot table: shard of slot 0..16383, uint16
    33888        shard records
    ...          hub record

    offset size  shard record, 512 bytes
    0      4     shard
    4      4     owner's pid, 0 = none
    8      8     generation of the data region, 0 = not known yet
    16     4     state: 0 starting, 1 serving, 2 down, 3 failed (dies at every start)
    20     4     number of endpoints
    24     8     zero
    32     192   names of the data, hints and log regions, 64 each
    224    256   2 endpoints of 128
    480    32    zero

    offset size  hub record, 544 bytes: the process of the pub/sub channels (docs/pubsub.md)
    0      4     its pid, 0 = none
    4      4     number of endpoints: 0, 2 (this host only) or 4
    8      8     generation: a random number of this start
    16     16    zero
    32     512   4 endpoints of 128: control and messages by ipc, control and messages by tcp

The supervisor writes the body that is not in force, then the version word: a reader finds a whole body at any
time, also when the supervisor dies half way. Only a reader that is overtaken by two changes sees a mixture;
the
checksum tells it, and it reads again.
"""

import fcntl
import mmap
import os
import struct
import sys
import time
import zlib
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

import posix_ipc

from ..errors import InstanceExists, InstanceNotFound, LayoutMismatch, Unavailable
from .names import directory_name, region_name
from .small_regions import mapped, opened

DIRECTORY_LAYOUT_VERSION: Final = 2
SLOTS: Final = 16384
SHARDS_MAX: Final = 1024
ROUTER_ENDPOINTS_MAX: Final = 8
SHARD_ENDPOINTS_MAX: Final = 2
HUB_ENDPOINTS_MAX: Final = 4
ENDPOINT_BYTES_MAX: Final = 128

State = Literal["starting", "serving", "stopping", "retired"]
ShardState = Literal["starting", "serving", "down", "failed", "draining"]
"""`draining`: its worker answers what it was sent and then ends in order; it is to be sent nothing new."""

_STATES: Final = get_args(State)
_SHARD_STATES: Final = get_args(ShardState)
_MAGIC: Final = b"SHMCDIR\0"
_HEADER: Final = struct.Struct("<8sIIQQ32x")
_RETIRED_AT: Final = 12
_VERSION_AT: Final = 16
_BODY: Final = struct.Struct(f"<IIIIQII64s{ENDPOINT_BYTES_MAX * ROUTER_ENDPOINTS_MAX}s{2 * SLOTS}s")
_SHARD: Final = struct.Struct(f"<IIQII8x64s64s64s{ENDPOINT_BYTES_MAX * SHARD_ENDPOINTS_MAX}s32x")
_HUB: Final = struct.Struct(f"<IIQ16x{ENDPOINT_BYTES_MAX * HUB_ENDPOINTS_MAX}s")
_U32: Final = struct.Struct("<I")
# Native, so that the version word is read and written in one move, not byte by byte.
_U64: Final = struct.Struct("@Q")
_READ_ATTEMPTS_MAX: Final = 100
_READ_PAUSE_S: Final = 0.001

assert sys.byteorder == "little"
assert _U64.size == 8
assert (_HEADER.size, _BODY.size, _SHARD.size, _HUB.size) == (64, 33888, 512, 544)


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One shard: its regions, who owns it, where its owner listens."""

    shard: int
    data_name: str
    hints_name: str
    log_name: str
    owner_pid: int = 0
    generation: int = 0
    endpoints: tuple[str, ...] = ()
    state: ShardState = "starting"


@dataclass(frozen=True, slots=True)
class DirectorySnapshot:
    """The directory at one moment."""

    instance: str
    epoch: int
    state: State
    supervisor_pid: int
    supervisor_started_ms: int
    slots: bytes
    """16384 little-endian uint16: slot -> shard."""
    shards: tuple[ShardRecord, ...]
    router_endpoints: tuple[str, ...]
    hub_endpoints: tuple[str, ...] = ()
    """Control and messages by ipc, then by tcp if there is any; empty without pub/sub."""
    hub_pid: int = 0
    hub_generation: int = 0


def even_slots(shards: int) -> bytes:
    """Slot table that gives every shard one contiguous and equal range."""
    return struct.pack(f"<{SLOTS}H", *(slot * shards // SLOTS for slot in range(SLOTS)))


def new_snapshot(instance: str, shards: int, epoch: int) -> DirectorySnapshot:
    """Directory of an instance whose processes are still to be started by this process."""
    assert 1 <= shards <= SHARDS_MAX
    return DirectorySnapshot(
        instance=instance,
        epoch=epoch,
        state="starting",
        supervisor_pid=os.getpid(),
        supervisor_started_ms=time.time_ns() // 1_000_000,
        slots=even_slots(shards),
        shards=tuple(
            ShardRecord(
                shard,
                region_name(instance, shard, "data"),
                region_name(instance, shard, "hints"),
                region_name(instance, shard, "log"),
            )
            for shard in range(shards)
        ),
        router_endpoints=(),
    )


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def _pack_endpoints(endpoints: tuple[str, ...], most: int) -> bytes:
    assert len(endpoints) <= most, endpoints
    fields = [endpoint.encode() for endpoint in endpoints]
    assert all(len(field) <= ENDPOINT_BYTES_MAX for field in fields), endpoints
    return b"".join(field.ljust(ENDPOINT_BYTES_MAX, b"\0") for field in fields)


def _unpack_endpoints(data: bytes, count: int) -> tuple[str, ...]:
    step = ENDPOINT_BYTES_MAX
    return tuple(_text(data[at : at + step]) for at in range(0, min(count * step, len(data)), step))


def pack_body(snapshot: DirectorySnapshot) -> bytes:
    """The body for a snapshot. `retired` is no state of a body: it stands in the header."""
    rest = [
        _BODY.pack(
            0,
            _STATES.index(snapshot.state),
            snapshot.epoch,
            snapshot.supervisor_pid,
            snapshot.supervisor_started_ms,
            len(snapshot.shards),
            len(snapshot.router_endpoints),
            snapshot.instance.encode(),
            _pack_endpoints(snapshot.router_endpoints, ROUTER_ENDPOINTS_MAX),
            snapshot.slots,
        )[4:]
    ]
    for record in snapshot.shards:
        rest.append(
            _SHARD.pack(
                record.shard,
                record.owner_pid,
                record.generation,
                _SHARD_STATES.index(record.state),
                len(record.endpoints),
                record.data_name.encode(),
                record.hints_name.encode(),
                record.log_name.encode(),
                _pack_endpoints(record.endpoints, SHARD_ENDPOINTS_MAX),
            )
        )
    endpoints = _pack_endpoints(snapshot.hub_endpoints, HUB_ENDPOINTS_MAX)
    rest.append(_HUB.pack(snapshot.hub_pid, len(snapshot.hub_endpoints), snapshot.hub_generation, endpoints))
    body = b"".join(rest)
    return _U32.pack(zlib.crc32(body)) + body


def unpack_body(data: bytes) -> DirectorySnapshot | None:
    """The snapshot in a body; None if the bytes are not one whole body."""
    if len(data) < _BODY.size or _U32.unpack_from(data)[0] != zlib.crc32(memoryview(data)[4:]):
        return None
    _, state, epoch, pid, started_ms, shards, routers, instance, endpoints, slots = _BODY.unpack_from(data)
    records = []
    hub_at = _BODY.size + shards * _SHARD.size
    hub_pid, hub_count, hub_generation, hub_endpoints = _HUB.unpack_from(data, hub_at)
    for at in range(_BODY.size, hub_at, _SHARD.size):
        shard, owner, generation, shard_state, count, data_name, hints, log, listens = _SHARD.unpack_from(
            data, at
        )
        records.append(
            ShardRecord(
                shard=shard,
                data_name=_text(data_name),
                hints_name=_text(hints),
                log_name=_text(log),
                owner_pid=owner,
                generation=generation,
                endpoints=_unpack_endpoints(listens, count),
                state=_SHARD_STATES[shard_state],
            )
        )
    return DirectorySnapshot(
        instance=_text(instance),
        epoch=epoch,
        state=_STATES[state],
        supervisor_pid=pid,
        supervisor_started_ms=started_ms,
        slots=slots,
        shards=tuple(records),
        router_endpoints=_unpack_endpoints(endpoints, routers),
        hub_endpoints=_unpack_endpoints(hub_endpoints, hub_count),
        hub_pid=hub_pid,
        hub_generation=hub_generation,
    )


class Directory:
    """Read-only view of an instance's directory. Stays readable, as `retired`, after the instance is gone."""

    def __init__(self, instance: str, fd: int, *, writable: bool = False) -> None:
        """Map an open descriptor, which stays the caller's. Raises InstanceNotFound, LayoutMismatch."""
        self.instance = instance
        whose = f"the directory of instance {instance!r}"
        self._map = mapped(
            fd, _MAGIC, DIRECTORY_LAYOUT_VERSION, _HEADER.size, whose, "use the same release of shmcache on both sides",
            writable=writable,
        )  # fmt: skip
        self._body_bytes = _HEADER.unpack_from(self._map)[4]
        if len(self._map) < _HEADER.size + 2 * self._body_bytes:
            self._map.close()
            raise LayoutMismatch(f"{whose} is shorter than it says: use the same release of shmcache on both sides")

    @classmethod
    def open(cls, instance: str) -> Self:
        """Map the directory of an instance by name. Raises InstanceNotFound, LayoutMismatch, ConfigError
        (bad name).
        """
        with opened(directory_name(instance), instance, f"no instance {instance!r} on this host") as fd:
            return cls(instance, fd)

    @property
    def version(self) -> int:
        """Changes with every change of the directory; cheap enough to poll."""
        return int(_U64.unpack_from(self._map, _VERSION_AT)[0])

    @property
    def retired(self) -> bool:
        """Whether this region is no longer the instance's: open it by name again."""
        return bool(_U32.unpack_from(self._map, _RETIRED_AT)[0])

    def snapshot(self) -> DirectorySnapshot:
        """The directory now. Raises Unavailable if what it holds is damaged."""
        for _ in range(_READ_ATTEMPTS_MAX):
            version = self.version
            start = _HEADER.size + (version & 1) * self._body_bytes
            found = unpack_body(self._map[start : start + self._body_bytes])
            if found is not None:
                return replace(found, state="retired") if self.retired else found
            time.sleep(_READ_PAUSE_S)
        raise Unavailable(f"the directory of instance {self.instance!r} is damaged")

    def close(self) -> None:
        """Unmap."""
        self._map.close()


def _is_current(name: str, fd: int) -> bool:
    """Whether the name still stands for the object that is open as `fd`."""
    try:
        by_name = posix_ipc.SharedMemory(name, read_only=True)
    except posix_ipc.ExistentialError:
        return False
    try:
        return os.path.sameopenfile(fd, by_name.fd)
    finally:
        by_name.close_fd()


def _retire(fd: int) -> None:
    """Mark the directory region open as `fd` as retired, whatever its layout version is."""
    size = os.fstat(fd).st_size
    if size < _HEADER.size:
        return
    with mmap.mmap(fd, size) as region:
        if region[: len(_MAGIC)] == _MAGIC:
            _U32.pack_into(region, _RETIRED_AT, 1)
            # By two: the body in force stays the same one.
            _U64.pack_into(region, _VERSION_AT, _U64.unpack_from(region, _VERSION_AT)[0] + 2)


def _holder(instance: str, fd: int) -> str:
    try:
        directory = Directory(instance, fd)
        found = directory.snapshot()
        directory.close()
    except (InstanceNotFound, LayoutMismatch, Unavailable):
        return "a process that is just starting or of another release"
    return f"pid {found.supervisor_pid}"


class DirectoryWriter:
    """The directory of the instance that this process supervises; holds the lock that keeps others out."""

    def __init__(self, fd: int, snapshot: DirectorySnapshot) -> None:
        self._fd = fd
        self._name = directory_name(snapshot.instance)
        self._current = snapshot
        body = pack_body(snapshot)
        size = _HEADER.size + 2 * len(body)
        # Taken now, because touching a page that a full /dev/shm cannot give is a SIGBUS.
        os.posix_fallocate(fd, 0, size)
        self._map = mmap.mmap(fd, size)
        self._body_bytes = len(body)
        self._version = 0
        self._map[_HEADER.size : _HEADER.size + len(body)] = body
        # The magic comes last: before it the region is nobody's.
        self._map[8 : _HEADER.size] = _HEADER.pack(_MAGIC, DIRECTORY_LAYOUT_VERSION, 0, 0, len(body))[8:]
        self._map[:8] = _MAGIC

    @classmethod
    def create(cls, snapshot: DirectorySnapshot, *, mode: int = 0o600, gid: int = -1) -> Self:
        """Take the instance's name: lock it, retire and remove what a dead supervisor left, publish
        `snapshot`.

        Raises InstanceExists if a living supervisor has the name, OSError if /dev/shm has no space
        or no permission.
        """
        name = directory_name(snapshot.instance)
        while True:
            memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREAT, mode=0o600)
            fd = memory.fd
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between open and lock a stopping supervisor may have unlinked it: then the
                # name is free or new.
                if _is_current(name, fd):
                    if os.fstat(fd).st_size == 0:
                        os.fchown(fd, -1, gid)
                        os.fchmod(fd, mode)
                        return cls(fd, snapshot)
                    _retire(fd)
                    posix_ipc.unlink_shared_memory(name)
            except BlockingIOError:
                holder = _holder(snapshot.instance, fd)
                os.close(fd)
                raise InstanceExists(
                    f"instance {snapshot.instance!r} is already running on this host ({holder})"
                ) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    @property
    def current(self) -> DirectorySnapshot:
        """What was published last."""
        return self._current

    def publish(self, snapshot: DirectorySnapshot) -> None:
        """Replace what readers see by `snapshot`, which has as many shards as the first one had."""
        if snapshot == self._current:
            return
        body = pack_body(snapshot)
        assert len(body) == self._body_bytes
        version = self._version + 1
        start = _HEADER.size + (version & 1) * self._body_bytes
        self._map[start : start + self._body_bytes] = body
        _U64.pack_into(self._map, _VERSION_AT, version)
        self._version, self._current = version, snapshot

    def update(self, **changes: Any) -> None:
        """Publish the current snapshot with some fields changed."""
        self.publish(replace(self._current, **changes))

    def update_shard(self, shard: int, **changes: Any) -> None:
        """Publish the current snapshot with some fields of one shard's record changed."""
        records = list(self._current.shards)
        records[shard] = replace(records[shard], **changes)
        self.update(shards=tuple(records))

    def retire(self) -> None:
        """Tell all who have it mapped to open the directory by name again, and free the name."""
        _retire(self._fd)
        posix_ipc.unlink_shared_memory(self._name)

    def close(self) -> None:
        """Unmap and give up the lock. Without `retire` the region stays, as after a crash."""
        self._map.close()
        os.close(self._fd)
