"""The native engine: one shard's memory layout, its only writer, and its lock-free readers.

The engine knows nothing of sockets, processes, file names or topology: it is handed
file descriptors of shared memory objects and maps them. All times are unix milliseconds,
all sizes bytes, unless a name says otherwise. Keys are `bytes` of 0..=MAX_KEY_BYTES, values `bytes` of
0..=MAX_VALUE_BYTES. A `str` key or value is its UTF-8 encoding; an `int` its decimal digits.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

LAYOUT_VERSION: Final[int]
SLOT_COUNT: Final[int]
MAX_KEY_BYTES: Final[int]
MAX_VALUE_BYTES: Final[int]
MAX_BATCH_COMMANDS: Final[int]
MAX_DECISION_SHARDS: Final[int]
"""Only shards with lower numbers take part in transactions over several shards."""
MIN_MEMORY_BYTES: Final[int]
MAX_FRAME_BYTES: Final[int]
"""Largest frame of `LogTailer.poll_frame`."""
POLICIES: Final[tuple[str, ...]]
"""Names of the eviction policies, as in Redis' `maxmemory-policy`."""
FAIL_POINTS: Final[tuple[str, ...]]
"""Named places inside the engine's mutations where `arm_fail_point` may end the process."""
DEBUG_BUILD: Final[bool]

EVENTS: Final[dict[str, str]]
"""Names of changes of keys -> the letter of their class in `notify-keyspace-events`."""
PART_PREFIX: Final[bytes]
"""Begins the names of the parts of large collections in the log; no key of a user does."""

FLAG_TRANSACTION: Final[int]
"""Batch flag: all commands of the batch take effect as one atomic log group."""
FLAG_READ_ONLY: Final[int]
"""Batch flag: a command that may write is refused."""

class EngineError(Exception):
    """The engine refuses: a bad argument, a region that cannot be used."""

class LayoutMismatch(EngineError):
    """The region has another layout version or is not one of ours."""

class NoSpace(EngineError):
    """/dev/shm (or the memory cgroup) has no space for the region."""

class Busy(EngineError):
    """A reader's bounded retries ran out (the bucket is being changed, or its owner died in it): ask the owner."""

class Retired(EngineError):
    """The mapped region is no longer the instance's: map it again by name."""

class Overtaken(EngineError):
    """The log ring has overwritten records that this tailer had not read: resynchronise."""

class CommandError(EngineError):
    """A command's error reply; `code` is its first word (ERR, WRONGTYPE, OOM, ...)."""

    code: str
    message: str

class CommandSpec(NamedTuple):
    """One row of the command table, the only place where commands are described."""

    name: str
    """Upper case, `b"GET"` on the wire."""
    arity: int
    """As in Redis: with the name; negative means at least that many."""
    first_key: int
    """Index of the first key counted from the name (1-based); 0 if there is none."""
    last_key: int
    """Index of the last key; -1 is the last argument; 0 if there is none."""
    key_step: int
    """Distance of one key to the next (2 in MSET)."""
    flags: frozenset[str]
    """Of: `write`, `readonly`, `fast`, `denyoom` (may need memory), `idempotent` (a repetition leaves the same
    state; a client may send it again when the answer was lost), `local` (answered by a lock-free reader),
    `all_shards` (has no key: it concerns every shard), `blocking` (waits for an element: the engine tries once and answers nil)."""
    split: str
    """How one command over several shards is split and merged: `none` (keys must share a slot), `values` (MGET: one
    result per key, in order), `pairs` (MSET: key-value pairs, reply OK), `sum` (DEL, EXISTS, TOUCH, DBSIZE), `concat` (KEYS),
    `ok` (FLUSHALL), `any` (RANDOMKEY, PING: one shard), `cursor` (SCAN), `text` (INFO)."""
    family: str
    """Family for the latency histograms: `read`, `write`, `counter`, `expiry`, `scan`, `keyspace`, `server`, `hash`, `list`, `set`, `zset`."""
    summary: str
    numkeys: int
    """Index of the argument that says how many keys follow it; 0 if there is none."""

