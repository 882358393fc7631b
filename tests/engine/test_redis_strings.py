"""String commands, deadlines and names: the engine answers as a real redis-server, errors included."""

import random
import time

import pytest

from tests.support.differential import Differential, Refusal, code_only, exact, near

KEYS = (b"a", b"b", b"c", b"none")
FAR_S = int(time.time()) + 100_000

PICKED = {
    "set_options": """SET a 1 NX XX|SET a 1 XX NX|SET a 1 NX NX|SET a 2 XX XX|SET a 1 GET GET|SET a 1 EX 10 PX 10|SET a 1 EX 10 EX 20|SET a 1 EX
        |SET a 1 EX NX|SET a 1 EX x FOO|SET a 1 EX x|SET a 1 EX 0|SET a 1 EX -1|SET a 1 PX 9223372036854775807|SET a 1 EX 9223372036854775807
        |SET a 1 EX 9223372036854775|SET a 1 KEEPTTL EX 10|SET a 1 EX 10 KEEPTTL|SET a 1 KEEPTTL KEEPTTL|SET a 1 PERSIST|SET a 1 NX GET|SET none 1 XX GET
        |SET none 1 XX EX 0|SET a 1 EXAT 1|EXISTS a|SET a 1 PXAT 0|SET a 1 PXAT 5|GET a|SET a|SET a 1 FOO|SET b 5 ex 100 get|TTL b|SET b 6 KEEPTTL|TTL b|SET b 7|TTL b""",
    "getex": """GETEX a EX 10 PERSIST|GETEX a PERSIST EX 10|GETEX a EX|GETEX a EX x|GETEX a EX x FOO|GETEX a FOO|SET a 1|GETEX a EX x|GETEX a EX 0|GETEX a EX 10 EX 20|TTL a
        |GETEX a PERSIST PERSIST|TTL a|GETEX a EX 10 PX 10|GETEX a KEEPTTL|GETEX a PXAT 5|EXISTS a|GETEX|GETEX a""",
    "setex": """SETEX a 0 1|SETEX a -1 1|SETEX a x 1|PSETEX a 0 1|PSETEX a 9223372036854775807 1|SETEX a 9223372036854775807 1|SETEX a 100 1|TTL a|SETNX a 2|SETNX c 2|GETSET a 3|TTL a
        |GETDEL a|GETDEL a|SETEX a 1""",
    "expire": """EXPIRE none 10 FOO|EXPIRE none x FOO|EXPIRE none x NX|SET a 1|EXPIRE a 100 NX XX|EXPIRE a 100 GT LT|EXPIRE a 100 NX GT|EXPIRE a 100 nx|EXPIRE a 200 NX|EXPIRE a 50 GT
        |EXPIRE a 500 GT|EXPIRE a 900 LT|EXPIRE a 90 LT|EXPIRE a 800 XX|EXPIRE a 700 XX GT|EXPIRE a 750 XX XX|TTL a|EXPIRE a 9223372036854775807|EXPIRE a -9223372036854775808|EXPIRE a 9223372036854775
        |EXPIRE a -9223372036854775|EXISTS a|PEXPIRE a 9223372036854775807|SET a 1|PEXPIRE a 9223372036854775807|PEXPIRE a -9223372036854775808|EXISTS a|SET a 1|EXPIREAT a 0|EXISTS a
        |SET a 1|PEXPIREAT a 9223372036854775807|PEXPIRETIME a|EXPIRETIME a|TTL a|EXPIREAT a 9223372036854775807|EXPIREAT a -1|EXISTS a|EXPIRE a 1.5|EXPIRE a|PERSIST a|SET a 1|PERSIST a|EXPIRE a 100|PERSIST a|TTL a|TTL none|PTTL a|EXPIRETIME a|EXPIRETIME none|EXPIRE a 0|EXISTS a""",
    "counters": """INCR a|INCRBY a 9223372036854775807|INCRBY a 9223372036854775806|INCR a|DECRBY a -9223372036854775808|DECRBY b -9223372036854775808|DECRBY a x|INCRBY a 1.0|INCRBY a 01|SET b 01|INCR b|SET b x|INCR b
        |DECRBY c 9223372036854775807|DECR c|DECR c|INCRBY c -9223372036854775808|SET b -0|INCR b|DECR none|INCRBY a +1""",
    "floats": """INCRBYFLOAT a 0.5|INCRBYFLOAT a 0.25|INCRBYFLOAT a -0.75|INCRBYFLOAT a 5.0e3|INCRBYFLOAT a x|INCRBYFLOAT a nan|INCRBYFLOAT a inf|INCRBYFLOAT a -inf|INCRBYFLOAT a Infinity|INCRBYFLOAT a 1x|INCRBYFLOAT a +1
        |INCRBYFLOAT a .5|INCRBYFLOAT a 1.|INCRBYFLOAT a 1e2|INCRBYFLOAT a -1E2|INCRBYFLOAT a .|INCRBYFLOAT a e5|INCRBYFLOAT a 1e|INCRBYFLOAT a 1_0|SET b x|INCRBYFLOAT b 1|INCRBYFLOAT b x|SET b inf|INCRBYFLOAT b 1|INCRBYFLOAT b -inf|SET b 3.0e3|INCRBYFLOAT b 200
        |SET b 10.50|INCRBYFLOAT b 0.1|INCRBYFLOAT none 0|INCRBYFLOAT none -0|SET c 5|EXPIRE c 100|INCRBYFLOAT c 1|TTL c|INCRBYFLOAT c 1e17|INCRBYFLOAT c -1e17|INCRBYFLOAT b 0.2|SET b 0.1|INCRBYFLOAT b 0.2|INCRBYFLOAT b -0.3|INCRBYFLOAT b 1e-5|INCRBYFLOAT b 1e-20|INCRBYFLOAT b -1.00001|INCRBYFLOAT b 3.00000000000000001|SET b 1e400x|INCRBYFLOAT b 1|INCRBYFLOAT c""",
    "ranges": """SET a 0123456789|GETRANGE a 0 -1|GETRANGE a -3 -1|GETRANGE a 5 2|GETRANGE a -100 100|GETRANGE a -1 -5|GETRANGE a -100 -100|GETRANGE a 9223372036854775807 -9223372036854775808|GETRANGE a x 1|GETRANGE a 1 x|GETRANGE none x 1|GETRANGE none 0 1|SUBSTR a 1 3|SUBSTR a 1
        |SETRANGE a -1 x|SETRANGE a x x|SETRANGE a 536870912 x|SETRANGE a 536870911 xx|SETRANGE a 9223372036854775807 x|SETRANGE none -1 x|SETRANGE a 12 zz|GET a|SETRANGE a 0 Z|STRLEN a|STRLEN none|APPEND none x|APPEND none y|GET none""",
    "several": """MSET a|MSET a 1 b|MSETNX a|MSETNX a 1 b|MSETNX a 1 a 2|GET a|MSETNX a 5 b 6|EXISTS b|MSET a 1 a 2|MGET a b none|DEL a a b|EXISTS a a b|TOUCH a b|UNLINK a|MGET|DEL""",
    "names": """RENAME none a|RENAME none none|RENAMENX none a|SET a 1|RENAME a a|RENAMENX a a|SET b 2|RENAMENX a b|EXPIRE a 100|RENAME a b|TTL b|GET b|COPY b b|COPY none none|COPY none a|COPY b c|TTL c|COPY b c|COPY b c REPLACE|COPY b c DB 0
        |COPY b c DB x|COPY b c DB|COPY b c FOO|COPY b c DB 99|COPY b c DB -1|RENAME a|COPY a|RANDOMKEY x|TYPE b|TYPE none""",
    "unknown": """FOO|FOO a b|foo a|GET|GET a b|get a|PING a b|PING a|PING|ECHO|ECHO a|FLUSHALL FOO|FLUSHDB ASYNC SYNC|DBSIZE|DBSIZE 1|RANDOMKEY|SCAN|SCAN x|SCAN 0 COUNT 0|SCAN 0 COUNT x|SCAN 0 MATCH|SCAN 0 FOO 1|KEYS a*|KEYS""",
    "object": """OBJECT|OBJECT FOO a|OBJECT FOO|OBJECT ENCODING|OBJECT ENCODING none|OBJECT ENCODING a b|OBJECT FREQ|OBJECT FREQ none|OBJECT IDLETIME none|OBJECT REFCOUNT none|OBJECT HELP x|SET a x|OBJECT ENCODING a|OBJECT REFCOUNT a|object idletime a|SET a 12|OBJECT ENCODING a|SET a 9223372036854775808|OBJECT ENCODING a
        |SET a 01|OBJECT ENCODING a|SET a xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx|OBJECT ENCODING a|SET a xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx|OBJECT ENCODING a|INCR b|OBJECT ENCODING b""",
    "lcs": """LCS a b|MSET a ohmytext b mynewtext|LCS a b|LCS a b LEN|LCS a b IDX|LCS a b IDX MINMATCHLEN 4|LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN|LCS a b IDX WITHMATCHLEN|LCS a b LEN IDX|LCS a b FOO|LCS a b MINMATCHLEN|LCS a b MINMATCHLEN x|LCS a b IDX MINMATCHLEN -5|LCS a|LCS a none IDX|LCS a a|LCS a none|lcs a b len MINMATCHLEN 3 WITHMATCHLEN""",
}


