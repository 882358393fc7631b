"""What a history must not show. Each check returns its violations, none if all is well.

A version is 0 as long as a key was never written. A read that finds no key may have seen version 0 or any
deletion; where that is open, the checks take the oldest reading that fits, so that they never accuse wrongly.
Keys must not expire and not be evicted.
"""

import dataclasses
import heapq
import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.support.history import Event

Final = Mapping[str, int | None]
"""Key -> version (or counter) at the end; None if the key is not there."""


@dataclasses.dataclass(frozen=True)
class Violation:
    """One thing that must not be, and the events that show it."""

    check: str
    text: str
    events: tuple[Event, ...] = ()

    def __str__(self) -> str:
        return "\n  ".join((f"{self.check}: {self.text}", *map(str, self.events)))


class Writes:
    """What was written under each key."""

    def __init__(self, history: Iterable[Event]) -> None:
        self.by_version: dict[str, dict[int, Event]] = defaultdict(dict)
        self.deleted: dict[str, list[int]] = defaultdict(list)
        for event in history:
            if event.operation in ("write", "delete"):
                assert event.value is not None, f"a write has a version: {event}"
                versions = self.by_version[event.key]
                assert event.value not in versions, f"one writer per key, one version per write: {event}"
                versions[event.value] = event
                if event.operation == "delete" and event.outcome != "fail":
                    self.deleted[event.key].append(event.value)
        for deleted in self.deleted.values():
            deleted.sort()

    def oldest_fit(self, key: str, value: int | None, floor: int) -> int | None:
        """Oldest version from `floor` on that a state of the key can be from; None if there is none."""
        if value is not None:
            return value if value >= floor else None
        if floor == 0:
            return 0
        deleted = self.deleted[key]
        at = bisect_left(deleted, floor)
        return deleted[at] if at < len(deleted) else None


def check_phantoms(history: Sequence[Event], final: Final) -> list[Violation]:
    """A read sees only what was written: begun before the read ended, and not failed. (Counters have no
    versions.)
    """
    writes, found = Writes(history), []
    counters = {event.key for event in history if event.operation == "incr"}
    for event in _seen(history):
        if event.key in counters:
            continue
        write = writes.by_version[event.key].get(event.value or 0)
        if event.value is None or (event.value == 0 and write is None):
            continue
        if write is None or write.operation == "delete":
            found.append(Violation("phantom", "a read saw a version that nobody wrote", (event,)))
        elif write.outcome == "fail":
            found.append(Violation("phantom", "a read saw a write that had failed", (write, event)))
        elif write.invoked_ns > event.completed_ns:
            found.append(Violation("phantom", "a read saw a write before it was sent", (write, event)))
    return found


def check_order(history: Sequence[Event], final: Final) -> list[Violation]:
    """(a) A session that reads on one node never sees a key go back."""
    writes, found = Writes(history), []
    for reads in _grouped(_seen(history), lambda event: (event.session, event.node, event.key)):
        under_way: list[tuple[int, int, int]] = []
        floor, newest = 0, None
        for number, event in enumerate(reads):
            while under_way and under_way[0][0] <= event.invoked_ns:
                _, version, other = heapq.heappop(under_way)
                if version > floor:
                    floor, newest = version, reads[other]
            version = writes.oldest_fit(event.key, event.value, floor)
            if version is None:
                text = f"a session saw version {floor} and then {event.value} of a key on one node"
                found.append(Violation("order", text, (newest, event) if newest else (event,)))
            else:
                heapq.heappush(under_way, (event.completed_ns, version, number))
    return found


def check_own_writes(history: Sequence[Event], final: Final) -> list[Violation]:
    """(b) A read that demands a stamp sees its session's acknowledged writes of the key up to that stamp."""
    writes, found = Writes(history), []
    keyed = (event for event in history if event.operation != "incr" and event.outcome == "ok")
    for events in _grouped(keyed, lambda event: (event.session, event.key)):
        own = [event for event in events if event.operation != "read" and event.stamp is not None]
        for event in events:
            if event.operation != "read" or event.stamp is None:
                continue
            before = [w for w in own if w.completed_ns <= event.invoked_ns and (w.stamp or 0) <= event.stamp]
            newest = max(before, key=lambda write: write.value or 0, default=None)
            floor = newest.value or 0 if newest else 0
            if newest and writes.oldest_fit(event.key, event.value, floor) is None:
                text = f"a session wrote version {floor} and read {event.value}, though it demanded its stamp"
                found.append(Violation("own writes", text, (newest, event)))
    return found