COMMANDS: Final[tuple[CommandSpec, ...]]

def key_slot(key: bytes | str) -> int:
    """Hash slot 0..16383 of a key or of its {hash tag}: CRC16/XMODEM mod 16384, as Redis Cluster."""

def key_slots(keys: Sequence[bytes | str]) -> list[int]: ...
def split_requests(data: bytes, at: int) -> tuple[list[list[bytes]], int]:
    """Whole commands of the Redis protocol (arrays of bulk strings) from `at` on, and where they end: at the first thing that is cut off,
    malformed or something else."""
class Packer:
    """Makes batches for the shards of what a Redis client sent (`docs/protocol.md`), without an object for each command."""

    def __init__(self, slots: bytes, shards: int, resp2: list[tuple[str, int]], resp3: list[tuple[str, int]]) -> None:
        """`slots`: 16384 little-endian u16, the shard of each slot. Then the commands that are taken from clients of either protocol, each with the
        most arguments (the name included; 0: any number). Raises `EngineError` for a table that is none."""
    def pack(
        self, data: bytes, at: int, resp3: bool, writes_first: bool, max_commands: int, max_bytes: int
    ) -> tuple[int, list[tuple[int, int, int, bool, bytes]], bytes | None]:
        """Whole, right and plain commands from `at` on, up to `max_commands`, and up to `max_bytes` unless the first is larger: (where the first
        begins that was not taken, for each shard (shard, a slot, number, whether any writes, msgpack without the array around it), order). The
        order has a little-endian u16 for each command, the number of its shard in that list; None if there is only one.
        `writes_first`: take nothing if the first command is one that `Reader.answer` answers."""

    def pack_packets(self, packets: list[tuple[bytes, int]], max_commands: int, max_bytes: int) -> tuple[bytes, list[tuple[int, int]], int, bool]:
        """One batch of whole packets (data, form: 2 or 3) where there is one shard: (payload, (number of commands, form) of each packet that was taken,
        slot of the first, whether any writes). It ends before a packet that is not plain from its beginning to its end, or begins with what
        `Reader.answer` answers, and at the limits; if the first is not taken there are none."""
def cut_results(payload: bytes, runs: list[tuple[int, int]]) -> tuple[list[bytes], list[str]] | None:
    """A batch's results cut into runs of (number of commands, form): RESP2 (form 2), RESP3 (3), or a msgpack array (0); and the codes of the errors
    among the first two. None if a result says MOVED, or the payload is malformed or has another number of results."""
def weave_results(order: bytes, parts: list[bytes], resp3: bool) -> tuple[bytes, list[str]] | None:
    """Results of several shards, msgpack arrays, as replies in `Packer.pack`'s order; and the codes of the errors. None if they do not fit."""
def arm_fail_point(name: str, after: int = 0) -> None:
    """Kill this process by SIGKILL at the `after`+1-th passage of the named point. For tests."""

