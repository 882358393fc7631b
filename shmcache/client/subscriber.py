"""What a subscriber knows of its topics: what came, what was missed, what comes twice. No I/O."""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ProtocolError
from ..limits import CHANNEL_SUBSCRIPTIONS_MAX
from ..protocol.channels import (
    CHANNEL,
    NONCE_BYTES,
    PATTERN,
    PROBE,
    REFUSED,
    SHARD,
    Message,
    name_of,
    probe_topic,
    probed_topic,
    unpack_messages,
)

TYPES: Final = {CHANNEL: "message", PATTERN: "pmessage", SHARD: "smessage"}
Handler = Callable[[dict[str, Any]], Any]


class Missed(dict[str, Any]):
    """Messages of a channel (or pattern) that never came: `count` of them, None if nobody knows how many."""

    @property
    def channel(self) -> Any:
        return self["channel"]

    @property
    def count(self) -> int | None:
        return self["data"]  # type: ignore[no-any-return]


@dataclass(slots=True)
class Entry:
    """One subscription."""

    topic: bytes
    handler: Handler | None = None
    last: int | None = None
    """Sequence number of the topic up to which all came or was reported as missed."""
    confirmed: bool = False
    refused: bool = False
    holds: bool = False
    """Live messages wait until older ones have been fetched."""
    held: list[Message] = field(default_factory=list)


class Subscriber:
    """State of one subscriber object. Events for the caller collect in `events`."""

    def __init__(self, decode: bool) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.events: deque[tuple[dict[str, Any], Handler | None]] = deque()
        self.dropped: dict[bytes, int] = {}
        """Topic -> messages that a full queue cost, to be reported to the hub."""
        self.probes: dict[bytes, None] = {}
        """Questions that are not answered yet, oldest first."""
        self.generation = 0
        self.malformed = 0
        self._decode = decode
        self._round = 0

    def text(self, data: bytes) -> Any:
        return data.decode("utf-8", "replace") if self._decode else data

    # --- subscriptions ---------------------------------------------------------------------------
    def room(self, topics: set[bytes]) -> int:
        """How many more topics there may be, negative if these are too many."""
        return CHANNEL_SUBSCRIPTIONS_MAX - len(self.entries) - len(topics - self.entries.keys())

    def probe(self, topic: bytes) -> bytes:
        """What to subscribe to in order to be told how far a topic is."""
        probe = probe_topic(os.urandom(NONCE_BYTES), topic)
        self.probes[probe] = None
        return probe

    def next_topics(self, most: int) -> list[bytes]:
        """Some of the topics in turn, to be asked about."""
        topics = list(self.entries)
        if len(topics) > most:
            self._round = (self._round + most) % len(topics)
            topics = (topics[self._round :] + topics[: self._round])[:most]
        return topics

    # --- what comes ------------------------------------------------------------------------------
    def feed(self, frame: bytes) -> bytes | None:
        """Take one frame; returns the probe that it answers, to be unsubscribed."""
        try:
            messages = unpack_messages(frame)
        except ProtocolError:
            self.malformed += 1
            return None
        answered = None
        for message in messages:
            answered = self._take(message) or answered
        return answered

    def _take(self, message: Message) -> bytes | None:
        if message.generation != self.generation:
            self._new_generation(message.generation)
        if message.kind == PROBE:
            if message.topic not in self.probes:
                return None
            del self.probes[message.topic]
            self._probed(message)
            return message.topic
        entry = self.entries.get(message.topic)
        if entry is not None:
            if entry.holds:
                entry.held.append(message)
            else:
                self._accept(entry, message)
        return None

    def _new_generation(self, generation: int) -> None:
        """Another hub: nobody knows what was published while there was none."""
        if self.generation:
            for entry in self.entries.values():
                if entry.confirmed:
                    self._missed(entry, None)
                    entry.last = None
        self.generation = generation

    def _probed(self, message: Message) -> None:
        entry = self.entries.get(probed_topic(message.topic))
        if entry is None:
            return
        if message.flags & REFUSED:
            entry.refused = True
            return
        # It comes in order with the messages: what has not come before it never will.
        if not entry.holds and entry.last is not None and message.topic_seq > entry.last:
            self._missed(entry, message.topic_seq - entry.last)
        if entry.last is None or message.topic_seq > entry.last:
            entry.last = message.topic_seq
        entry.confirmed = True

    def _accept(self, entry: Entry, message: Message) -> None:
        last, seq = entry.last, message.topic_seq
        if last is not None and seq != last + 1:
            if seq <= last:
                return
            self._missed(entry, seq - last - 1)
        entry.last = seq
        kind = message.topic[:1]
        event = {
            "type": TYPES[kind],
            "pattern": self.text(name_of(entry.topic)) if kind == PATTERN else None,
            "channel": self.text(message.channel),
            "data": self.text(message.payload),
            "seq": message.seq,
        }
        self.events.append((event, entry.handler))

    def _missed(self, entry: Entry, count: int | None) -> None:
        name = self.text(name_of(entry.topic))
        pattern = name if entry.topic[:1] == PATTERN else None
        event = Missed(type="missed", pattern=pattern, channel=name, data=count, seq=entry.last)
        self.events.append((event, None))
        if count is not None:
            self.dropped[entry.topic] = self.dropped.get(entry.topic, 0) + count

    def release(self, entry: Entry, frames: list[bytes], before: int) -> None:
        """Hand out older messages, then those that have waited for them.

        `before`: the number of the newest message when the subscription came into force.
        """
        entry.holds, held, entry.held = False, entry.held, []
        entry.last = None
        for frame in frames:
            try:
                for message in unpack_messages(frame):
                    self._accept(entry, message)
            except ProtocolError:
                self.malformed += 1
        for message in held:
            self._accept(entry, message)
        entry.last = max(before, entry.last or 0)
