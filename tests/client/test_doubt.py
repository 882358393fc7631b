"""A write that was sent twice: what a refusal of the second says of the first. Exchanges driven by hand, no process."""

from collections.abc import Sequence
from typing import Any

import pytest

from shmcache.client.exchange import Deadline, Reply, Request, Send, Steps, Target, exchange
from shmcache.client.session import batch_results, command_steps, sole_result
from shmcache.errors import (
    CommandFailed,
    NotReplicated,
    OutcomeUnknown,
    ReadOnly,
    ResponseError,
    Unavailable,
    WrongType,
)
from shmcache.protocol import codec, frames
from shmcache.protocol.clocks import RemoteClock
from shmcache.protocol.commands import READ_ONLY, Args, SlotMap

ONE, TWO = Target("ipc:///one", (1, 1)), Target("ipc:///two", (2, 1))


class Replaced:
    """A route whose first worker goes away without an answer, once it has been sent something."""

    where, epoch, sees_workers = "instance 'x'", 1, True
    clock = RemoteClock()
    slots = write_slots = known = SlotMap.of([0] * 16384, 1)
    sends = 0

    def prepare(self, deadline: Deadline) -> Steps:
        yield from ()

    def target(self, slot: int, flags: int = 0) -> Target | None:
        return TWO if self.sends else ONE

    def replaced(self, target: Target, slot: int, flags: int = 0) -> bool:
        return target is not TWO

    def arrived(self, slot: int, stamp: int) -> bool:
        return True

    def forget(self) -> None: ...

    def wrote(self, *, forwarded: bool) -> None: ...


def results(*each: Any) -> tuple[int, bytes]:
    return 0, codec.encode_results(each)


def refusal(code: str) -> tuple[int, bytes]:
    return frames.ERROR, codec.encode_error(code, "no")


def drive(steps: Steps, route: Replaced, answers: Sequence[tuple[int, bytes]]) -> Any:
    """The first sending gets no answer, those after it get `answers`."""
    script, reply, answer = [None, *answers], None, None
    try:
        while True:
            step = steps.send(answer)
            if isinstance(step, Send):
                route.sends += 1
                scripted = script.pop(0) if script else None
                reply = None if scripted is None else Reply(frames.pack_header(scripted[0], request_id=step.request_id), scripted[1])
                answer = True
            else:
                answer, reply = reply, None
    except StopIteration as stop:
        return stop.value


def ask(*answers: tuple[int, bytes], commands: Sequence[Args] = (("SET", "k", 1),), timeout: float = 5.0) -> Request:
    flags = frames.READ_ONLY if {command[0] for command in commands} <= READ_ONLY else 0
    request, route = Request(0, 0, flags, b"", commands), Replaced()
    drive(exchange(route, [request], Deadline.after(timeout)), route, answers)
    return request


READONLY = ReadOnly("READONLY", "this is a replica")


def test_a_write_that_is_answered_the_second_time_has_that_answer() -> None:
    assert sole_result(ask(results("OK"))) == "OK"


@pytest.mark.parametrize("code", ["READONLY", "MOVED", "OOM", "NOSPACE", "WRONGTYPE"])
def test_a_command_that_is_refused_the_second_time_may_have_been_executed_the_first(code: str) -> None:
    with pytest.raises(OutcomeUnknown, match="first may have happened"):
        sole_result(ask(results(ResponseError(code, "no"))))


@pytest.mark.parametrize("code", ["READONLY", "LIMIT", "NOREPLICAS", "PROTOCOL"])
def test_a_message_that_is_refused_the_second_time_may_have_been_executed_the_first(code: str) -> None:
    assert isinstance(ask(refusal(code)).outcome, OutcomeUnknown)


def test_errors_that_say_what_happened_stay_what_they_are() -> None:
    assert isinstance(ask(refusal("NOTREPLICATED")).outcome, NotReplicated)
    with pytest.raises(CommandFailed):
        sole_result(ask(results(CommandFailed("ERR", "syntax error"))))


def test_a_read_that_is_refused_changed_nothing_either_time() -> None:
    with pytest.raises(WrongType):
        sole_result(ask(results(WrongType("WRONGTYPE", "no")), commands=[("GET", "k")]))


def test_a_write_that_was_refused_the_first_time_is_certain() -> None:
    """Nothing was executed: READONLY says so."""
    request, route = Request(0, 0, 0, b"", (("SET", "k", 1),)), Replaced()
    route.sends = 1
    steps = exchange(route, [request], Deadline.after(5))
    sent = next(steps)
    assert isinstance(sent, Send)
    steps.send(True)
    reply = Reply(frames.pack_header(frames.ERROR, request_id=sent.request_id), codec.encode_error("READONLY", "no"))
    with pytest.raises(StopIteration):
        steps.send(reply)
    assert type(request.outcome) is ReadOnly


def test_a_write_that_is_never_taken_again_has_no_known_outcome() -> None:
    """The shard stays away: `Unavailable` alone would say that nothing was executed."""
    away = [refusal("UNAVAILABLE")] * 100_000
    outcome = ask(*away, timeout=0.05).outcome
    assert type(outcome) is OutcomeUnknown
    assert isinstance(outcome.__cause__, Unavailable)


def test_in_a_batch_only_writes_are_in_doubt() -> None:
    commands = [("SET", "k", 1), ("GET", "k"), ("SET", "l", "syntax")]
    found = batch_results(ask(results(READONLY, b"1", CommandFailed("ERR", "syntax error")), commands=commands))
    assert [type(result) for result in found] == [OutcomeUnknown, bytes, CommandFailed]


def test_a_command_of_several_shards_ends_in_the_doubt_of_one() -> None:
    route = Replaced()
    with pytest.raises(OutcomeUnknown):
        drive(command_steps(route, ("SET", "k", 1), Deadline.after(5)), route, [results(READONLY)])  # type: ignore[arg-type]