class Owner:
    """The single writer of one shard: executes command batches, expires, evicts, appends to the log.

    Not thread-safe by design: one worker process, one thread. It keeps the descriptors' mappings, not the descriptors.
    """

    @staticmethod
    def create(
        data_fd: int,
        hints_fd: int,
        log_fd: int,
        *,
        memory_bytes: int,
        shard: int = 0,
        shards: int = 1,
        log_bytes: int = ...,
        policy: str = "noeviction",
        capacity_bytes: int | None = None,
    ) -> Owner:
        """Format three empty shared memory objects (any size; they are resized) and own them.

        `capacity_bytes` (default 4 x memory_bytes, at least 64 MiB) bounds what `memory_bytes` can be changed to live; it is address space, not memory.
        Raises `NoSpace`, `EngineError`.
        """

    @staticmethod
    def attach(data_fd: int, hints_fd: int, log_fd: int, commit_prepared: bool = False) -> Owner:
        """Own regions that a former owner left, cleanly or not: repairs them, redoes what the log has and the
        data has not; commits or forgets what it had prepared for a transaction that another shard decides (`Decisions`). Raises `LayoutMismatch`, `EngineError`. See `recovery`.
        """

    @property
    def recovery(self) -> dict[str, Any]:
        """What `create`/`attach` did: created, clean, keys, repaired_buckets, redone_records, duration_us."""
    @property
    def generation(self) -> int:
        """How many owners this region has had."""
    def execute(self, payload: bytes, flags: int = 0) -> bytes:
        """Run a batch: msgpack array of commands `[name, arg, ...]` -> msgpack array of as many results.

        Arguments are bin, str, int or float. Results: nil, int, bin (data), str (a status such as "OK"), arrays of these, and
        ext type 1 whose data is msgpack `[code, message]` for a failed command. A malformed payload raises `EngineError` and changes nothing.
        """
    def command(self, *args: bytes | str | int | float) -> Any:
        """Run one command and return its result as Python objects (a status is a `str`). Raises `CommandError`."""
    def begin_group(self) -> None:
        """Open a group: what `command` writes from now on is one atomic record of the log when the group is committed, and seen by nobody else
        before. Raises `EngineError` if one is open. Neither `execute` with FLAG_TRANSACTION nor `tick` nor `apply` may come before it is closed."""
    def commit_group(self) -> None:
        """Make the group's writes real, all or none. Raises `CommandError` (then nothing of it was done)."""
    def abandon_group(self) -> None:
        """Forget the group's writes; nothing happens if none is open."""
    def prepare(self, payload: bytes, token: int, decider: int, flags: int = 0) -> bytes:
        """As `execute` of a transaction that is not committed but prepared: committing it cannot be refused any more, and survives the owner. `token` names
        it, not 0; `decider` is the shard that decides. If the batch is refused as a whole all results say so and `prepared` is 0. Nothing but
        `commit_prepared` and `abandon_prepared` may come next."""
    def prepare_group(self, token: int, decider: int) -> None:
        """Prepare the open group. Raises `CommandError` (then nothing of it was done)."""
    @property
    def prepared(self) -> int:
        """Token of the prepared group; 0 = there is none."""
    @property
    def resolved(self) -> tuple[int, bool] | None:
        """What the former owner had prepared: its token, and whether `attach` committed it."""
    def commit_prepared(self, shards: Sequence[int] = ()) -> None:
        """Make the prepared group real. Its decider does so for these other shards as well, which learn it by `Decisions`."""
    def abandon_prepared(self) -> None:
        """Forget the prepared group."""
    def tick(self, budget_us: int = 1000) -> bool:
        """Heartbeat and a slice of housekeeping: reclaim expired entries, age marks, step compaction.
        Call it between batches and at least every 100 ms. True if there is more to do at once."""
    def configure(self, **options: Any) -> None:
        """Change live: memory_bytes, policy, samples (1..=64), lfu_log_factor, lfu_decay_ms, epoch, and what replication needs, all kept in the region:

        `replica` (bool): commands flagged `write` are answered READONLY; the shard neither expires nor evicts by itself, and `apply` may go beyond
        memory_bytes. `node` (0..511): own number among several writers; 0, the only writer, remembers no deletions. `tombstone_life_ms` (1 ms to
        30 days, default 1 h): how long deletions are remembered with a node other than 0.

        Not kept in the region: `hash_compact_entries`, `hash_compact_bytes`, and the same for list, set and zset: up to here a collection is one compact
        entry (0 to 65536 elements; 0 to 65522 bytes of each field, value or member). A collection changes its form with its next write, and large ones
        stay large. Raises `EngineError`.
        """
    def set_primary(self, address: str) -> None:
        """Where a refused write is sent: text of up to 256 bytes for the READONLY error. Not kept in the region."""
    def set_slots(self, bitmap: bytes | None) -> None:
        """Own only the slots whose bit is set (2048 bytes, slot s is bit s%8 of byte s//8); None owns all.
        A command on another slot is answered with the error code MOVED. FLUSHALL concerns these slots only."""
    def apply(self, records: bytes) -> int:
        """Apply log records as `LogTailer.poll` returns them; each only if its (stamp, node) is larger than the entry's. Returns how many took effect.

        Those go to this shard's own log too, with the stamp and node they came with. A group takes effect as a group (record by record if the own log's
        ring is too small for it). Raises `EngineError` on a corrupt record, a `set_ref`, a call that ends inside a group, and when there is no memory
        (the message names OutOfMemory or NoSpace; the latter is a `NoSpace`): whole groups before it are applied, nothing after it is."""
    def mark_stale(self, cursor: int, slots: bytes | None, budget_us: int) -> int:
        """Mark the entries of these slots (None: all) as not confirmed, for about `budget_us`. Begin with cursor 0 and go on with what is
        returned until that is 0. Entries written meanwhile are not marked. A marked entry is served as ever, loses against any set or delete that
        is applied, and is unmarked by a set with its own stamp, node, value and deadline."""
    def sweep_stale(self, cursor: int, slots: bytes | None, budget_us: int) -> tuple[int, int]:
        """Delete what is still marked, likewise in slices: (next cursor, how many were deleted). Each is an ordinary `delete` in the log, with a new
        stamp; it leaves no tombstone."""
    @property
    def log_position(self) -> int:
        """Position behind the last record of the log: `stats()["log_head"]`, cheaply."""
    @property
    def last_stamp(self) -> int:
        """The largest stamp given or seen here."""
    def stats(self) -> dict[str, Any]:
        """Counters and gauges of the shard, see docs/stats.md."""
    def waiting_tailers(self) -> list[str]:
        """Names of the tailers that sleep (`LogTailer.prepare_wait` said True) and may have something to read now: wake them. Call it after each
        batch, and once after `attach`. Each name comes once per sleep; costs a fence and a load when nobody sleeps."""
    def latencies(self) -> dict[str, dict[str, int]]:
        """Per command family: count, p50_ns, p99_ns, p999_ns, max_ns of execution since start."""
    def digest(self) -> int:
        """Order-free 64-bit digest of all live entries (key, value, stamp, node, expiry)."""
    def verify(self) -> dict[str, int]:
        """Walk everything and check that accounts add up; raises `EngineError` naming the first contradiction."""
    def retire(self) -> None:
        """Tell all readers that this region is no longer to be read (`Retired`)."""
    def close(self) -> None:
        """Mark a clean stop and unmap. Further calls raise `EngineError`."""

