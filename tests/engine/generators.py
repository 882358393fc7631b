"""Hypothesis strategies: calls of every command of the table, mostly valid, over few keys: they meet."""

import time
from collections.abc import Sequence

from hypothesis import strategies as st

from shmcache import _engine

Command = tuple[bytes, ...]

KEYS = (b"a", b"b", b"c", b"counter", b"{tag}1", b"{tag}2", b"", b"\x00\xff\r\n", b"long" * 9)
BASE_S = int(time.time()) + 10_000
"""Absolute deadlines lie here or in the past, relative ones well before: none comes near in a test."""

key = st.sampled_from(KEYS)
long_key = st.sampled_from((_engine.MAX_KEY_BYTES, _engine.MAX_KEY_BYTES + 1)).map(lambda size: b"x" * size)
new_key = st.one_of(key, key, key, key, long_key)
integer_text = st.one_of(
    st.integers(-100, 100),
    st.sampled_from((2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**62)),
).map(lambda number: b"%d" % number)
quarters = st.integers(-4000, 4000).map(lambda number: f"{number / 4:g}".encode())
junk = st.sampled_from((b"", b"x", b"1.5x", b" 1", b"+1", b"01", b"-0", b"nan", b"1e3x"))
value = st.one_of(
    integer_text,
    quarters,
    junk,
    st.binary(max_size=40),
    st.sampled_from((200, 5000, 70_000)).map(lambda size: b"v" * size),
)
seconds = st.one_of(
    st.integers(100, 9000), st.integers(100, 9000), st.sampled_from((0, -1, 2**63 - 1, 2**62))
)
milliseconds = st.one_of(
    seconds.map(lambda amount: amount * 1000), st.integers(1, 12), st.sampled_from((0, -5))
)
when_s = st.one_of(
    st.integers(0, 90).map(lambda step: BASE_S + step * 100), st.sampled_from((1, 0, -1, 2**62))
)
when_ms = st.one_of(when_s.map(lambda when: when * 1000 + 7), st.sampled_from((1, 2**63 - 1)))


def text(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        numbers.map(lambda number: b"%d" % number), *[numbers.map(lambda number: b"%d" % number)] * 5, junk
    )


def cases(name: bytes) -> st.SearchStrategy[bytes]:
    """Options are written in either case."""
    return st.sampled_from((name, name.lower()))


