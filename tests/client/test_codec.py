"""Payload codec: round trips, and malformed input is a ProtocolError."""

import pickle

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmcache import errors
from shmcache.protocol import codec

ARGUMENT = st.one_of(
    st.binary(max_size=30), st.text(max_size=30), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False)
)
COMMAND = st.lists(ARGUMENT, min_size=1, max_size=5)
RESULT = st.recursive(
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=20), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(COMMAND, max_size=5))
def test_commands_round_trip(commands: list) -> None:
    """A batch comes back as it was."""
    assert codec.decode_commands(codec.encode_commands(commands)) == commands


@given(st.lists(RESULT, max_size=5))
def test_results_round_trip(results: list) -> None:
    """Results come back as they were."""
    assert codec.decode_results(codec.encode_results(results)) == results


def test_failed_commands_are_errors_in_the_list() -> None:
    """An error keeps its place among the results, with its class, code and message."""
    sent = [1, errors.WrongType("WRONGTYPE", "not a string"), None, errors.ResponseError("NEWCODE", "x")]
    got = codec.decode_results(codec.encode_results(sent))
    assert got[0] == 1
    assert got[2] is None
    assert type(got[1]) is errors.WrongType
    assert got[1].message == "not a string"
    assert type(got[3]) is errors.ResponseError
    assert str(got[3]) == "NEWCODE x"


def test_huge_ints_become_digits() -> None:
    """An int that msgpack cannot carry is sent as its digits."""
    assert codec.decode_commands(codec.encode_commands([("SET", "k", 2**70)])) == [["SET", "k", str(2**70)]]


def test_control_round_trip() -> None:
    """A control call is its name and its arguments."""
    assert codec.decode_control(codec.encode_control("topology", {"a": 1})) == ("topology", {"a": 1})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("PROTOCOL", errors.ProtocolError),
        ("LIMIT", errors.LimitExceeded),
        ("DEADLINE", errors.CacheTimeout),
        ("UNAVAILABLE", errors.Unavailable),
        ("MOVED", errors.Moved),
        ("WHATEVER", errors.ResponseError),
    ],
)
def test_refusals(code: str, kind: type) -> None:
    """The code of a refused message decides the exception."""
    error = codec.decode_error(codec.encode_error(code, "because"))
    assert type(error) is kind
    assert "because" in str(error)


@given(st.binary(max_size=40))
def test_random_bytes(data: bytes) -> None:
    """Random bytes never raise anything but ProtocolError."""
    for decode in (codec.decode_results, codec.decode_commands, codec.decode_control):
        try:
            decode(data)
        except errors.ProtocolError:
            pass
    assert isinstance(codec.decode_error(data), errors.ShmcacheError)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(1),
        msgpack.packb([1]) + b"x",
        b"\x91" * 3000,
        msgpack.packb([msgpack.ExtType(2, b"")]),
        msgpack.packb([msgpack.ExtType(1, b"\x01")]),
        msgpack.packb([{}])[:-1],
    ],
)
def test_malformed_results(data: bytes) -> None:
    """Truncated, trailing, too deep or foreign data is refused."""
    with pytest.raises(errors.ProtocolError):
        codec.decode_results(data)


def test_errors_survive_pickling() -> None:
    """Process pools can hand our errors on, with their fields."""
    error = pickle.loads(pickle.dumps(errors.CrossSlot("CROSSSLOT", "use a {hash tag}")))
    assert type(error) is errors.CrossSlot
    assert error.message == "use a {hash tag}"


def test_builtin_bases() -> None:
    """Code that catches the builtin errors catches ours."""
    assert issubclass(errors.Unavailable, ConnectionError)
    assert issubclass(errors.CacheTimeout, TimeoutError)
    assert issubclass(errors.OutcomeUnknown, errors.Unavailable)
    assert issubclass(errors.DataError, TypeError)
