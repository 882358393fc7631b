"""Several writers that hear of each other in any order, twice, or through a third: in the end all agree."""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shmcache import _engine
from tests.engine.generators import one_of
from tests.engine.regions import execute
from tests.engine.writers import Writer, Writers

LIFE_MS = 3_600_000
RELAXED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    print_blob=True,
)

step = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.lists(one_of("writing"), min_size=1, max_size=4)),
    st.tuples(st.just("write"), st.integers(0, 2), st.lists(one_of("writing"), min_size=1, max_size=4)),
    st.tuples(st.just("transaction"), st.integers(0, 2), st.lists(one_of("writing"), min_size=1, max_size=4)),
    st.tuples(st.just("flush half"), st.integers(0, 2), st.booleans()),
    st.tuples(
        st.just("hear"),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.integers(), st.integers(1, 40)),
    ),
    st.tuples(
        st.just("hear"),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.integers(), st.integers(1, 40)),
    ),
    st.tuples(st.just("new owner"), st.integers(0, 2), st.none()),
)
"""What happens to which writer. `hear`: (from, to), (place in the log of groups, how many of them)."""

HALF = bytes([255] * 1024 + [0] * 1024)


@dataclass
class Told:
    """A writer and the groups of its log so far."""

    writer: Writer
    groups: list[bytes] = field(default_factory=list)

    def listen(self) -> None:
        while group := self.writer.tailer.poll(1):
            self.groups.append(group)


def perform(told: list[Told], kind: str, where: object, what: object) -> None:
    match kind, where, what:
        case "write" | "transaction", int(number), list(commands):
            flags = _engine.FLAG_TRANSACTION if kind == "transaction" else 0
            execute(told[number % len(told)].writer.owner, commands, flags)
        case "flush half", int(number), bool(low):
            owner = told[number % len(told)].writer.owner
            owner.set_slots(HALF if low else HALF[::-1])
            owner.command("FLUSHALL")
            owner.set_slots(None)
        case "hear", (int(source), int(target)), (int(place), int(count)):
            groups = told[source % len(told)].groups
            if groups:
                place %= len(groups)
                told[target % len(told)].writer.owner.apply(b"".join(groups[place : place + count]))
        case "new owner", int(number), None:
            told[number % len(told)].writer.reattach()


def exchange_all(told: list[Told]) -> None:
    """Everybody hears everything, once more after all, from the start."""
    for _ in range(2):
        for source in told:
            source.listen()
            for target in told:
                target.writer.owner.apply(b"".join(source.groups))


@RELAXED
@given(count=st.integers(2, 3), steps=st.lists(step, min_size=3, max_size=30), last=st.permutations(range(3)))
@pytest.mark.timeout(600)
def test_all_agree_in_the_end(count: int, steps: list[tuple[str, object, object]], last: list[int]):
    """Random commands, transactions, flushes, new owners; logs in any order, doubled, relayed."""
    writers = Writers()
    try:
        told = [Told(writers(node=number + 1, tombstone_life_ms=LIFE_MS)) for number in range(count)]
        for kind, where, what in steps:
            perform(told, kind, where, what)
            for one in told:
                one.listen()
        exchange_all([told[number] for number in last if number < count])
        digests = {one.writer.owner.digest() for one in told}
        assert len(digests) == 1, [sorted(one.writer.command("KEYS", "*")) for one in told]
        for one in told:
            one.writer.owner.verify()
            one.listen()
            groups = len(one.groups)
            one.writer.owner.apply(b"".join(group for other in told for group in other.groups))
            one.listen()
            assert len(one.groups) == groups, "what is known is not told again"
    finally:
        writers.close()


def test_stamps_that_are_equal_are_told_apart_by_the_node(writers: Writers):
    """Two writers give the same stamp to the same key now and then: the larger node wins everywhere."""
    for _ in range(200):
        one, two = writers(node=1, tombstone_life_ms=LIFE_MS), writers(node=2, tombstone_life_ms=LIFE_MS)
        one.command("SET", "k", "one")
        two.command("SET", "k", "two")
        same = one.owner.last_stamp == two.owner.last_stamp
        first, second = one.news(), two.news()
        assert one.owner.apply(second) + two.owner.apply(first) == 1
        assert one.owner.digest() == two.owner.digest()
        if same:
            assert one.command("GET", "k") == b"two"
            return
    pytest.fail("no two stamps were the same")
