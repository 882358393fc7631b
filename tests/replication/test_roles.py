"""Who may be followed from where, what a former primary lost, how many acknowledgements are needed: pure decisions."""

from dataclasses import replace

import pytest

from shmcache.errors import ConfigError
from shmcache.protocol.needs import needed, parse_ack
from shmcache.protocol.replication import Followed, Fork, Identity
from shmcache.replication.greeting import Refusal, Welcome, check, lost_writes, positions_to_follow
from shmcache.server.holding import Held, Holding

WELCOME = Welcome("p", "aa", 100, 3, "primary", False, 2, [[0, 8191, 0], [8192, 16383, 1]], {0: 500, 1: 600}, {0: 100, 1: 0}, None, "", 0)
OWN = Identity("bb", 200, "replica", 3)


def test_the_rings_decide_per_shard_what_has_to_be_copied():
    own = replace(OWN, followed={"x": Followed(100, {0: 99, 1: 300})})
    assert positions_to_follow(WELCOME, own, {}) == {1: 300}
    own = replace(OWN, followed={"x": Followed(100, {0: 100, 1: 601})})
    assert positions_to_follow(WELCOME, own, {}) == {0: 100}, "a position behind the log's end is no position of this log"


def test_another_history_or_an_unfinished_copy_means_a_full_copy():
    assert positions_to_follow(WELCOME, replace(OWN, followed={"x": Followed(101, {0: 200, 1: 300})}), {}) == {}
    assert positions_to_follow(WELCOME, replace(OWN, syncing=True, followed={"x": Followed(100, {0: 200, 1: 300})}), {}) == {}


def test_a_former_primary_goes_on_only_if_nothing_of_it_was_lost():
    fork = Fork(200, 3, {0: 40}, {0: 450, 1: 550})
    welcome = replace(WELCOME, fork=fork)
    assert positions_to_follow(welcome, OWN, {0: 40}) == {0: 450, 1: 550}
    assert positions_to_follow(welcome, OWN, {0: 41}) == {}
    assert lost_writes(fork, OWN, {0: 41}) == {0: 40}
    assert lost_writes(fork, OWN, {0: 40}) == {}
    assert lost_writes(replace(fork, history=7), OWN, {0: 41}) is None


def test_an_old_primary_is_not_followed():
    check(WELCOME, OWN, merge=False)
    with pytest.raises(Refusal, match="replaced"):
        check(WELCOME, replace(OWN, epoch=4), merge=False)
    check(WELCOME, replace(OWN, epoch=4), merge=True)
    with pytest.raises(Refusal, match="itself"):
        check(WELCOME, replace(OWN, replica_id="aa"), merge=False)
    with pytest.raises(Refusal, match="full copy"):
        check(replace(WELCOME, syncing=True), OWN, merge=False)


@pytest.mark.parametrize(
    ("ack", "replicas", "wanted"),
    [(0, 3, 0), (2, 1, 2), ("all", 3, 3), ("quorum", 0, 0), ("quorum", 1, 1), ("quorum", 2, 1), ("quorum", 3, 2), ("quorum", 4, 2)],
)
def test_acknowledgements_that_are_needed(ack: int | str, replicas: int, wanted: int):
    """A quorum is a majority of replicas and primary together, and the primary has the write."""
    assert needed(ack, replicas) == wanted


@pytest.mark.parametrize("text", ["-1", "33", "most", "", "1.5", True, None])
def test_what_is_no_ack(text: object):
    with pytest.raises(ConfigError):
        parse_ack(text)  # type: ignore[arg-type]


def test_held_replies_go_out_when_enough_have_them_or_when_the_time_is_over():
    sent: list[tuple[str, int, int]] = []
    holding = Holding()

    def hold(name: str, position: int, ack: int | str, until: float) -> None:
        holding.add(Held(position, ack, until, lambda k, n, _durable: sent.append((name, k, n))))

    hold("a", 100, 1, 10.0)
    hold("b", 200, 2, 10.0)
    hold("c", 300, "all", 5.0)
    holding.review([150, 90, 0], 2, 1.0)
    assert sent == [("a", 1, 1)]
    holding.review([250, 210, 0], 2, 2.0)
    assert sent[1:] == [("b", 2, 2)]
    holding.review([310, 250, 0], 2, 5.0)
    assert sent[2:] == [("c", 1, 2)], "late: it says how far it came"
    assert not holding
