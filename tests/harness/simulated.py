"""A replicated cache in a hundred lines that makes no mistakes: its histories are correct by construction."""

import random

from tests.support.history import NEVER_NS, Event

KEYS = ("a", "b")
COUNTER = "counter"
NODES = ("r1", "r2")
STEP_NS = 10


class SimulatedCluster:
    """A primary's log of (key, version, is there, stamp) and two replicas, each with a prefix of it."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._now = 0
        self._log: list[tuple[str, int, bool, int]] = []
        self._applied = dict.fromkeys(NODES, 0)
        self._versions = dict.fromkeys(KEYS, 0)
        self._last_stamp: dict[str, int] = {}
        self._term = 1 << 20
        self.history: list[Event] = []

    def step(self, kind: str, key: str, node: str, luck: int) -> None:
        """One thing that happens; `luck` (0 to 3) decides how an operation ends or how far a replica gets."""
        self._now += STEP_NS
        if kind == "replicate":
            self._applied[node] = min(len(self._log), self._applied[node] + 1 + luck)
        elif kind == "failover":
            # The replica that is furthest becomes the primary; what only the old one had is gone.
            del self._log[max(self._applied.values()) :]
            self._term += 1 << 20
        elif kind == "incr":
            self._write("incr", COUNTER, 0, luck)
        elif kind == "read":
            self._read(key, node, luck)
        else:
            self._versions[key] += 1
            self._write(kind, key, self._versions[key], luck)

    def _write(self, operation: str, key: str, version: int, luck: int) -> None:
        """Ends failed, unknown, acknowledged by the primary alone, or by a replica."""
        outcome = ("fail", "unknown", "ok", "ok")[luck]
        stamp = self._term + self._now
        if luck >= 2 or (luck == 1 and self._chance.random() < 0.5):
            self._log.append((key, version, operation != "delete", stamp))
        if luck == 3:
            self._applied[self._chance.choice(NODES)] = len(self._log)
        value: int | None = version
        if operation == "incr":
            value = self.state(len(self._log))[COUNTER] if outcome == "ok" else None
        elif outcome == "ok":
            self._last_stamp[key] = stamp
        given = stamp if outcome == "ok" else None
        self._note(operation, key, value, outcome, stamp=given, ack=int(luck == 3))

    def _read(self, key: str, node: str, luck: int) -> None:
        """By the key's writer, which may demand its last stamp, or by a reader that takes what there is."""
        if luck < 2:
            value = self.state(self._applied[node])[key]
            self._note("read", key, value, "ok", session=f"reader {luck}", node=node)
        elif key in self._last_stamp:
            # The primary always has what it gave a stamp for, unless that was lost in a failover.
            stamp = self._last_stamp[key]
            has_it = any(record[3] == stamp for record in self._log)
            value = self.state(len(self._log))[key] if has_it else None
            self._note("read", key, value, "ok" if has_it else "fail", stamp=stamp)

    def state(self, applied: int) -> dict[str, int | None]:
        """What a node shows that has applied so many records."""
        state: dict[str, int | None] = {key: None for key in KEYS} | {COUNTER: 0}
        for key, version, is_there, _ in self._log[:applied]:
            state[key] = (state[key] or 0) + 1 if key == COUNTER else version if is_there else None
        return state

    @property
    def final(self) -> dict[str, int | None]:
        return self.state(len(self._log))

    def _note(self, operation, key, value, outcome, *, session="", node="", stamp=None, ack=0) -> None:
        invoked = self._now + self._chance.randrange(-STEP_NS // 2, 0)
        is_cut_off = outcome == "unknown" and self._chance.random() < 0.5
        completed = NEVER_NS if is_cut_off else self._now + self._chance.randrange(1, STEP_NS // 2)
        session = session or f"writer {key}"
        event = Event(session, session, operation, key, value, outcome, invoked, completed, node, ack, stamp)
        self.history.append(event)
