"""The log tells everything: replaying it into an empty engine, also twice, also from the middle onto a copy
taken there, gives the identical state. Kept for every command to come: the calls are those of the table.
"""

import random
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shmcache import _engine
from tests.engine.generators import Command, one_of
from tests.engine.regions import execute, new_regions, regions, settle

LOG_BYTES = 4 << 20
MEMORY_BYTES = 1 << 20
SHORT_MS = 50
RELAXED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    print_blob=True,
)

step = st.one_of(
    st.tuples(st.just("batch"), st.lists(one_of("writing"), min_size=1, max_size=5)),
    st.tuples(st.just("transaction"), st.lists(one_of("writing"), min_size=1, max_size=5)),
    st.tuples(st.just("evict"), st.integers(1, 120)),
    st.tuples(st.just("wait"), st.just(None)),
    st.tuples(st.just("new owner"), st.just(None)),
)
"""What the owner of a shard lives through."""


def perform(owner: _engine.Owner, kind: str, what: list[Command] | int | None, salt: int) -> None:
    match kind:
        case "batch" | "transaction":
            assert isinstance(what, list)
            execute(owner, what, _engine.FLAG_TRANSACTION if kind == "transaction" else 0)
        case "evict":
            assert isinstance(what, int)
            execute(owner, [(b"SET", b"fill:%d:%d" % (salt, n), b"f" * 9000) for n in range(what)])
        case "wait":
            time.sleep(SHORT_MS / 1000)
            settle(owner)


def replica_digest(*parts: bytes) -> int:
    """State of an engine that was empty and applied these parts of a log."""
    made = new_regions()
    owner = made.create(memory_bytes=64 << 20)
    try:
        for part in parts:
            owner.apply(part)
        owner.verify()
        time.sleep(0.001)
        return owner.digest()
    finally:
        owner.close()
        made.close()


@RELAXED
@given(
    steps=st.lists(step, min_size=2, max_size=20),
    policy=st.sampled_from(("allkeys-lru", "volatile-ttl", "noeviction")),
)
@pytest.mark.timeout(300)
def test_replay_gives_the_identical_state(steps: list[tuple[str, object]], policy: str):
    """Any sequence of writes, transactions, expiry, eviction, flushes, new owners; once, twice, in halves."""
    with regions() as made:
        owner = made.create(memory_bytes=MEMORY_BYTES, log_bytes=LOG_BYTES, policy=policy)
        tailer = _engine.LogTailer(made.log, "replay", 0)
        middle = len(steps) // 2
        parts = [b"", b""]
        for number, (kind, what) in enumerate(steps):
            if kind == "new owner":
                del owner
                owner = made.attach()
            perform(owner, kind, what, number)  # type: ignore[arg-type]
            parts[number >= middle] += drain(tailer)
        time.sleep(SHORT_MS / 1000)
        wanted = owner.digest()
        first, second = parts
        assert replica_digest(first + second) == wanted, "once"
        assert replica_digest(first + second, first + second) == wanted, "twice"
        assert replica_digest(first, second) == wanted, "onto a copy taken in the middle"
        assert replica_digest(first, first + second) == wanted, "from the start onto that copy"
        assert replica_digest(first + second, second) == wanted, "the end again"
        owner.verify()
        tailer.close()
        owner.close()


def drain(tailer: _engine.LogTailer, max_bytes: int = 1 << 20) -> bytes:
    everything = b""
    while part := tailer.poll(max_bytes):
        everything += part
    return everything


def written(made_owner: _engine.Owner) -> None:
    """Some writes with groups among them."""
    for number in range(20):
        execute(made_owner, [(b"SET", b"k%d" % number, b"v" * number)])
        group = [(b"SET", b"g%d:%d" % (number, part), b"%d" % number) for part in range(number % 5 + 2)]
        execute(made_owner, group, _engine.FLAG_TRANSACTION)


def test_a_damaged_byte_is_refused_with_its_offset():
    """Wherever a byte is wrong: an error with an offset, every whole group before it applied, no more."""
    with regions() as made:
        owner = made.create()
        tailer = _engine.LogTailer(made.log, "damage", 0)
        written(owner)
        log = drain(tailer)
        records = _engine.decode_records(log)
        chance = random.Random(1)
        for at in sorted(chance.sample(range(len(log)), 200)):
            damaged = bytearray(log)
            damaged[at] ^= 1 << chance.randrange(8)
            with pytest.raises(_engine.EngineError, match=r"\d+"):
                _engine.decode_records(bytes(damaged))
            copy = new_regions()
            replica = copy.create()
            with pytest.raises(_engine.EngineError, match=r"\d+"):
                replica.apply(bytes(damaged))
            keys = replica.command("DBSIZE")
            sizes = [48 + padded(record.key) + padded(record.value or b"") for record in records]
            before, position = 0, 0
            while position + sizes[before] <= at:
                position += sizes[before]
                before += 1
            while before and records[before - 1].more:
                before -= 1
            assert keys == before, f"byte {at}"
            replica.verify()
            replica.close()
            copy.close()
        tailer.close()
        owner.close()


def padded(data: bytes) -> int:
    return -(-len(data) // 8) * 8


def test_cut_log_is_refused():
    """A log that ends within a record is an error, not a shorter log."""
    with regions() as made:
        owner = made.create()
        tailer = _engine.LogTailer(made.log, "cut", 0)
        owner.command("SET", "k", "v" * 100)
        log = drain(tailer)
        for length in range(1, len(log)):
            with pytest.raises(_engine.EngineError):
                _engine.decode_records(log[:length])
        tailer.close()
        owner.close()


def test_groups_are_never_split():
    """However few bytes a poll asks for, it returns whole groups, in dense order."""
    with regions() as made:
        owner = made.create()
        tailer = _engine.LogTailer(made.log, "groups", 0)
        written(owner)
        seen = []
        while part := tailer.poll(1):
            records = _engine.decode_records(part)
            assert [record.more for record in records] == [True] * (len(records) - 1) + [False]
            seen += records
        assert [record.seq for record in seen] == list(range(seen[0].seq, seen[0].seq + len(seen)))
        assert [record.stamp for record in seen] == sorted({record.stamp for record in seen})
        tailer.close()
        owner.close()


def test_overtaken_tailer_is_told():
    """A tailer that the ring has passed is told so, and can go on from the oldest whole record."""
    with regions() as made:
        owner = made.create(memory_bytes=64 << 20, log_bytes=1 << 20)
        tailer = _engine.LogTailer(made.log, "slow", 0)
        for number in range(400):
            owner.command("SET", b"k%d" % number, b"v" * 5000)
        with pytest.raises(_engine.Overtaken):
            tailer.poll()
        assert tailer.resume_at_oldest() > 0
        records = _engine.decode_records(drain(tailer))
        assert records[-1].key == b"k399"
        assert [record.seq for record in records] == list(range(records[0].seq, records[-1].seq + 1))
        with pytest.raises(_engine.Overtaken):
            _engine.LogTailer(made.log, "late", 64)
        tailer.close()
        owner.close()