def option(name: bytes, *parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[Command]:
    return st.tuples(cases(name), *parts)


LIFETIME = st.one_of(
    option(b"EX", text(seconds)),
    option(b"PX", text(milliseconds)),
    option(b"EXAT", text(when_s)),
    option(b"PXAT", text(when_ms)),
)


def flat(parts: Sequence[Command]) -> Command:
    return tuple(argument for part in parts for argument in part)


def call(
    name: str, *parts: st.SearchStrategy[bytes], options: st.SearchStrategy[Command] | None = None
) -> st.SearchStrategy[Command]:
    """The command with these arguments and, now and then, options."""
    head = st.tuples(st.just(name.encode()), *parts)
    if options is None:
        return head
    tail = st.lists(options, max_size=3).map(flat)
    return st.tuples(head, tail).map(flat)


def many(name: str, *group: st.SearchStrategy[bytes]) -> st.SearchStrategy[Command]:
    groups = st.lists(st.tuples(*group), min_size=1, max_size=4).map(flat)
    return groups.map(lambda arguments: (name.encode(), *arguments))


SET_OPTIONS = st.one_of(
    option(b"NX"), option(b"XX"), option(b"GET"), option(b"KEEPTTL"), LIFETIME, LIFETIME, option(b"NOSUCH")
)
CONDITION = st.one_of(*(option(name) for name in (b"NX", b"XX", b"GT", b"LT")), option(b"NOSUCH"))
PATTERN = st.sampled_from(
    (b"*", b"?", b"[ab]", b"[^ab]", b"[a-c]*", b"{tag}*", b"*\xff*", b"\\a", b"", b"nosuch")
)

WRITING: dict[str, st.SearchStrategy[Command]] = {
    "APPEND": call("APPEND", new_key, value),
    "COPY": call("COPY", key, new_key, options=option(b"REPLACE")),
    "DECR": call("DECR", key),
    "DECRBY": call("DECRBY", key, st.one_of(integer_text, junk)),
    "DEL": many("DEL", key),
    "EXPIRE": call("EXPIRE", key, text(seconds), options=CONDITION),
    "EXPIREAT": call("EXPIREAT", key, text(when_s), options=CONDITION),
    "FLUSHALL": call("FLUSHALL", options=st.one_of(option(b"ASYNC"), option(b"SYNC"))),
    "FLUSHDB": call("FLUSHDB", options=option(b"ASYNC")),
    "GETDEL": call("GETDEL", key),
    "GETEX": st.one_of(call("GETEX", key, options=LIFETIME), call("GETEX", key, cases(b"PERSIST"))),
    "GETSET": call("GETSET", new_key, value),
    "INCR": call("INCR", key),
    "INCRBY": call("INCRBY", key, st.one_of(integer_text, junk)),
    "INCRBYFLOAT": call("INCRBYFLOAT", key, st.one_of(quarters, quarters, junk)),
    "MSET": st.one_of(many("MSET", new_key, value), many("MSET", key, value, key)),
    "MSETNX": st.one_of(many("MSETNX", new_key, value), many("MSETNX", key, value, key)),
    "PERSIST": call("PERSIST", key),
    "PEXPIRE": call("PEXPIRE", key, text(milliseconds), options=CONDITION),
    "PEXPIREAT": call("PEXPIREAT", key, text(when_ms), options=CONDITION),
    "PSETEX": call("PSETEX", new_key, text(milliseconds), value),
    "RENAME": call("RENAME", key, new_key),
    "RENAMENX": call("RENAMENX", key, new_key),
    "SET": call("SET", new_key, value, options=SET_OPTIONS),
    "SETEX": call("SETEX", new_key, text(seconds), value),
    "SETNX": call("SETNX", new_key, value),
    "SETRANGE": call("SETRANGE", key, text(st.sampled_from((0, 1, 5, 300, -1, 2**40, 2**63 - 1))), value),
    "UNLINK": many("UNLINK", key),
}
"""Command name -> strategy of the whole command."""

READING: dict[str, st.SearchStrategy[Command]] = {
    "DBSIZE": call("DBSIZE"),
    "ECHO": call("ECHO", value),
    "EXISTS": many("EXISTS", key),
    "EXPIRETIME": call("EXPIRETIME", key),
    "GET": call("GET", key),
    "GETRANGE": call("GETRANGE", key, st.one_of(integer_text, junk), integer_text),
    "GETSTAMP": call("GETSTAMP", key),
    "INFO": call("INFO"),
    "KEYS": call("KEYS", PATTERN),
    "MGET": many("MGET", key),
    "PEXPIRETIME": call("PEXPIRETIME", key),
    "PING": st.one_of(call("PING"), call("PING", value)),
    "PTTL": call("PTTL", key),
    "RANDOMKEY": call("RANDOMKEY"),
    "SCAN": st.one_of(call("SCAN", st.just(b"0")), call("SCAN", st.just(b"0"), st.just(b"MATCH"), PATTERN)),
    "STRLEN": call("STRLEN", key),
    "TIME": call("TIME"),
    "TOUCH": many("TOUCH", key),
    "TTL": call("TTL", key),
    "TYPE": call("TYPE", key),
}

NONSENSE = {"NOSUCH": call("NOSUCH", key), "GET": many("GET", key, key), "SET": call("SET", key)}
EVERY = WRITING | READING


TABLES = {
    "writing": WRITING,
    "any": EVERY,
    "nonsense": NONSENSE,
    "keyed": {
        name: EVERY[name] for name in EVERY if name not in ("DBSIZE", "INFO", "KEYS", "RANDOMKEY", "SCAN")
    },
}
"""`keyed` is without what looks at all keys: in a transaction that sees the keys as they were before."""


@st.composite
def one_of(draw: st.DrawFn, table: str) -> Command:
    """A command of the table. (Not st.one_of: Hypothesis prints strategies, and these would fill pages.)"""
    strategies = TABLES["nonsense" if table == "any" and draw(st.integers(0, 30)) == 30 else table]
    return draw(strategies[draw(st.sampled_from(sorted(strategies)))])
