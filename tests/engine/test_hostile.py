"""Whatever bytes a client sends, the owner answers or refuses, and its accounts add up afterwards."""

import random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmcache import _engine
from tests.engine.damage import Regions
from tests.support.differential import is_local

NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"1e308",
    b"1e-400",
]
NUMBERS += [
    b"nan",
    b"-inf",
    b"0x10",
    b" 1",
    b"1 ",
    b"+1",
    b"-0",
    b"00",
    b"536870912",
    b"536870913",
    b"1" * 400,
    b"1.5",
]
WORDS = [
    b"EX",
    b"PX",
    b"EXAT",
    b"PXAT",
    b"KEEPTTL",
    b"NX",
    b"XX",
    b"GT",
    b"LT",
    b"GET",
    b"IFSTAMP",
    b"PERSIST",
    b"MATCH",
]
WORDS += [
    b"COUNT",
    b"TYPE",
    b"string",
    b"*",
    b"[",
    b"[a-",
    b"\\",
    b"*" * 200 + b"z",
    b"DB",
    b"REPLACE",
    b"ASYNC",
]
KEYS = [
    b"",
    b"k",
    b"{",
    b"{}",
    b"{k}x",
    b"\x00",
    b"\xff\xfe",
    b"a" * 250,
    b"z" * 65536,
    b"z" * 65537,
    *(b"%d" % n for n in range(40)),
]
VALUES = [b"", b"v", b"17", b"3.0e3", b"\x00" * 9, b"x" * 15_000, b"y" * 70_000]
NAMES = [row.name.encode() for row in _engine.COMMANDS]


def arguments(rng: random.Random) -> list[bytes]:
    """One command: mostly a name that exists with arguments that may fit, now and then anything."""
    name = rng.choice(NAMES) if rng.random() < 0.98 else rng.randbytes(rng.randrange(6))
    count = rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 9))
    pools = [KEYS, *(rng.choice((KEYS, VALUES, NUMBERS, NUMBERS, WORDS)) for _ in range(8))]
    return [name if rng.random() < 0.9 else name.lower(), *(rng.choice(pool) for pool in pools[:count])]


@pytest.fixture
def regions():
    regions = Regions.anonymous()
    yield regions
    regions.close()


@pytest.fixture(scope="module")
def settled():
    """An owner with some keys, shared by all examples: a refused batch leaves it as it is."""
    regions = Regions.anonymous()
    owner = regions.create()
    for number in range(50):
        owner.command("SET", b"%d" % number, b"v" * number)
    yield owner
    owner.close()
    regions.close()


@settings(max_examples=400, deadline=None)
@given(payload=st.binary(max_size=300), flags=st.integers(0, 7))
def test_random_bytes_are_refused_or_answered(settled, payload, flags):
    """A payload that is no batch raises EngineError and changes nothing."""
    check_payload(settled, payload, flags)


@settings(max_examples=600, deadline=None)
@given(seed=st.integers(0, 2**32), flags=st.integers(0, 3))
def test_mutated_batches_are_refused_or_answered(settled, seed, flags):
    """A batch with bytes turned, cut out or put in is refused, or is another batch with as many results."""
    rng = random.Random(seed)
    batch = bytearray(msgpack.packb([arguments(rng) for _ in range(rng.randrange(1, 5))]))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(batch) + 1)
        match rng.randrange(3):
            case 0 if at < len(batch):
                batch[at] ^= 1 << rng.randrange(8)
            case 1:
                del batch[at : at + rng.randrange(1, 4)]
            case _:
                batch[at:at] = rng.randbytes(rng.randrange(1, 4))
    check_payload(settled, bytes(batch), flags)


def check_payload(owner: _engine.Owner, payload: bytes, flags: int) -> None:
    before = owner.digest()
    try:
        reply = owner.execute(payload, flags)
    except _engine.EngineError:
        assert owner.digest() == before
    else:
        commands = msgpack.unpackb(payload, raw=True, strict_map_key=False)
        assert len(msgpack.unpackb(reply, strict_map_key=False, raw=True)) == len(commands)
    owner.verify()


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl"])
def test_random_commands_never_break_the_owner(regions, policy):
    """Hostile arguments to random commands: each is answered, owner and reader agree, accounts add up."""
    rng = random.Random(f"commands {policy}")
    owner = regions.create(policy=policy)
    reader = regions.reader()
    answered = refused = 0
    for number in range(10_000):
        command = arguments(rng)
        flags = rng.choice((0, 0, 0, _engine.FLAG_TRANSACTION))
        [result] = msgpack.unpackb(owner.execute(msgpack.packb([command]), flags), raw=True)
        if isinstance(result, msgpack.ExtType):
            refused += 1
            code, message = msgpack.unpackb(result.data)
            assert code.isupper()
            assert message
        else:
            answered += 1
        if is_local(command) and not command[0].upper().endswith((b"RANDFIELD", b"RANDMEMBER")):
            expected = outcome(owner, command)
            try:
                assert outcome(reader, command) == expected, command
            except _engine.Busy:
                # Of a large collection whose order only the owner knows.
                name = command[0].upper()
                assert name.startswith((b"H", b"L", b"S", b"Z", b"GEO")), command
                assert name != b"STRLEN", command
        if number % 1000 == 0:
            owner.tick()
            owner.verify()
    assert answered > 1000
    assert refused > 1000
    owner.verify()


def outcome(side: _engine.Owner | _engine.Reader, command: list[bytes]) -> object:
    try:
        result = side.command(*command)
    except _engine.CommandError as error:
        return error.code, error.message
    # A remaining time runs on between two questions.
    return result if command[0] not in (b"TTL", b"PTTL") else result > 0


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), -0.0, 1e308, 5e-324, 2**64 - 1, -(2**63), True], ids=repr
)
def test_numbers_as_arguments(regions, number):
    """An int or float argument is its text; a type that is none of the documented is refused."""
    owner = regions.create()
    payload = msgpack.packb(
        [[b"SET", b"k", number], [b"INCRBYFLOAT", b"k", number], [b"SETRANGE", b"k", number, b"x"]]
    )
    if isinstance(number, bool):
        with pytest.raises(_engine.EngineError):
            owner.execute(payload)
    else:
        assert len(msgpack.unpackb(owner.execute(payload), raw=True)) == 3
    owner.verify()


@pytest.mark.parametrize(
    "command",
    [
        [b"SET", b"k" * 65_537, b"v"],
        [b"SETRANGE", b"k", b"536870912", b"x"],
        [b"SETRANGE", b"k", b"9223372036854775807", b"x"],
        [b"SETRANGE", b"k", b"300000000", b"x"],
        [b"APPEND", b"k" * 65_537, b"v"],
        [b"COPY", b"a", b"k" * 65_537],
        [b"RENAME", b"a", b"k" * 65_537],
        [b"MSET", b"a", b"changed", b"k" * 65_537, b"v"],
    ],
    ids=lambda command: command[0].decode(),
)
@pytest.mark.parametrize("flags", [0, _engine.FLAG_TRANSACTION])
def test_over_a_limit_is_an_error_and_changes_nothing(regions, command, flags):
    """A key or value over its limit, or over the memory that there is, is refused whole."""
    owner = regions.create()
    owner.command("SET", "a", "b")
    before = owner.digest()
    [result] = msgpack.unpackb(owner.execute(msgpack.packb([command]), flags))
    assert isinstance(result, msgpack.ExtType)
    assert msgpack.unpackb(result.data)[0] in ("LIMIT", "OOM", "ERR")
    assert owner.digest() == before
    owner.verify()
