"""Answers of a relay that do not come: what is asked again, and when a connection is made anew. No process but for one test, no clock."""

from typing import Any

import pytest

import shmcache
from shmcache.errors import ResponseError
from shmcache.limits import (
    ANSWER_S_MAX,
    ANSWER_S_MIN,
    ASKED_MAX,
    FETCH_RETRY_MS,
    RECONNECTS_MAX,
    SLICES_IN_FLIGHT,
)
from shmcache.replication.acks import Follower
from shmcache.replication.patience import Questions
from shmcache.replication.shipping import Copy, OwnLogs
from shmcache.replication.switchover import Switchover
from shmcache.replication.window import Window
from tests.replication.pairs import primary


def a_slice(number: int, *, done: bool = False) -> dict[str, Any]:
    return {"number": number, "done": done}


def numbers(slices: list[dict[str, Any]]) -> list[int]:
    return [each["number"] for each in slices]


def test_a_slice_that_is_lost_is_asked_for_again_and_those_behind_it_wait() -> None:
    """A copy that ended without it would delete what it had not brought."""
    window = Window()
    assert window.wants(0.0, 1.0) == [0, 1, 2, 3]
    assert window.wants(0.5, 1.0) == []
    assert numbers(window.offer(0, a_slice(0))) == [0]
    assert numbers(window.offer(2, a_slice(2))) == []
    assert numbers(window.offer(3, a_slice(3, done=True))) == []
    assert window.wants(1.0, 1.0) == [1]
    assert numbers(window.offer(1, a_slice(1))) == [1, 2, 3]
    assert window.wants(9.0, 1.0) == []


def test_a_slice_that_comes_twice_or_of_nowhere_counts_once() -> None:
    window = Window()
    window.wants(0.0, 1.0)
    assert numbers(window.offer(1, a_slice(1))) == []
    assert numbers(window.offer(1, a_slice(1))) == []
    assert numbers(window.offer(0, a_slice(0))) == [0, 1]
    assert numbers(window.offer(0, a_slice(0))) == []
    assert numbers(window.offer(2 + SLICES_IN_FLIGHT, a_slice(9))) == []


def test_what_cannot_be_read_now_or_was_asked_over_another_connection_is_asked_at_once() -> None:
    window = Window()
    window.wants(0.0, 1.0)
    window.again(2)
    assert window.wants(0.0, 1.0) == [2]
    window.all_again()
    assert window.wants(0.0, 1.0) == [0, 1, 2, 3]


def test_the_upstream_gives_a_slice_again_as_long_as_it_may_be_on_its_way() -> None:
    with primary() as one, shmcache.connect(one.url) as client:
        client.mset({f"k{n}": f"{n}" * 100 for n in range(3000)})
        copy = Copy(OwnLogs(one.snapshot()), 0, Window().token, flushes=False)
        first = copy.slice(0, 7, 1)
        ahead = copy.slice(SLICES_IN_FLIGHT - 1, 7, 1)
        assert copy.slice(0, 7, 1) == first != ahead
        with pytest.raises(ResponseError, match="far ahead"):
            copy.slice(2 * SLICES_IN_FLIGHT, 7, 1)
        count = SLICES_IN_FLIGHT
        while not copy.slice(count, 7, 1)["done"]:
            count += 1
        with pytest.raises(ResponseError, match="long ago"):
            copy.slice(0, 7, 1)
        with pytest.raises(ResponseError, match="complete"):
            copy.slice(count + 1, 7, 1)
        assert copy.slice(count, 7, 1)["done"]


def test_two_copies_are_told_apart() -> None:
    assert Window().token != Window().token


def test_only_silence_makes_a_connection_anew() -> None:
    questions = Questions()
    assert not questions.are_overdue(100.0)
    questions.asked(1, "fetch", 0.0)
    questions.asked(2, "fetch", 0.9)
    assert not questions.are_overdue(ANSWER_S_MIN)
    assert questions.are_overdue(ANSWER_S_MIN + 0.1)
    assert questions.answered(2, ANSWER_S_MIN).kind == "fetch"
    assert not questions.are_overdue(100.0)
    assert questions.answered(2, 100.0).kind == ""


def test_a_damaged_answer_shows_that_the_connection_lives() -> None:
    questions = Questions()
    questions.asked(1, "fetch", 0.0)
    questions.heard()
    assert not questions.are_overdue(100.0)


def test_time_in_which_this_process_did_not_run_is_not_the_others_silence() -> None:
    questions = Questions()
    questions.asked(1, "fetch", 0.0)
    questions.excuse(10.0)
    assert not questions.are_overdue(10.5)


def test_slow_answers_are_waited_for() -> None:
    """Else each new connection would begin the same slow answer once more, for ever."""
    questions = Questions()
    questions.asked(1, "slice", 0.0, 2, 3)
    assert questions.answered(1, 3.0) == ("slice", 2, 3)
    questions.asked(2, "slice", 10.0)
    assert not questions.are_overdue(15.9)
    assert questions.are_overdue(16.1)
    for _ in range(5):
        questions.give_up()
    assert questions.patience_s == ANSWER_S_MAX


def test_connections_that_bring_nothing_are_bounded_and_so_is_what_is_remembered() -> None:
    questions = Questions()
    assert [questions.give_up() for _ in range(RECONNECTS_MAX + 1)] == [True] * RECONNECTS_MAX + [False]
    for number in range(2 * ASKED_MAX):
        questions.asked(number, "fetch", 0.0)
    assert questions.answered(0, 0.0).kind == ""
    assert questions.answered(2 * ASKED_MAX - 1, 0.0).kind == "fetch"


@pytest.mark.parametrize("position", [10, 11])
def test_a_replica_is_asked_again_to_take_the_role(position: int) -> None:
    follower = Follower(0, "x", "x", "tcp://127.0.0.1:1", [], {0: position})
    switchover = Switchover(follower, 10.0, lambda _: None)
    assert not switchover.ready_to_hand_over({0: 10}, 0.0)
    switchover.writes_have_stopped()
    assert switchover.ready_to_hand_over({0: 10}, 0.0)
    switchover.asked_at = 0.0
    assert not switchover.ready_to_hand_over({0: 10}, FETCH_RETRY_MS / 2000)
    assert switchover.ready_to_hand_over({0: 10}, FETCH_RETRY_MS / 1000)
    assert not switchover.ready_to_hand_over({0: 12}, 9.0)
