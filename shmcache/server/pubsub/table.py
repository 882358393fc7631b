"""Who listens to what, as the hub learns it from its XPUB socket. No sockets here."""

from collections.abc import Iterable
from typing import Final

from ...limits import (
    CHANNEL_MATCHES_CACHED_MAX,
    CHANNEL_NAME_BYTES_MAX,
    CHANNEL_PATTERNS_MAX,
    CHANNEL_TOPICS_MAX,
)
from ...protocol.channels import CHANNEL, END, PATTERN, PROBE, SHARD, compile_glob, name_of

_KINDS: Final = frozenset((CHANNEL, PATTERN, SHARD))
TOPIC_BYTES_MAX: Final = CHANNEL_NAME_BYTES_MAX + 2


def is_whole(topic: bytes) -> bool:
    """Whether it is the topic of one channel or pattern, not the beginning of several."""
    return topic[:1] in _KINDS and len(topic) > 2 and topic.find(END) == len(topic) - 1


class Subscriptions:
    """Topics in use, with the number of sockets subscribed to each."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}
        """Whole topics of all kinds."""
        self.prefixes: dict[bytes, int] = {}
        """What a plain socket subscribed to that is no whole topic: it may match any channel."""
        self.patterns: dict[bytes, int] = {}
        """Pattern topic -> how many messages have gone out under it: its sequence number."""
        self.refused = 0
        self._matches: dict[bytes, tuple[bytes, ...]] = {}

    def add(self, topic: bytes) -> bool | None:
        """Another subscriber. Whether it is the first one of this topic; None if it is over a limit."""
        if topic[:1] == PROBE:
            return False
        counts = self.counts if is_whole(topic) else self.prefixes
        known = topic in counts
        if not known:
            if len(self.counts) + len(self.prefixes) >= CHANNEL_TOPICS_MAX or len(topic) > TOPIC_BYTES_MAX:
                self.refused += 1
                return None
            if counts is self.counts and topic[:1] == PATTERN:
                if len(self.patterns) >= CHANNEL_PATTERNS_MAX:
                    self.refused += 1
                    return None
                self.patterns[topic] = 0
                self._matches.clear()
        counts[topic] = counts.get(topic, 0) + 1
        return not known

    def remove(self, topic: bytes) -> bool:
        """A subscriber less. Whether it was the last one of this topic."""
        counts = self.counts if topic in self.counts else self.prefixes
        left = counts.get(topic, 0) - 1
        if left > 0:
            counts[topic] = left
            return False
        if left < 0:
            return False
        del counts[topic]
        if counts is self.counts and topic in self.patterns:
            del self.patterns[topic]
            self._matches.clear()
        return True

    def holds(self, topic: bytes) -> bool:
        """Whether somebody is subscribed to exactly this topic."""
        return topic in self.counts or topic in self.prefixes

    def matching(self, channel: bytes) -> tuple[bytes, ...]:
        """Topics of the patterns in use that match a channel's name."""
        found = self._matches.get(channel)
        if found is None:
            if len(self._matches) >= CHANNEL_MATCHES_CACHED_MAX:
                self._matches.clear()
            found = tuple(t for t in self.patterns if compile_glob(name_of(t)).fullmatch(channel))
            self._matches[channel] = found
        return found

    def names(self, kind: bytes, pattern: bytes | None = None) -> list[bytes]:
        """Channels of a kind that have subscribers, those that match a pattern only."""
        names: Iterable[bytes] = (name_of(topic) for topic in self.counts if topic[:1] == kind)
        if pattern is not None:
            fits = compile_glob(pattern).fullmatch
            names = (name for name in names if fits(name))
        return list(names)
