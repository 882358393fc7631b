"""The hub without its sockets: numbers every message, and sends it to whom it concerns.

Order of a channel is the order of calls of `publish`. Channels are counted also while nobody listens, so
that a
subscriber sees by the number what went by; but nothing is sent then.
"""

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from ...limits import (
    CHANNEL_EVENT_S,
    CHANNEL_HOPS_MAX,
    CHANNEL_REPLAY_REPLY_BYTES_MAX,
    CHANNEL_SEEN_MAX,
    CHANNEL_STATS_MAX,
    CHANNELS_TRACKED_MAX,
)
from ...protocol.channels import (
    CHANNEL,
    END,
    EVENTS_CHANNEL,
    PATTERN,
    PROBE,
    REFUSED,
    VERSION,
    Message,
    name_of,
    pack_header,
    pack_message,
    probed_topic,
)
from .replay import ReplayBuffer
from .table import TOPIC_BYTES_MAX, Subscriptions, is_whole

Send = Callable[[bytes, bytes], None]
"""Called with a topic and a message (without the topic)."""
_U64 = 2**64
_PATTERN = PATTERN[0]


class Channel:
    """What the hub knows of one channel."""

    __slots__ = ("dropped", "messages", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.messages = 0
        self.dropped = 0


class HubCore:
    """State of one hub. `send` puts a message on the outgoing socket."""

    def __init__(
        self,
        generation: int,
        replay: ReplayBuffer,
        send: Send,
        log: Any,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.generation = generation
        self.table = Subscriptions()
        self.channels: dict[bytes, Channel] = {}
        """By topic."""
        self.replay = replay
        self.counts: Counter[str] = Counter()
        self._send, self._log, self._clock_ms = send, log, clock_ms
        self._floor = 0
        """No channel that was forgotten had a higher number: those that come (back) go on from here."""
        self._number = 0
        self._seen: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._warned: dict[bytes, float] = {}
        self._unreported: Counter[bytes] = Counter()

    def publish(self, kind: bytes, name: bytes, payload: bytes) -> tuple[int, int]:
        """A message that is published here: (number of receivers, number that it got as its origin)."""
        self._number = number = self._number + 1
        return self.deliver(kind, name, payload, self.generation, number, 0, self._clock_ms()), number

    def take(
        self, kind: bytes, name: bytes, payload: bytes, origin: int, number: int, hops: int, unix_ms: int
    ) -> int | None:
        """A message from another hub; None if it was here before, or has come too far."""
        key = (origin, number)
        if origin == self.generation or key in self._seen or hops > CHANNEL_HOPS_MAX:
            self.counts["cut"] += 1
            return None
        self._seen[key] = None
        if len(self._seen) > CHANNEL_SEEN_MAX:
            self._seen.popitem(last=False)
        return self.deliver(kind, name, payload, origin, number, hops, unix_ms)

    def deliver(
        self, kind: bytes, name: bytes, payload: bytes, origin: int, number: int, hops: int, unix_ms: int
    ) -> int:
        """Number a message and send it out; returns how many sockets subscribed to it."""
        topic = kind + name + END
        channel = self.channels.get(topic) or self._track(topic)
        channel.seq = seq = channel.seq + 1
        channel.messages += 1
        table = self.table
        receivers = table.counts.get(topic, 0)
        if receivers or table.prefixes or self.replay.enabled:
            header = pack_header(
                VERSION, kind[0], hops, 0, len(name), 0, len(payload), 0,
                seq, seq, self.generation, origin, number, unix_ms,
            )  # fmt: skip
            message = header + name + payload
            if receivers or table.prefixes:
                self._send(topic, message)
            if self.replay.enabled:
                self.replay.add(topic, seq, unix_ms, topic + message)
        if table.patterns and kind == CHANNEL:
            for pattern in table.matching(name):
                table.patterns[pattern] = topic_seq = table.patterns[pattern] + 1
                header = pack_header(
                    VERSION, _PATTERN, hops, 0, len(name), 0, len(payload), 0,
                    seq, topic_seq, self.generation, origin, number, unix_ms,
                )  # fmt: skip
                self._send(pattern, header + name + payload)
                receivers += table.counts[pattern]
        self.counts["delivered"] += receivers
        return receivers

    def _track(self, topic: bytes) -> Channel:
        if len(self.channels) >= CHANNELS_TRACKED_MAX + len(self.table.counts):
            self._forget_one()
        channel = self.channels[topic] = Channel(self._floor)
        return channel

    def _forget_one(self) -> None:
        """Drop the oldest channel that nobody is subscribed to."""
        while True:
            topic = next(iter(self.channels))
            channel = self.channels.pop(topic)
            if topic not in self.table.counts:
                self._floor = max(self._floor, channel.seq)
                self.counts["forgotten"] += 1
                return
            self.channels[topic] = channel

    def skip(self, topic: bytes, count: int) -> None:
        """Note that an upstream hub sent messages that never came: our subscribers shall see the gap too."""
        self.counts["missed_upstream"] += count
        if topic[:1] == PATTERN:
            if topic in self.table.patterns:
                self.table.patterns[topic] += count
        else:
            channel = self.channels.get(topic) or self._track(topic)
            channel.seq += count

    def topic_seq(self, topic: bytes) -> int:
        """Sequence number of the newest message of a topic."""
        if topic[:1] == PATTERN:
            return self.table.patterns.get(topic, 0)
        channel = self.channels.get(topic)
        return channel.seq if channel else self._floor

    def answer_probe(self, probe: bytes) -> None:
        """Tell a subscriber, in order with the messages, how far its topic is. Garbage gets no answer."""
        topic = probed_topic(probe)
        if not is_whole(topic) or len(topic) > TOPIC_BYTES_MAX:
            return
        flags = 0 if topic in self.table.counts else REFUSED
        seq = self.topic_seq(topic)
        message = Message(
            probe,
            PROBE,
            0,
            flags,
            seq,
            seq,
            self.generation,
            self.generation,
            0,
            self._clock_ms(),
            name_of(topic),
            b"",
        )
        self._send(pack_message(probe, message), b"")

    def replayed(self, topic: bytes, upto: int, messages: int, seconds: float, after: int) -> list[bytes]:
        """Frames of the replay buffer as a late subscriber asks for them."""
        oldest_ms = int(self._clock_ms() - seconds * 1000) if seconds else 0
        self.replay.expire(self._clock_ms())
        return self.replay.select(topic, upto, messages, oldest_ms, CHANNEL_REPLAY_REPLY_BYTES_MAX, after)

    def report_dropped(self, topic: bytes, count: int, now: float) -> None:
        """A subscriber says that it missed messages: count it, warn about it, not too often."""
        count = min(count, _U64 - 1)
        self.counts["dropped"] += count
        channel = self.channels.get(topic)
        if channel:
            channel.dropped += count
        self._unreported[topic] += count
        self.warn_dropped(now)

    def warn_dropped(self, now: float) -> None:
        """Publish and log what was dropped since the last warning about that channel."""
        for topic in list(self._unreported):
            if now - self._warned.get(topic, -CHANNEL_EVENT_S) < CHANNEL_EVENT_S:
                continue
            count = self._unreported.pop(topic)
            self._warned[topic] = now
            name = name_of(topic).decode("utf-8", "replace")
            self.event("dropped", kind=topic[:1].decode("latin-1"), channel=name, count=count)
            self._log.warning("a subscriber is too slow: messages dropped", channel=name, count=count)
        if len(self._warned) > CHANNEL_STATS_MAX:
            self._warned = {t: at for t, at in self._warned.items() if now - at < CHANNEL_EVENT_S}

    def event(self, event: str, **fields: Any) -> None:
        """A message in the hub's own channel."""
        self.publish(CHANNEL, EVENTS_CHANNEL, json.dumps({"event": event} | fields).encode())

    def stats(self) -> dict[str, Any]:
        """Figures (docs/stats.md)."""
        busiest = sorted(self.channels.items(), key=lambda item: -item[1].messages)[:CHANNEL_STATS_MAX]
        table = self.table
        return {
            "generation": self.generation,
            "published": self.counts["published"],
            "delivered": self.counts["delivered"],
            "dropped": self.counts["dropped"],
            "cut": self.counts["cut"],
            "missed_upstream": self.counts["missed_upstream"],
            "forgotten_channels": self.counts["forgotten"],
            "channels": len(self.channels),
            "topics": len(table.counts) + len(table.prefixes),
            "subscriptions": sum(table.counts.values()) + sum(table.prefixes.values()),
            "patterns": len(table.patterns),
            "refused_subscriptions": table.refused,
            "replay_messages": self.replay.count,
            "replay_bytes": self.replay.bytes,
            "by_channel": [
                {
                    "channel": name_of(topic),
                    "kind": topic[:1].decode(),
                    "messages": channel.messages,
                    "seq": channel.seq,
                    "dropped": channel.dropped,
                    "subscribers": table.counts.get(topic, 0),
                }
                for topic, channel in busiest
            ],
        }
