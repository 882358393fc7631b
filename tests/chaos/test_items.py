"""The judge of the chaos tests, judged: each thing that must not happen is called by its name."""

from pathlib import Path

import pytest

from tests.chaos.items import (
    INCR,
    KINDS,
    MSET,
    SET,
    SPREAD,
    TRANSACTION,
    expected,
    final_problem,
    keys_of,
    live_problem,
    value_of,
)
from tests.chaos.ledger import ACKNOWLEDGED, REFUSED, UNKNOWN, Ledger


def found_at(kind: int, *versions: int) -> list[bytes | None]:
    """What the item's keys hold, each at its version (one for all if one is given)."""
    keys = keys_of(kind, 1, 2)
    each = versions if len(versions) > 1 else versions * len(keys)
    return [
        expected(kind, place, key, version)
        for place, (key, version) in enumerate(zip(keys, each, strict=True))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_final_state_between_acknowledged_and_intended(kind: int) -> None:
    """An unknown outcome may have happened or not; an acknowledged write stands, a refused one does not."""
    keys = keys_of(kind, 1, 2)
    assert not final_problem(kind, keys, found_at(kind, 5), 5, 5, False)
    assert not final_problem(kind, keys, found_at(kind, 5), 5, 6, False)
    assert not final_problem(kind, keys, found_at(kind, 6), 5, 6, False)
    assert final_problem(kind, keys, found_at(kind, 4), 5, 6, False), "lost"
    assert final_problem(kind, keys, found_at(kind, 8), 5, 6, False), "executed twice, or never written"
    assert final_problem(kind, keys, found_at(kind, 6), 5, 6, True), "refused, and yet executed"
    assert final_problem(kind, keys, found_at(kind, 0), 5, 6, False), "gone"


def test_halves_of_atomic_writes() -> None:
    """One slot's MSET and a transaction are seen whole; an MSET over shards need not be."""
    for kind, versions in ((MSET, (5, 6)), (TRANSACTION, (6, 6, 5))):
        assert final_problem(kind, keys_of(kind, 1, 2), found_at(kind, *versions), 5, 6, False)
    assert not final_problem(SPREAD, keys_of(SPREAD, 1, 2), found_at(SPREAD, 5, 6, 5, 6), 5, 6, False)


def test_live_bounds() -> None:
    """A reader may see anything between what was acknowledged before and what was intended after, and nothing
    else.
    """
    key = keys_of(SET, 1, 2)[0]
    for version in (4, 5, 6):
        assert not live_problem(SET, 0, key, value_of(key, version), 4, 6)
    assert live_problem(SET, 0, key, value_of(key, 3), 4, 6), "went back"
    assert live_problem(SET, 0, key, value_of(b"other", 5), 4, 6), "foreign"
    torn = value_of(key, 5)[:-1] + b"?"
    assert live_problem(SET, 0, key, torn, 4, 6), "torn"
    assert live_problem(SET, 0, key, b"", 4, 6)
    assert live_problem(SET, 0, key, None, 4, 6), "gone"
    assert not live_problem(SET, 0, key, None, 4, 7), "the seventh version is a deletion"
    assert live_problem(INCR, 0, key, b"7", 4, 6)


def test_ledger_outlives_its_process(tmp_path: Path) -> None:
    """What one life of a writer noted, the next one reads."""
    path = tmp_path / "ledger"
    first = Ledger(path, create=True)
    number = first.add(INCR)
    first.acknowledge(number, first.intend(number))
    assert first.is_open(number)
    assert first.intend(number) == 2
    second = Ledger(path)
    assert not second.is_open(number)
    assert second.item(number) == (INCR, 1, 2, False)
    second.give_up(number, refused=True)
    assert first.item(number).refused
    assert (first.tally(ACKNOWLEDGED), first.tally(REFUSED), first.tally(UNKNOWN), len(first)) == (1, 1, 0, 1)
    for ledger in (first, second):
        ledger.close()
