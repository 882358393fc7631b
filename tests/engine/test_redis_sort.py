"""SORT, DUMP and RESTORE: the engine answers as a real redis-server where the two can be compared."""

import random
import struct
import time

import pytest

from tests.support.differential import Differential, Refusal, code_only, near, unordered

CRC32C = 0x82F63B78
STRING, HASH, LIST, SET, ZSET = (struct.pack("B", code) for code in (1, 2, 3, 4, 5))


def crc32c(data: bytes) -> int:
    """Bit by bit: an implementation that has nothing in common with the engine's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (CRC32C if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def text(value: bytes) -> bytes:
    length, out = len(value), b""
    while length >= 0x80:
        out += bytes([length & 0x7F | 0x80])
        length >>= 7
    return out + bytes([length]) + value


def payload(kind: bytes, *parts: bytes) -> bytes:
    data = b"\x01" + kind + b"".join(parts)
    return data + crc32c(data).to_bytes(4, "little")


def make_set(both: Differential, key: bytes, members: list[bytes]) -> None:
    both.redis_answer("SADD", key, *members)
    assert both.engine_answer("RESTORE", key, 0, payload(SET, *map(text, members)), "REPLACE") == "OK"


def make_zset(both: Differential, key: bytes, scored: dict[bytes, float]) -> None:
    both.redis_answer("ZADD", key, *(part for member, score in scored.items() for part in (score, member)))
    parts = [struct.pack("<d", score) + text(member) for member, score in scored.items()]
    assert both.engine_answer("RESTORE", key, 0, payload(ZSET, *parts), "REPLACE") == "OK"


PICKED = {
    "numbers": """SORT none|SORT none STORE d|RPUSH a 3 10 1 2.5 -7 1e2|SORT a|SORT a DESC|SORT a ALPHA|SORT a ALPHA DESC|SORT a ASC DESC|SORT a LIMIT 1 2|SORT a LIMIT 1 -1|SORT a LIMIT -1 2|SORT a LIMIT 0 0|SORT a LIMIT 10 2|SORT a LIMIT x 1|SORT a LIMIT 1|SORT a LIMIT 2 100 DESC
        |RPUSH a x|SORT a|SORT a ALPHA|SORT a BY nosort|SORT a BY nosort DESC|SORT a BY nosort DESC LIMIT 1 3|SORT a BY nosort LIMIT 2 2|SORT a FOO|SORT a STORE|SORT a BY|SORT a GET|SORT|SET s 1|SORT s|SORT s FOO|SORT_RO a ALPHA|SORT_RO a STORE d|SORT a ALPHA STORE d|LRANGE d 0 -1|EXPIRE d 100|SORT a ALPHA STORE d|TTL d|SORT none STORE d|EXISTS d|SORT a STORE s ALPHA|TYPE s|SORT a ALPHA STORE a|LRANGE a 0 -1""",
    "patterns": """RPUSH a 1 2 3|MSET w_1 5 w_2 3 w_3 9 o_1 one o_2 two e_ empty|SORT a BY w_*|SORT a BY w_* DESC|SORT a BY w_* GET o_*|SORT a BY w_* GET o_* GET #|SORT a GET # GET #|SORT a GET o_* STORE d|LRANGE d 0 -1|SORT a BY none_*|SORT a BY none_* DESC|SORT a BY o_*|SORT a BY o_* ALPHA|SORT a BY o_* ALPHA DESC|SORT a GET x|SORT a GET *|SORT a BY # |SORT a BY *|SORT a GET o_*->|SORT a GET w_*_x
        |HSET h_1 f 3 g 1|HSET h_2 f 2|HSET h_3 f 1|SORT a BY h_*->f|SORT a BY h_*->f GET h_*->f GET h_*->g|SORT a BY h_*->none|SORT a GET h_*|SORT a GET w_*->f|SORT a BY h_*-> |SORT a BY h_*->f LIMIT 1 1 DESC|SORT a BY w_* LIMIT 0 2 GET o_* STORE d|LRANGE d 0 -1|SORT_RO a BY w_* GET o_*|SORT a BY w_* BY h_*->f|SORT a BY # STORE d""",
    "odd": """RPUSH a inf -inf 3|SORT a|DEL a|RPUSH a nan 1|SORT a|DEL a|RPUSH b 5 3 5 3 1 1|SORT b|SORT b DESC|RPUSH c 01 1 1.0|SORT c|SORT c DESC|SORT c ALPHA""",
    "restore_options": """RESTORE a 0|RESTORE a x y|RESTORE a -1 y|RESTORE a 0 y|RESTORE a 0 y FOO|RESTORE a 0 y IDLETIME|RESTORE a 0 y IDLETIME -1|RESTORE a 0 y IDLETIME x|RESTORE a 0 y FREQ 256|RESTORE a 0 y FREQ -1|RESTORE a 0 y FREQ 1 IDLETIME 1|RESTORE a 0 y IDLETIME 1 FREQ 1|RESTORE a 0 y REPLACE ABSTTL|SET a 1|RESTORE a 0 y|RESTORE a x y|RESTORE a x y REPLACE|RESTORE a -1 y REPLACE|RESTORE a 0 y REPLACE|GET a|DUMP none|DUMP
        |RESTORE a 0  REPLACE|MEMORY USAGE|MEMORY FOO|MEMORY USAGE none|MEMORY USAGE none SAMPLES 3|MEMORY USAGE none SAMPLES x|MEMORY USAGE none SAMPLES -1|MEMORY USAGE none SAMPLES|MEMORY USAGE none FOO 1|MEMORY""",
}


