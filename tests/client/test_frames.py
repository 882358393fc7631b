"""The message header: what goes in comes out, anything else is a ProtocolError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmcache.errors import ProtocolError
from shmcache.protocol import frames

U64 = st.integers(0, 2**64 - 1)


@given(st.integers(0, 15), st.integers(0, 16383), st.integers(0, 2**32 - 1), U64, U64)
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
    assert packed == bytes.fromhex("01 02 0201 06050403 0700000000000000 0800000000000000".replace(" ", ""))


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
    "change", [(0, 2), (1, 32), (3, 0x40)], ids=["other version", "unknown flag", "slot too large"]
)
def test_refused(change: tuple[int, int]) -> None:
    """A wrong version, an unknown flag or a slot beyond 16383 is refused."""
    packed = bytearray(frames.pack_header())
    packed[change[0]] = change[1]
    with pytest.raises(ProtocolError):
        frames.unpack_header(bytes(packed))
