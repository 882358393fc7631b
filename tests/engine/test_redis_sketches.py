"""HyperLogLog: the rules of a real redis-server; the estimates may differ by the sketches' errors (another hash, another estimator)."""

import random

from shmcache import _engine
from tests.engine.regions import execute
from tests.support.differential import Differential, Refusal, near

STANDARD_ERROR = 0.0081


def estimates(count: int) -> float:
    """How far two sketches of `count` elements may be from each other."""
    return max(1, 6 * STANDARD_ERROR * count)


def test_rules(both: Differential):
    both.all_same(
        "PFADD", "PFCOUNT", "PFMERGE", "PFCOUNT none", "PFCOUNT none nothing", "PFADD a", "PFADD a", "EXISTS a", "TYPE a", "PFCOUNT a",
        "PFADD a x", "PFADD a x", "PFADD a x y x", "PFCOUNT a", "PFADD b y z", "PFCOUNT a b", "PFCOUNT a b none", "PFMERGE c a b", "PFCOUNT c", "PFMERGE c", "PFMERGE d", "EXISTS d", "PFCOUNT d",
        "PFMERGE a none", "PFCOUNT a", "SET s text", "PFADD s x", "PFCOUNT s", "PFCOUNT a s", "PFMERGE a s", "PFMERGE s a", "GET s", "SET s 12", "PFADD s", "SET s ", "PFADD s x", "PFCOUNT s", "PFMERGE e s",
    )  # fmt: skip
    both.same("EXPIRE", "a", 100)
    both.same("PFADD", "a", "more")
    both.same("PFMERGE", "a", "b")
    both.same("TTL", "a", by=near(1))
    both.same("EXPIRE", "b", 100)
    both.same("COPY", "b", "copy")
    both.same("PFCOUNT", "copy")


def test_estimates(both: Differential):
    chooser = random.Random(1)
    seen: set[bytes] = set()
    for batch in (1, 10, 100, 500, 2000, 30_000, 100_000):
        elements = [chooser.randbytes(chooser.randrange(8, 20)) for _ in range(batch)]
        seen |= set(elements)
        for start in range(0, batch, 5000):
            both.same("PFADD", "all", *elements[start : start + 5000], by=near(1))
            both.same("PFADD", f"{{x}}part{batch}", *elements[start : start + 5000], by=near(1))
        counted = both.same("PFCOUNT", "all", by=near(estimates(len(seen))))
        assert abs(counted - len(seen)) <= estimates(len(seen))
    parts = [f"{{x}}part{batch}" for batch in (1, 10, 100, 500, 2000, 30_000, 100_000)]
    both.same("PFCOUNT", *parts, by=near(estimates(len(seen))))
    assert both.engine_answer("PFCOUNT", *parts) == both.engine_answer("PFCOUNT", "all")
    both.same("PFMERGE", "union", *parts)
    assert both.engine_answer("GET", "union") == both.engine_answer("GET", "all")


def test_an_add_that_changes_nothing_writes_nothing(both: Differential):
    owner = both.owner
    owner.command("PFADD", "a", *range(50))
    before = owner.stats()["log_seq"]
    assert owner.command("PFADD", "a", *range(50)) == 0
    assert owner.command("PFMERGE", "a", "a") == "OK"
    owner.command("SETBIT", "a bit", 9, 1)
    assert owner.command("SETBIT", "a bit", 9, 1) == 1
    owner.command("BITFIELD", "a bit", "GET", "u8", 0, "SET", "u8", 8, 0x40)
    assert owner.stats()["log_seq"] == before + 1


def test_a_sketch_grows_with_what_it_counts(both: Differential):
    owner = both.owner
    owner.command("PFADD", "few", *range(100))
    assert owner.command("STRLEN", "few") <= 8 + 300
    owner.command("PFADD", "many", *range(3000))
    assert owner.command("STRLEN", "many") == 8 + 16384 * 6 // 8


def test_damaged_sketches_are_refused(both: Differential):
    for offset, byte in ((4, b"\x07"), (8, b"\xff\xff\xff")):
        both.owner.command("PFADD", "a", *range(3000))
        both.owner.command("SETRANGE", "a", offset, byte)
        for local in (False, True):
            assert both.engine_answer("PFCOUNT", "a", local=local) == Refusal("INVALIDOBJ", "Corrupted HLL object detected")
        both.owner.command("DEL", "a")


def test_in_a_transaction(both: Differential):
    """The group's own writes are seen, and nothing is left of a command that fails."""
    commands = [("PFADD", "{x}a", "1"), ("PFADD", "{x}b", "2"), ("PFMERGE", "{x}c", "{x}a", "{x}b"), ("PFCOUNT", "{x}c"), ("SETBIT", "{x}c", "1", "1")]
    commands += [("BITOP", "OR", "{x}d", "{x}none"), ("LCS", "{x}a", "{x}b", "LEN"), ("OBJECT", "ENCODING", "{x}a"), ("BITFIELD", "{x}n", "SET", "u8", "0", "65"), ("GET", "{x}n")]
    results = execute(both.owner, commands, _engine.FLAG_TRANSACTION)
    assert results[:5] == [1, 1, "OK", 2, 1]
    assert results[5] == 0
    assert results[7:] == [b"embstr", [0], b"A"]