@pytest.mark.parametrize("name", PICKED)
def test_picked(both: Differential, name: str):
    for line in PICKED[name].split("|"):
        words = line.split()
        both.same(*words, by=near(1) if words[0] == "TTL" else lambda theirs, ours: theirs == ours and type(theirs) is type(ours))


@pytest.mark.parametrize("count", [20, 300])
def test_sets_and_sorted_sets(both: Differential, count: int):
    """Small and large ones."""
    make_set(both, b"s", [b"%d" % number for number in range(count)])
    make_zset(both, b"z", {b"m%d" % number: number % 7 for number in range(count)})
    both.all_same("SORT s", "SORT s DESC LIMIT 3 5", "SORT s ALPHA", "SORT s BY nosort STORE d", "LRANGE d 0 -1", "SORT z", "SORT z ALPHA LIMIT 0 10", "SORT z BY nosort", "SORT z BY nosort DESC LIMIT 2 20", "SORT z BY nosort STORE d", "LRANGE d 0 -1", "HSET h a 1", "SORT h", "SORT h BY nosort")
    both.same("SORT", "s", "BY", "nosort", by=unordered)
    both.same("SORT", "s", "BY", "nosort", "DESC", by=unordered)
    both.owner.verify()


@pytest.mark.parametrize("seed", range(3))
def test_random_sort(both: Differential, seed: int):
    chooser = random.Random(seed)
    for _ in range(120):
        both.reset()
        elements = [b"%d" % chooser.randrange(500) for _ in range(chooser.choice((1, 5, 50, 250)))]
        both.same("RPUSH", "a", *elements)
        weights = list({*elements})
        chooser.shuffle(weights)
        for place, element in enumerate(weights[: chooser.randrange(len(weights) + 1)]):
            both.same("SET", b"w_" + element, place)
            both.same("HSET", b"h_" + element, "f", place)
        options: list[object] = chooser.choice(([], ["BY", "w_*"], ["BY", "h_*->f"], ["BY", "nosort"]))[:]
        options += chooser.choice(([], ["LIMIT", chooser.randrange(-2, 60), chooser.randrange(-2, 60)]))
        options += chooser.choice(([], ["DESC"], ["ASC"]))
        # Texts of missing keys are equal, and Redis leaves the order of such elements open.
        options += chooser.choice(([], [] if "BY" in options else ["ALPHA"]))
        options += chooser.choice(([], ["GET", "w_*"], ["GET", "#", "GET", "h_*->f"]))
        both.same("SORT", "a", *options)
        both.same("SORT", "a", *options, "STORE", "d")
        both.same_state("d")


