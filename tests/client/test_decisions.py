"""Retry decisions, plans and addresses, without any process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmcache.client.policy import Next, Silence, after_silence, retry_delay
from shmcache.client.url import Address, parse
from shmcache.errors import ConfigError, CrossSlot
from shmcache.protocol.commands import SlotMap, is_repeatable, pack_cursor, plan, unpack_cursor

SLOTS = SlotMap.of([slot * 3 // 16384 for slot in range(16384)], 3)


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        (Silence(1, 2, True, False), Next.WAIT),
        (Silence(1, 2, False, False), Next.WAIT),
        (Silence(1, 2, True, True), Next.SEND_AGAIN),
        (Silence(1, 2, False, True), Next.OUTCOME_UNKNOWN),
        (Silence(2, 2, True, True), Next.TIMED_OUT),
        (Silence(2, 2, False, False), Next.OUTCOME_UNKNOWN),
        (Silence(1, 2, True, False, resend_at=1), Next.SEND_AGAIN),
        (Silence(1, 2, False, False, resend_at=1), Next.WAIT),
    ],
)
def test_after_silence(silence: Silence, expected: Next) -> None:
    """A write that cannot be repeated is never sent twice."""
    assert after_silence(silence) is expected


def test_delays_are_bounded() -> None:
    """Pauses grow and end at their limit."""
    delays = [retry_delay(attempt) for attempt in range(1, 100)]
    assert delays == sorted(delays)
    assert delays[-1] <= 0.1


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=30))
def test_mget_is_split_and_merged(keys: list[bytes]) -> None:
    """Each shard is asked for its keys; the values come back in the keys' order."""
    planned = plan(("MGET", *keys), SLOTS)
    assert len({part.shard for part in planned.parts}) == len(planned.parts)
    assert planned.merge([list(part.args[1:]) for part in planned.parts]) == keys


@given(st.integers(0, 2**64 - 1), st.integers(0, 2))
def test_cursor(inner: int, shard: int) -> None:
    """A cursor leads back to its shard and place; a finished shard leads to the next one, the last to 0."""
    cursor = pack_cursor(shard, inner, 3)
    if inner:
        assert unpack_cursor(cursor, 3) == (shard, inner)
    else:
        assert cursor == (0 if shard == 2 else shard + 1)


def test_one_slot_commands() -> None:
    """Keys of several slots are refused where they must meet."""
    with pytest.raises(CrossSlot, match="hash tag"):
        plan(("RENAME", "a", "b"), SLOTS)
    assert len(plan(("RENAME", "{t}a", "{t}b"), SLOTS).parts) == 1


def test_repeatable() -> None:
    """SET may be repeated unless it has a condition or tells the old value."""
    assert is_repeatable(("SET", "k", 1))
    assert is_repeatable(("SET", "k", "NX", "EX", 5))
    assert not is_repeatable(("SET", "k", 1, "NX"))
    assert not is_repeatable(("SET", "k", 1, b"get"))
    assert not is_repeatable(("INCR", "k"))


def test_addresses() -> None:
    """What connect() takes."""
    assert parse(None) == Address(instance="default")
    assert parse("shm://a-b") == Address(instance="a-b")
    assert parse("tcp://h:1") == Address(endpoint="tcp://h:1")
    for wrong in ("", "a", "shm://a/b", "tcp://h", "tcp://h:0", "redis://h:1"):
        with pytest.raises(ConfigError):
            parse(wrong)
