"""What a bad wire does to one frame: pure decisions, no sockets, no clock of its own."""

import dataclasses
import random
from collections import Counter

ETHERNET_HEADER_BYTES = 14
REORDER_MS = 3.0
"""How long a reordered frame is held while later ones pass."""
RATE_QUEUE_S_MAX = 0.5
"""A frame that would wait longer for its turn at `rate_mbit` is dropped, as in a router's full buffer."""
QUEUE_BYTES_MAX = 64 << 20
"""All frames that one wire holds back."""


@dataclasses.dataclass(frozen=True)
class Impairment:
    """One direction of a wire. The shares are probabilities per frame; 0 everywhere is a perfect wire."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Added to the delay, uniformly between minus and plus; it never reorders."""
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    """One bit flipped behind the Ethernet header; the checksums of IP and TCP find it."""
    rate_mbit: float = 0.0
    """0: as fast as it goes."""

    def __post_init__(self) -> None:
        for share in ("loss", "reorder", "duplicate", "corrupt"):
            if not 0.0 <= getattr(self, share) <= 1.0:
                raise ValueError(f"{share} is a share between 0 and 1, not {getattr(self, share)}")
        if not 0.0 <= self.jitter_ms <= self.delay_ms:
            raise ValueError("jitter_ms lies between 0 and delay_ms")
        if not (0.0 <= self.delay_ms <= 60_000.0 and self.rate_mbit >= 0.0):
            raise ValueError("delay_ms lies between 0 and 60000, rate_mbit is not negative")


class Link:
    """One direction between two hosts: says when each frame leaves, how often, and in which shape."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.settings = Impairment()
        self.is_cut = False
        self.counts: Counter[str] = Counter()
        self._last_due = 0.0
        self._busy_until = 0.0

    def accept(self, frame: bytes, now: float) -> list[tuple[float, bytes]]:
        """When (in seconds of the caller's clock) to send what, for a frame that came in at `now`."""
        settings, chance = self.settings, self._chance
        self.counts["seen"] += 1
        if self.is_cut:
            self.counts["cut"] += 1
            return []
        if settings.loss and chance.random() < settings.loss:
            self.counts["lost"] += 1
            return []
        if settings.rate_mbit:
            start = max(now, self._busy_until)
            if start - now > RATE_QUEUE_S_MAX:
                self.counts["overflow"] += 1
                return []
            self._busy_until = start + len(frame) * 8 / (settings.rate_mbit * 1e6)
            now = self._busy_until
        due = now + settings.delay_ms / 1000
        if settings.jitter_ms:
            due += chance.uniform(-settings.jitter_ms, settings.jitter_ms) / 1000
        if settings.reorder and chance.random() < settings.reorder:
            self.counts["reordered"] += 1
            due += REORDER_MS / 1000
        else:
            due = self._last_due = max(due, self._last_due)
        if settings.corrupt and chance.random() < settings.corrupt:
            self.counts["corrupted"] += 1
            frame = self._flip(frame)
        sent = [(due, frame)]
        if settings.duplicate and chance.random() < settings.duplicate:
            self.counts["duplicated"] += 1
            sent.append((due, frame))
        return sent

    def change(self, settings: Impairment) -> None:
        """Frames from now on; those held back keep their time, but hold nobody up any longer."""
        self.settings = settings
        self._last_due = self._busy_until = 0.0

    def _flip(self, frame: bytes) -> bytes:
        if len(frame) <= ETHERNET_HEADER_BYTES:
            return frame
        flipped = bytearray(frame)
        flipped[self._chance.randrange(ETHERNET_HEADER_BYTES, len(frame))] ^= 1 << self._chance.randrange(8)
        return bytes(flipped)