def retire_region(data_fd: int) -> None:
    """Mark a region whose owner is gone as retired, so that its readers map anew. Raises `LayoutMismatch` if it is not a region."""

def region_info(data_fd: int) -> dict[str, Any]:
    """Header of a data region without owning it: layout_version, shard, shards, generation, owner_pid, heartbeat_ms, state, keys, memory_bytes, ...
    Raises `LayoutMismatch`."""

class Reader:
    """Lock-free, read-only view of all shards of one instance on this host. Thread-safe; survives fork."""

    def __init__(self, shards: Sequence[tuple[int, int]], slots: bytes, decode: bool = False) -> None:
        """`shards`: (data_fd, hints_fd) of shard 0, 1, ...; `slots`: 16384 little-endian uint16, slot -> shard.
        `decode`: values come back as `str` (UTF-8, strict) instead of `bytes`. The descriptors may be closed afterwards."""
    def get(self, key: bytes | str | int) -> Any:
        """Value or None. Raises `Busy`, `Retired`, `CommandError` (WRONGTYPE)."""
    def mget(self, keys: Sequence[bytes | str | int]) -> list[Any]:
        """Values in order, None for a missing key."""
    def hget(self, key: bytes | str | int, field: bytes | str | int) -> Any:
        """A hash's field or None. Raises `Busy`, `Retired`, `CommandError` (WRONGTYPE)."""
    def sismember(self, key: bytes | str | int, member: bytes | str | int) -> int:
        """1 if it is a member of the set, else 0. Raises as `hget`."""
    def zscore(self, key: bytes | str | int, member: bytes | str | int) -> float | None:
        """A member's score or None. Raises as `hget`."""
    def get_stamped(self, key: bytes | str | int) -> tuple[Any, int] | None:
        """(value, stamp) of one consistent entry."""
    def command(self, *args: bytes | str | int | float) -> Any:
        """Run any command flagged `local` and return its result as `Owner.command` does. Several keys may lie in several shards where the table splits
        the command, else they must share a slot: `CommandError` (CROSSSLOT)."""
    def answer(self, data: bytes, at: int, resp3: bool, max_bytes: int) -> tuple[bytes, int, int]:
        """Answer the commands of the Redis protocol in `data` from `at` on, as long as they are reads with keys that are flagged `local` (in RESP3
        the few whose replies look the same), until there are `max_bytes` of replies: (replies, where the next command begins, how many were answered).
        It ends before a command that it cannot answer for any reason, `Busy` and `Retired` included."""
    def scan(self, shard: int, cursor: int, match: bytes | None, count: int, kind: str | None) -> tuple[int, list[bytes]]:
        """One SCAN step over one shard; the next cursor is 0 when the shard is done."""
    def sync_slice(self, shard: int, cursor: int, max_bytes: int) -> tuple[int, int, bytes]:
        """A piece of a full copy of a shard: (next cursor, applied position, records). Cursor 0 begins, next cursor 0 ends.

        The records are `set` records (seq 0; stamp, node, deadline and value of the entry, also past its deadline) and, for tombstones, `delete` records;
        `max_bytes` is passed by the last bucket, at least one bucket is read. An entry that is there throughout comes at least once. The
        slices in order, then the log from the FIRST slice's applied position on, are the whole state; older records must not be
        applied after a slice. Raises `Busy` (nothing was read: call again), `Retired`. Other threads run meanwhile."""
    def flush_records(self, shard: int) -> bytes:
        """The flushes that a shard with several writers remembers, oldest first, as `flush` records (seq 0; stamp, node and slots of the flush).

        A full copy that is merged applies them before its first slice: they delete what is older than them, and are remembered, so that it
        does not come back. Read after that slice, they have all flushes whose effects the slice has."""
    def slot_digests(self, shard: int, now_ms: int) -> bytes:
        """16384 little-endian uint64: per slot the sum of its entries' digests (key, value, stamp, node, deadline, kind), so that two hosts can compare
        whatever their numbers of shards; digests of several shards add up, modulo 2**64. Tombstones and entries whose deadline is not
        after `now_ms` are left out. Exact only if nothing is written meanwhile. Raises `Busy`, `Retired`. Other threads run meanwhile."""
    def slot_entries(
        self, shard: int, slots: bytes, now_ms: int, max_entries: int
    ) -> list[tuple[bytes, int, int, int]]:
        """(key, stamp, node, digest) of the entries that `slot_digests` sums up in the slots whose bits are set (a bitmap as for `Owner.set_slots`), in no
        order. Raises `EngineError` if there are more than `max_entries`, `Busy`, `Retired`. Other threads run meanwhile."""
    def shard_info(self, shard: int) -> dict[str, Any]:
        """As `region_info`."""