def check_stamps(history: Sequence[Event], final: Final) -> list[Violation]:
    """A later version of a key has a larger stamp."""
    found = []
    for versions in Writes(history).by_version.values():
        stamped = [versions[version] for version in sorted(versions) if versions[version].outcome == "ok"]
        stamped = [event for event in stamped if event.stamp is not None]
        for earlier, later in itertools.pairwise(stamped):
            if (later.stamp or 0) <= (earlier.stamp or 0):
                found.append(Violation("stamps", "a later write has no larger stamp", (earlier, later)))
    return found


def check_nothing_lost(history: Sequence[Event], final: Final) -> list[Violation]:
    """(c) At the end each key is at least at the last write that a replica acknowledged, and at nothing that
    was not written. Unknown writes, and those acknowledged by the primary alone, may be there or not.
    """
    writes, found = Writes(history), []
    known = {event.key for event in history}
    for key in final:
        if key not in known and final[key]:
            found.append(Violation("lost", f"{key} ends at {final[key]}, but nobody ever wrote it"))
    for key, versions in writes.by_version.items():
        if key not in final:
            continue
        safe = [version for version, write in versions.items() if write.outcome == "ok" and write.ack >= 1]
        floor, value = max(safe, default=0), final[key]
        if writes.oldest_fit(key, value, floor) is None:
            text = f"{key} ends at {value}, but version {floor} was acknowledged"
            found.append(Violation("lost", text, (versions[floor],)))
        write = versions.get(value or 0)
        if value and (write is None or write.outcome == "fail" or write.operation == "delete"):
            events = (write,) if write else ()
            found.append(Violation("lost", f"{key} ends at {value}, which nobody wrote", events))
    return found


def check_counters(history: Sequence[Event], final: Final) -> list[Violation]:
    """(d) Each incr counts once: the end is between what was acknowledged and what was sent and not failed;
    no two acknowledged ones got the same result.
    """
    found = []
    incrs = (event for event in history if event.operation == "incr" and event.outcome != "fail")
    for events in _grouped(incrs, lambda event: (event.key,)):
        key = events[0].key
        assert all(event.amount > 0 for event in events), f"{key}: only increments can be checked"
        safe = [event for event in events if event.outcome == "ok" and event.ack >= 1]
        least, most = sum(event.amount for event in safe), sum(event.amount for event in events)
        if key in final and not least <= (final[key] or 0) <= most:
            text = f"{key} ends at {final[key]}: {least} acknowledged, at most {most} executed"
            found.append(Violation("counters", text))
        for same in _grouped((e for e in safe if e.value is not None), lambda event: (event.value,)):
            if len(same) > 1:
                found.append(Violation("counters", f"{key} got the same result twice", tuple(same)))
    return found


CHECKS: tuple[Callable[[Sequence[Event], Final], list[Violation]], ...] = (
    check_phantoms,
    check_order,
    check_own_writes,
    check_stamps,
    check_nothing_lost,
    check_counters,
)


def violations(history: Sequence[Event], final: Final) -> list[Violation]:
    """Of all checks. `final`: what a reader of the surviving primary finds at the end; keys that it lacks are
    not judged.
    """
    return [violation for check in CHECKS for violation in check(history, final)]


def assert_correct(history: Sequence[Event], final: Final) -> None:
    """AssertionError with the first violations, if there are any."""
    found = violations(history, final)
    assert not found, f"{len(found)} violations:\n" + "\n".join(map(str, found[:10]))


def _seen(history: Iterable[Event]) -> Iterable[Event]:
    return (event for event in history if event.operation == "read" and event.outcome == "ok")


def _grouped(events: Iterable[Event], key: Callable[[Event], tuple[object, ...]]) -> list[list[Event]]:
    """Events by key, each group by invocation."""
    groups: dict[tuple[object, ...], list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.invoked_ns):
        groups[key(event)].append(event)
    return list(groups.values())
