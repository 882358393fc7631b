"""The last messages of each channel, for subscribers that come late. Bounded over all channels. No sockets
here.
"""

from collections import deque

Kept = tuple[int, int, bytes]
"""Sequence number, unix ms, frame."""

_STALE_MAX = 1024
"""Entries of the common order whose message is gone already, before they are swept out."""


class ReplayBuffer:
    """Frames by topic, in order. `messages` and `seconds` per channel (0 = no such limit), `bytes_max` in
    all.
    """

    def __init__(self, messages: int, seconds: int, bytes_max: int) -> None:
        self.enabled = messages > 0 or seconds > 0
        self._messages, self._age_ms, self._bytes_max = messages, seconds * 1000, bytes_max
        self._kept: dict[bytes, deque[Kept]] = {}
        self._order: deque[tuple[bytes, int]] = deque()
        """Topic and sequence number of every message, oldest first; those dropped by count are stale."""
        self.count = 0
        self.bytes = 0

    def add(self, topic: bytes, seq: int, unix_ms: int, frame: bytes) -> None:
        """Keep a frame, dropping what is over a limit: the oldest, of its channel and then of all."""
        if len(frame) > self._bytes_max:
            return
        kept = self._kept.get(topic)
        if kept is None:
            kept = self._kept[topic] = deque()
        kept.append((seq, unix_ms, frame))
        self._order.append((topic, seq))
        self.count += 1
        self.bytes += len(frame)
        if self._messages and len(kept) > self._messages:
            self._pop(kept)
        while self.bytes > self._bytes_max:
            self._drop_oldest()
        if len(self._order) > 2 * self.count + _STALE_MAX:
            self._sweep()

    def expire(self, now_ms: int) -> None:
        """Drop what is too old."""
        if not self._age_ms:
            return
        limit = now_ms - self._age_ms
        while self._order:
            topic, seq = self._order[0]
            kept = self._kept.get(topic)
            if kept and kept[0][0] == seq:
                if kept[0][1] > limit:
                    return
                self._drop_oldest()
            else:
                self._order.popleft()

    def select(
        self, topic: bytes, upto: int, messages: int, oldest_ms: int, bytes_max: int, after: int = 0
    ) -> list[bytes]:
        """Frames with `after` < sequence number <= `upto`, oldest first.

        Of these the newest `messages` (0 = all) that are not older than `oldest_ms` (0 = any age); the first
        of them that fit into `bytes_max`, but at least one.
        """
        fitting = [kept for kept in self._kept.get(topic, ()) if kept[0] <= upto and kept[1] >= oldest_ms]
        if messages:
            fitting = fitting[-messages:]
        chosen: list[bytes] = []
        size = 0
        for seq, _, frame in fitting:
            if seq <= after:
                continue
            size += len(frame)
            if chosen and size > bytes_max:
                break
            chosen.append(frame)
        return chosen

    def _drop_oldest(self) -> None:
        topic, seq = self._order.popleft()
        kept = self._kept.get(topic)
        if kept and kept[0][0] == seq:
            self._pop(kept)
            if not kept:
                del self._kept[topic]

    def _pop(self, kept: deque[Kept]) -> None:
        _, _, frame = kept.popleft()
        self.count -= 1
        self.bytes -= len(frame)

    def _sweep(self) -> None:
        first = {topic: kept[0][0] for topic, kept in self._kept.items() if kept}
        self._order = deque((t, seq) for t, seq in self._order if t in first and seq >= first[t])