@pytest.mark.parametrize("name", PICKED)
def test_picked(both: Differential, name: str):
    for line in PICKED[name].split("|"):
        words = line.split()
        both.same(*words, by={"TTL": near(1), "PTTL": near(1500)}.get(words[0], exact))
    both.same_state(*KEYS)


def test_sizes_at_the_limit(both: Differential):
    """Odd arguments that a line cannot hold."""
    both.same("SET", "", "empty key")
    both.same("GET", "")
    both.same("NO SUCH", "a" * 200, "b" * 200)
    both.same("N" * 200, "a")
    both.same("GETX", "x\r\ny", by=code_only)
    for text in (" 1", "1 ", "", "1\x00", "\t1", "1\n"):
        both.same("SET", "a", text)
        both.same("INCR", "a")
        both.same("INCRBYFLOAT", "a", "1")
        both.same("INCRBYFLOAT", "n", text)
        both.same("EXPIRE", "a", text)
        both.same("OBJECT", "ENCODING", "a")


def test_object_under_policies(both: Differential):
    """IDLETIME needs a policy that does not count accesses, FREQ one that does."""
    both.same("SET", "a", "x")
    both.same("OBJECT", "FREQ", "a", by=code_only)
    both.redis_answer("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    both.owner.configure(policy="allkeys-lfu")
    try:
        both.same("OBJECT", "IDLETIME", "a", by=code_only)
        both.same("OBJECT", "IDLETIME", "none")
        both.same("OBJECT", "FREQ", "none")
    finally:
        both.redis_answer("CONFIG", "SET", "maxmemory-policy", "noeviction")
        both.owner.configure(policy="noeviction")


def test_lcs_is_refused_where_it_would_take_too_long(both: Differential):
    both.same("SETRANGE", "a", 20_000, "x")
    both.same("SETRANGE", "b", 20_000, "x")
    assert isinstance(both.redis_answer("LCS", "a", "b", "LEN"), Refusal)
    assert both.engine_answer("LCS", "a", "b", "LEN").code == "LIMIT"


NUMBERS = (b"0", b"1", b"-1", b"5", b"100", b"5000", b"x", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775", b"1.5", b"")
VALUES = (b"", b"0", b"17", b"-5", b"text", b"1.5", b"more text \x00\xff", b"9223372036854775807", b"x" * 50)
OPTIONS = (b"NX", b"XX", b"GET", b"KEEPTTL", b"PERSIST", b"gt", b"LT", b"FOO")
LIFETIMES = ((b"EX", b"999"), (b"PX", b"999500"), (b"EXAT", b"%d" % FAR_S), (b"PXAT", b"%d" % (FAR_S * 1000)), (b"ex", b"x"), (b"EX", b"0"), (b"EXAT", b"5"), (b"PX",))


def arguments(chooser: random.Random) -> tuple[bytes, ...]:
    pick = chooser.choice
    key, value, number = pick(KEYS[:3]), pick(VALUES), pick(NUMBERS)
    options: list[bytes] = []
    for _ in range(pick((0, 0, 1, 1, 2, 3))):
        options += pick(LIFETIMES) if pick((0, 1)) else [pick(OPTIONS)]
    commands: tuple[tuple[bytes, ...], ...] = (
        (b"SET", key, value, *options),
        (b"SET", key, value),
        (b"GETEX", key, *options),
        # With GT and LT no two deadlines may be so near that the two clocks decide.
        (b"EXPIRE", key, b"%d" % chooser.randrange(1000, 10**8), *(pick(OPTIONS) for _ in range(pick((0, 1, 2))))),
        (b"PEXPIRE", key, b"%d" % chooser.randrange(10**6, 10**12), *(pick(OPTIONS) for _ in range(pick((0, 1, 2))))),
        (b"EXPIRE", key, pick([number for number in NUMBERS if number != b"1"]), *pick(((), (b"NX",), (b"XX",)))),
        (b"SETEX", key, pick([number for number in NUMBERS if number != b"1"]), value),
        (pick((b"GET", b"GETDEL", b"INCR", b"DECR", b"STRLEN", b"PERSIST", b"TYPE")), key),
        (pick((b"INCRBY", b"DECRBY", b"APPEND", b"SETNX", b"GETSET")), key, pick((number, value))),
        (pick((b"GETRANGE", b"SUBSTR")), key, number, pick(NUMBERS)),
        (b"SETRANGE", key, pick((b"0", b"3", b"60", b"-1", b"x", b"9223372036854775807")), value),
        (pick((b"RENAME", b"RENAMENX", b"COPY")), key, pick(KEYS)),
        (b"COPY", key, pick(KEYS), b"REPLACE"),
        (b"MSETNX", key, value, pick(KEYS), value),
        (pick((b"DEL", b"EXISTS", b"MGET")), key, pick(KEYS)),
        (b"LCS", key, pick(KEYS), *pick(((), (b"LEN",), (b"IDX",), (b"IDX", b"WITHMATCHLEN"), (b"IDX", b"MINMATCHLEN", b"2")))),
    )
    return pick(commands)


@pytest.mark.parametrize("seed", range(4))
def test_random(both: Differential, seed: int):
    chooser = random.Random(seed)
    for step in range(2000):
        both.same(*arguments(chooser))
        if step % 50 == 0:
            both.same_state(*KEYS)
    both.same_state(*KEYS)


@pytest.mark.parametrize("seed", range(3))
def test_random_lcs(both: Differential, seed: int):
    chooser = random.Random(seed)
    for _ in range(60):
        for key in ("{x}a", "{x}b"):
            both.same("SET", key, bytes(chooser.choices(b"abcd", k=chooser.randrange(60))))
        for options in ((), ("LEN",), ("IDX",), ("IDX", "MINMATCHLEN", chooser.randrange(5), "WITHMATCHLEN")):
            both.same("LCS", "{x}a", "{x}b", *options)


def test_keys_of_several_slots_are_refused_by_a_reader_too(both: Differential):
    for command in (("LCS", "a", "b"), ("PFCOUNT", "a", "b")):
        assert both.engine_answer(*command, local=True).code == "CROSSSLOT"
    assert both.engine_answer("MGET", "a", "b", local=True) == [None, None]
