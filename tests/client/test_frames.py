"""The message header: what goes in comes out, anything else is a ProtocolError."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmcache.errors import ProtocolError
from shmcache.protocol import frames
from shmcache.protocol.clocks import RemoteClock

U64 = st.integers(0, 2**64 - 1)


@given(st.integers(0, 127), st.integers(0, 16383), st.integers(0, 2**32 - 1), U64, U64)
def test_round_trip(flags: int, slot: int, epoch: int, request_id: int, deadline: int) -> None:
    """Every header that can be packed is read back unchanged."""
    header = frames.Header(flags, slot, epoch, request_id, deadline)
    packed = frames.pack_header(*header)
    assert len(packed) == 24
    assert frames.unpack_header(packed) == header
    assert frames.request_id_of(packed) == request_id


def test_bytes_are_as_documented() -> None:
    """The offsets are those of docs/protocol.md."""
    packed = frames.pack_header(frames.READ_ONLY, 0x0102, 0x03040506, 7, 8)
    assert packed == bytes.fromhex("02 02 0201 06050403 0700000000000000 0800000000000000".replace(" ", ""))


@given(st.binary(max_size=64))
def test_random_bytes(data: bytes) -> None:
    """Random bytes are a header or a ProtocolError."""
    try:
        header = frames.unpack_header(data)
    except ProtocolError:
        assert frames.request_id_of(data) >= 0
    else:
        assert frames.pack_header(*header) == data


@pytest.mark.parametrize(
    "change", [(0, 1), (3, 0x40)], ids=["other version", "slot too large"]
)
def test_refused(change: tuple[int, int]) -> None:
    """A wrong version or a slot beyond 16383 is refused. All flags of the byte have a meaning."""
    packed = bytearray(frames.pack_header())
    packed[change[0]] = change[1]
    with pytest.raises(ProtocolError):
        frames.unpack_header(bytes(packed))


def test_deadlines_of_two_hosts() -> None:
    """To the same host a moment of the monotonic clock goes out, to another the time that is left."""
    at = time.monotonic() + 2
    flag, moment = frames.deadline_at(at, "ipc:///x")
    assert (flag, moment) == (frames.HOST_CLOCK, int(at * 1e6) + 1)
    flag, left = frames.deadline_at(at, "tcp://h:1")
    assert flag == 0
    assert 1_000_000 < left <= 2_000_000
    assert frames.deadline_at(at - 10, "tcp://h:1") == (0, 1), "0 would be none"
    clock = RemoteClock()
    clock.learn(1_000_000)
    flag, there = frames.deadline_at(at, "tcp://h:1", clock)
    assert flag == frames.HOST_CLOCK
    assert 2_900_000 < there <= 3_000_001, "two seconds after what the clock there showed"


@given(st.integers(0, 2**64 - 1))
def test_deadline_on_its_way(left: int) -> None:
    """Received and passed on: nothing overflows, nothing turns into no deadline."""
    received = frames.Header(frames.READ_ONLY, 1, 2, 3, left)
    assert not frames.is_late(received)
    here = frames.to_host_clock(received)
    assert frames.to_host_clock(here) == here
    assert frames.unpack_header(frames.pack_header(*here)) == here
    assert (here.deadline_us == 0) == (left == 0)
    assert not frames.is_late(here._replace(deadline_us=0))


def test_late() -> None:
    """A moment that has passed is late."""
    past = frames.Header(frames.HOST_CLOCK, 0, 0, 1, time.monotonic_ns() // 1000 - 5)
    assert frames.is_late(past)