def test_what_was_dumped_is_restored(both: Differential):
    """Of every kind, small and large; values as they were, deadlines as the command says."""
    owner = both.owner
    long = b"x" * 300
    owner.command("SET", "string", long)
    owner.command("SET", "empty", b"")
    owner.command("PFADD", "sketch", "a", "b")
    for count in (5, 300):
        owner.command("RPUSH", f"list{count}", *(b"%d" % number for number in range(count)), long)
        owner.command("HSET", f"hash{count}", *(b"%d" % (number // 2) for number in range(count * 2)))
        make_set(both, b"set%d" % count, [b"%d" % number for number in range(count)])
        make_zset(both, b"zset%d" % count, {b"%d" % number: -number / 3 for number in range(count)})
    for key in [*owner.command("KEYS", "*")]:
        dumped = owner.command("DUMP", key)
        kind = owner.command("TYPE", key)
        copy = b"copy:" + key
        assert owner.command("RESTORE", copy, 5000, dumped) == "OK"
        assert owner.command("DUMP", copy) == dumped or kind in ("hash", "set"), key
        assert 4000 < owner.command("PTTL", copy) <= 5000
        assert owner.command("RESTORE", copy, int(time.time() + 100) * 1000, dumped, "REPLACE", "ABSTTL") == "OK"
        assert 98_000 < owner.command("PTTL", copy) <= 100_000
        assert owner.command("TYPE", copy) == kind
        if kind == "hash":
            assert sorted(owner.command("HGETALL", copy)) == sorted(owner.command("HGETALL", key))
        if kind in ("list", "set", "zset"):
            assert owner.command("SORT", copy, "ALPHA") == owner.command("SORT", key, "ALPHA")
        assert owner.command("RESTORE", copy, 1, dumped, "REPLACE", "ABSTTL") == "OK"
        assert owner.command("EXISTS", copy) == 0
    owner.verify()


def test_payloads_that_are_none(both: Differential):
    owner = both.owner
    owner.command("RPUSH", "l", *range(10))
    owner.command("SET", "kept", "value")
    dumped = owner.command("DUMP", "l")
    theirs = both.redis_answer("RPUSH", "l", 1) and both.redis_answer("DUMP", "l")
    refused = Refusal("ERR", "DUMP payload version or checksum are wrong")
    flipped = bytearray(dumped)
    flipped[5] ^= 4
    for bad in (b"", b"x" * 10, dumped[:-1], dumped + b"\x00", bytes(flipped), theirs, payload(b"\xf0", text(b"a")), b"\x02" + dumped[1:]):
        assert both.engine_answer("RESTORE", "kept", 0, bad, "REPLACE") == refused
    for parts in ((SET,), (SET, text(b"a"), text(b"a")), (HASH, text(b"a"), text(b"b")), (ZSET, struct.pack("<d", float("nan")), text(b"a")), (LIST, b"\xff" * 12)):
        assert both.engine_answer("RESTORE", "kept", 0, payload(*parts), "REPLACE") == Refusal("ERR", "Bad data format")
    assert owner.command("GET", "kept") == b"value"


def test_memory_usage(both: Differential):
    owner = both.owner
    owner.command("RPUSH", "l", *(b"%d" % number for number in range(100, 1000)))
    exact = owner.command("MEMORY", "USAGE", "l", "SAMPLES", 0)
    assert owner.command("MEMORY", "USAGE", "l") == pytest.approx(exact, rel=0.05)
    owner.command("LPUSH", "l", b"x" * 100_000)
    assert owner.command("MEMORY", "USAGE", "l", "SAMPLES", 0) > exact + 100_000
    both.same("MEMORY", "USAGE", by=code_only)
