"""Following one shard's log: gaps, duplicates, reordering, damage. Pure decisions, checked against every order of arrival."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmcache.errors import ProtocolError
from shmcache.limits import FETCH_RETRY_MS, PENDING_BYTES_MAX
from shmcache.replication import frames
from shmcache.replication.following import ShardFollower
from shmcache.replication.frames import Frame


def frame(start: int, end: int, records: bytes = b"r") -> Frame:
    return Frame(0, 1, 7, start, end, start + 1, end, end << 16, 0, records)


def test_frames_in_order_are_handed_on_at_once():
    follower = ShardFollower(0)
    assert follower.offer(frame(0, 10)) == [frame(0, 10)]
    assert follower.offer(frame(10, 30)) == [frame(10, 30)]
    assert (follower.position, follower.has_gap, follower.wants(0.0)) == (30, False, None)


def test_a_gap_is_asked_for_once_and_again_after_a_while():
    follower = ShardFollower(0)
    assert follower.offer(frame(10, 20)) == []
    assert follower.wants(1.0) == 0
    assert follower.wants(1.0 + FETCH_RETRY_MS / 2000) is None
    assert follower.wants(1.1 + FETCH_RETRY_MS / 1000) == 0
    assert follower.offer(frame(0, 10), fetched=True) == [frame(0, 10), frame(10, 20)]
    assert follower.position == 20
    assert follower.counts.gaps == 1


def test_a_heartbeat_shows_that_the_last_frame_was_lost():
    follower = ShardFollower(0)
    follower.offer(frame(0, 10))
    assert follower.offer(frame(50, 50, b"")) == []
    assert follower.has_gap
    assert follower.lag_bytes == 40
    assert follower.wants(0.0) == 10


def test_what_is_set_aside_is_bounded():
    follower = ShardFollower(0)
    big = bytes(PENDING_BYTES_MAX // 2 + 1)
    for start in (10, 20, 30):
        follower.offer(frame(start, start + 10, big))
    assert follower.counts.dropped == 2
    # What was given up is fetched later: nothing is skipped.
    assert follower.offer(frame(0, 10), fetched=True) == [frame(0, 10), frame(10, 20, big)]
    assert follower.wants(9.0) == 20


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_order_with_losses_and_copies_ends_with_everything_once(sizes: list[int], chance: random.Random):
    """Whatever is lost, doubled or late: each byte of the log is handed on once, in order, without a hole."""
    edges = [0]
    for size in sizes:
        edges.append(edges[-1] + size)
    sent = [frame(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    arriving = [f for f in sent for _ in range(chance.choice((0, 1, 1, 2)))]
    chance.shuffle(arriving)
    follower = ShardFollower(0)
    got: list[Frame] = []
    for item in arriving:
        got += follower.offer(item)
    got += follower.offer(frame(edges[-1], edges[-1], b""))
    now = 0.0
    while (position := follower.wants(now)) is not None:
        now += 10
        # An answer may hold several frames' worth.
        end = chance.choice([e for e in edges if e > position])
        got += follower.offer(frame(position, end), fetched=True)
    at = 0
    for item in got:
        assert item.from_position == at or item.from_position < at < item.to_position
        at = item.to_position
    assert at == edges[-1] == follower.position


@pytest.mark.parametrize("compress", [False, True])
def test_a_frame_survives_the_wire(compress: bool):
    sent = Frame(3, 4, 5 << 40, 6, 7, 8, 9, 10 << 50, 11, b"records " * 100)
    message = frames.Encoder(compress).encode(sent)
    assert message[0] == b"log/3\0"
    assert frames.decode(message) == sent


def test_a_damaged_header_is_refused():
    message = frames.Encoder(False).encode(frame(1, 2))
    for at in range(frames.HEADER_BYTES):
        damaged = bytearray(message[1])
        damaged[at] ^= 1
        with pytest.raises(ProtocolError):
            frames.decode([message[0], bytes(damaged), message[2]])
    with pytest.raises(ProtocolError):
        frames.decode([message[0], message[1], message[2] + b"x"])
    with pytest.raises(ProtocolError):
        frames.decode(message[:2])