class Decisions:
    """What one shard has decided about transactions over several shards, read from its data region."""

    def __init__(self, data_fd: int) -> None:
        """Raises `EngineError` if it is no data region of this layout."""
    @property
    def prepared(self) -> tuple[int, int]:
        """Token and decider of the group that the shard's owner has prepared, also if it is dead; (0, 0) or (0, decider) if there is none."""
    def outcome(self, token: int, shard: int) -> bool | None:
        """Asked of the decider: whether it committed the transaction for that other shard; None: it has not decided yet. It remembers the
        last transaction of each shard."""

class LogTailer:
    """Reader of one shard's write log."""

    def __init__(self, log_fd: int, name: str, position: int | None = None) -> None:
        """Register under `name` (up to 23 bytes). `position` None begins at the log's end, 0 at the oldest record in the ring; else a value of `position`.
        Raises `EngineError` when all tailer places are taken, `Overtaken` if `position` is gone."""
    @property
    def position(self) -> int: ...
    @property
    def lag_bytes(self) -> int: ...
    @property
    def head_seq(self) -> int:
        """Sequence number of the log's last record: advice, it may be a moment ahead of what can be read."""
    @property
    def first_position(self) -> int: ...
    def poll(self, max_bytes: int = 1 << 20) -> bytes:
        """Whole records (and whole groups) in order, b"" if there are none. Raises `Overtaken`; then `resume_at_oldest` or resynchronise."""
    def poll_frame(self, max_bytes: int = 1 << 20, reader: Reader | None = None, shard: int = 0) -> LogFrame | None:
        """The next whole groups, about `max_bytes` of them and at least one; None if there is nothing new.

        With `reader` (of the shard whose log this is) `set_ref` records become `set` records with the value. One whose entry has
        been changed or deleted since is dropped; then the frame is as long as it takes to hold all later records up to the log's end
        at that moment, among them the one that says what became of the key. Raises `Busy` (the value cannot be read just now, or the owner died before
        it applied what it published; the position is unchanged, call again), `Retired`, `Overtaken` (also for a frame of more than
        MAX_FRAME_BYTES: resynchronise)."""
    def prepare_wait(self) -> bool:
        """Ask to be named by `Owner.waiting_tailers` when there is something to read. True: there is nothing yet, it is safe to sleep.
        False: there is something, poll; nothing was asked. After waking for another reason: `cancel_wait`."""
    def cancel_wait(self) -> None: ...
    def resume_at_oldest(self) -> int:
        """Go on from the oldest whole record; returns how many bytes were missed."""
    def close(self) -> None: ...

