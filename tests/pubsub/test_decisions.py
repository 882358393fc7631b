"""What the hub decides, without sockets: limits, numbering, replay, loops, globs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmcache.protocol.channels import CHANNEL, compile_glob, seen_from, topic_of, unpack_messages
from shmcache.server.pubsub import core as core_module
from shmcache.server.pubsub import table as table_module
from shmcache.server.pubsub.core import HubCore
from shmcache.server.pubsub.replay import ReplayBuffer
from shmcache.server.pubsub.table import Subscriptions


class Quiet:
    def warning(self, *_: Any, **__: Any) -> None:
        """No log."""


def hub(sent: list[bytes], messages: int = 0) -> HubCore:
    return HubCore(7, ReplayBuffer(messages, 0, 10_000), lambda t, m: sent.append(t + m), Quiet(), lambda: 1000)


def simple_match(pattern: bytes, name: bytes) -> bool:
    """Redis' globs of `*`, `?` and letters, by the definition."""
    if not pattern:
        return not name
    if pattern[:1] == b"*":
        return any(simple_match(pattern[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and pattern[:1] in (b"?", name[:1]) and simple_match(pattern[1:], name[1:])


@given(st.text("ab*?", max_size=7), st.text("ab", max_size=8))
def test_globs_match_as_defined(pattern: str, name: str) -> None:
    """The atomic groups change the time that it takes, not the answer."""
    matched = compile_glob(pattern.encode()).fullmatch(name.encode()) is not None
    assert matched == simple_match(pattern.encode(), name.encode())


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [(b"h[^e]llo", b"hallo", True), (b"h[^e]llo", b"hello", False), (b"h[a-b]llo", b"hbllo", True),
     (b"a\\*", b"a*", True), (b"a\\*", b"ab", False), (b"[ab", b"a", True), (b"[]x", b"x", False), (b"*\n", b"\n", True)],
)  # fmt: skip
def test_globs_of_redis(pattern: bytes, name: bytes, matches: bool) -> None:
    """Classes, escapes, and what is malformed."""
    assert (compile_glob(pattern).fullmatch(name) is not None) == matches


def test_nothing_is_sent_while_nobody_listens() -> None:
    """But it is numbered."""
    sent: list[bytes] = []
    core = hub(sent)
    assert core.publish(CHANNEL, b"a", b"1")[0] == 0
    assert not sent
    core.table.add(b"ca\0")
    assert core.publish(CHANNEL, b"a", b"2")[0] == 1
    assert [m.seq for m in unpack_messages(sent[0])] == [2]


def test_copies_and_long_ways_are_cut() -> None:
    """A message is taken once, never if it began here, not after too many hubs."""
    core = hub([])
    assert core.take(CHANNEL, b"a", b"x", 9, 1, 1, 0) == 0
    assert core.take(CHANNEL, b"a", b"x", 9, 1, 2, 0) is None
    assert core.take(CHANNEL, b"a", b"x", 7, 5, 1, 0) is None
    assert core.take(CHANNEL, b"a", b"x", 9, 2, 9, 0) is None
    assert core.counts["cut"] == 3


def test_forgotten_channels_never_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of numbers is bounded; a channel that comes back goes on with a higher number."""
    monkeypatch.setattr(core_module, "CHANNELS_TRACKED_MAX", 3)
    core = hub([])
    core.table.add(topic_of(CHANNEL, b"kept"))
    for _ in range(5):
        core.publish(CHANNEL, b"kept", b"")
        core.publish(CHANNEL, b"busy", b"")
    for n in range(10):
        core.publish(CHANNEL, b"other%d" % n, b"")
    assert len(core.channels) <= 4
    assert core.topic_seq(topic_of(CHANNEL, b"kept")) == 5
    assert b"cbusy\0" not in core.channels
    core.publish(CHANNEL, b"busy", b"")
    assert core.topic_seq(b"cbusy\0") > 5


def test_limits_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns and topics over the limit are refused; those there are counted on."""
    monkeypatch.setattr(table_module, "CHANNEL_PATTERNS_MAX", 1)
    monkeypatch.setattr(table_module, "CHANNEL_TOPICS_MAX", 3)
    table = Subscriptions()
    assert table.add(b"pa*\0") is True
    assert table.add(b"pb*\0") is None
    assert table.add(b"pa*\0") is False
    assert table.add(b"cx\0") is True
    assert table.add(b"prefix") is True
    assert table.add(b"cy\0") is None
    assert table.matching(b"abc") == (b"pa*\0",)
    assert table.remove(b"pa*\0") is False
    assert table.remove(b"pa*\0") is True
    assert table.remove(b"pa*\0") is False
    assert table.matching(b"abc") == ()


def test_replay_buffer_is_bounded_and_in_order() -> None:
    """By messages of a channel, by bytes over all, by age; what is asked for comes oldest first."""
    kept = ReplayBuffer(messages=3, seconds=10, bytes_max=100)
    for seq in range(1, 6):
        kept.add(b"ca\0", seq, seq * 1000, b"%010d" % seq)
    assert kept.select(b"ca\0", 5, 0, 0, 1000) == [b"%010d" % n for n in (3, 4, 5)]
    assert kept.select(b"ca\0", 4, 1, 0, 1000) == [b"%010d" % 4]
    assert kept.select(b"ca\0", 5, 0, 0, 10, after=3) == [b"%010d" % 4]
    assert kept.select(b"ca\0", 5, 0, 5000, 1000) == [b"%010d" % 5]
    for seq in range(20):
        kept.add(b"c%d\0" % seq, 1, 6000, b"x" * 10)
    assert kept.bytes <= 100
    assert kept.select(b"ca\0", 5, 0, 0, 1000) == []
    kept.expire(20_000)
    assert (kept.count, kept.bytes) == (0, 0)
    for seq in range(10_000):
        kept.add(b"cb\0", seq, 30_000, b"x")
    assert len(kept._order) < 2000


def test_wildcard_hosts_are_the_routers() -> None:
    """A hub that listens on all addresses is reached at the one that the client used."""
    assert seen_from("tcp://0.0.0.0:7", "tcp://cache.example:1") == "tcp://cache.example:7"
    assert seen_from("tcp://10.0.0.1:7", "tcp://cache.example:1") == "tcp://10.0.0.1:7"
    assert seen_from("tcp://[::]:7", "tcp://[::1]:1") == "tcp://[::1]:7"