class LogFrame(NamedTuple):
    """Whole groups of a log. The frames of a tailer leave no gap: each begins where the one before ended."""

    from_position: int
    to_position: int
    first_seq: int
    """Of the log's records between the two positions; dropped `set_ref` records count, so that frames are dense in sequence numbers."""
    last_seq: int
    last_stamp: int
    """The newest stamp between the two positions."""
    count: int
    """Records in `records`."""
    records: bytes

class LogRecord(NamedTuple):
    seq: int
    stamp: int
    epoch: int
    node: int
    kind: str
    """`set`, `delete`, `expire_at` (new expiry only), `expired`, `evicted`, `flush`, `set_ref` (value too large for the ring), `changed` (parts of the
    key's large collection; its own value and expiry stay)."""
    key: bytes
    value: bytes | None
    """Of a `set`; of a `flush` the slots that it concerns: empty for all, else a bitmap as in `Owner.set_slots`. None for other kinds."""
    expiry_ms: int
    """0 = none"""
    more: bool
    """More records of the same atomic group follow."""
    type: str
    """Kind of a `set`'s value: `string`, `hash`, `list`, `set`, `zset`; `part` for a part of a large collection. `string` where there is no value;
    of a `changed` the collection's kind."""
    event: str
    """What the change is called in messages about keys: a name of `EVENTS`, or empty."""

def decode_records(records: bytes) -> list[LogRecord]:
    """Decode and checksum what `LogTailer.poll` returned. Raises `EngineError` with the offset of a corrupt record."""

def decode_changes(records: bytes) -> list[tuple[int, bytes, int]]:
    """(what, key, stamp) of each record that `LogTailer.poll` returned, without its value: what is 1 for a written key, 2 for a flush (its key is
    empty), 0 for any other change (deleted, expired, evicted, a new deadline). Parts of large collections are left out. Raises as `decode_records`."""

def split_records(records: bytes, slots: bytes, shards: int, drop_node: int = 0) -> list[bytes]:
    """Divide log records among the receiver's shards by `slots` (16384 little-endian uint16, slot -> shard); one `bytes` for each, order kept.

    A group becomes one group in each shard that has a part of it. A flush goes to each shard that owns one of its slots. Records of node `drop_node`
    are left out, if it is not 0. Raises `EngineError` with the offset of a corrupt record, or of the end of records that end within a group. For one
    shard and no node it is the input itself, checked. Other threads run meanwhile."""
