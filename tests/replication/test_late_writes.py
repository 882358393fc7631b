"""A forwarded write that is held up on its way is not executed after its client has given up: deadlines by the primary's clock."""

import time

import pytest

import shmcache
from shmcache.limits import CLOCK_ASK_MS, CLOCK_RETRY_MS
from shmcache.protocol import codec, frames
from shmcache.protocol.clocks import now_us
from shmcache.protocol.directory import new_snapshot
from shmcache.server.routing import Routing
from shmcache.server.upstream_clock import UpstreamClock
from tests.support.hosts import hosts
from tests.support.instance import wait_until

S = 1_000_000
SETTINGS = {"outstanding_per_client": 9, "outstanding_per_shard": 9, "unavailable_wait_ms": 1000}


def reply(question: list[bytes], us: int) -> list[bytes]:
    return [question[0], frames.pack_header(request_id=frames.request_id_of(question[1])), codec.encode_results([{"us": us}])]


def asked(clock: UpstreamClock, now: int) -> list[bytes]:
    question = clock.question(now)
    assert question is not None
    return question


def deadline(clock: UpstreamClock, at: int) -> int:
    return clock.translated(frames.Header(frames.HOST_CLOCK, 0, 0, 1, at)).deadline_us


def test_a_deadline_is_never_later_than_it_was() -> None:
    """Their clock is 100 s ahead; the answer took a second, of which nobody knows on which way."""
    clock = UpstreamClock()
    question = asked(clock, 10 * S)
    assert clock.question(10 * S + 1) is None
    assert not clock.is_known
    clock.answer(reply(question, 110 * S), 11 * S)
    assert deadline(clock, 20 * S) == 119 * S
    assert clock.translated(frames.Header(0, 0, 0, 1, 0)).deadline_us == 0
    assert deadline(clock, 1) == 99 * S + 1


def test_a_quick_answer_is_kept_and_a_slow_one_is_not() -> None:
    clock = UpstreamClock()
    for at, took in ((10 * S, S), (20 * S, 0), (30 * S, 3 * S)):
        clock.answer(reply(asked(clock, at), at + 100 * S), at + took)
    assert deadline(clock, 40 * S) == 140 * S


@pytest.mark.parametrize("ahead", [5 * S, 200 * S])
def test_another_clock_replaces_the_one_that_was_known(ahead: int) -> None:
    """The primary's host has started anew, or its address is another host's now."""
    clock = UpstreamClock()
    clock.answer(reply(asked(clock, 10 * S), 110 * S), 10 * S)
    clock.answer(reply(asked(clock, 20 * S), 20 * S + ahead), 20 * S)
    assert deadline(clock, 40 * S) == 40 * S + ahead


def test_what_is_no_answer_says_nothing_and_is_asked_again() -> None:
    clock = UpstreamClock()
    first = asked(clock, 0)
    second = asked(clock, CLOCK_RETRY_MS * 1000)
    clock.answer(reply(first, 7), CLOCK_RETRY_MS * 1000)
    clock.answer([second[0], frames.pack_header(frames.ERROR, request_id=2), codec.encode_error("PROTOCOL", "what?")], 9)
    for payload in (b"", b"\xc1", b"\x91\x01", codec.encode_results([{"us": "x"}])):
        clock.answer([second[0], second[1], payload], 9)
    clock.answer(second[:1], 9)
    assert not clock.is_known
    clock.answer(reply(second, 7), S)
    assert clock.is_known
    assert clock.question(S + CLOCK_ASK_MS * 1000 - 1) is None
    assert clock.question(S + CLOCK_ASK_MS * 1000) is not None


def test_a_router_forwards_when_it_knows_the_clock() -> None:
    sent: list[tuple[int, list[bytes]]] = []
    replies: list[list[bytes]] = []
    routing = Routing(new_snapshot("x", 1, 1), SETTINGS, replies.append, lambda lane, message: not sent.append((lane, message)))
    routing.set_forwarding(True)
    routing.ask_clock()
    routing.request([b"c", frames.pack_header(request_id=5, deadline_us=2 * S), b"\x90"])
    ((lane, question),) = sent
    assert lane == routing.upstream
    routing.reply(reply(question, now_us() + 1000 * S))
    (_, (client, head, _payload)) = sent[-1]
    header = frames.unpack_header(head)
    assert (client, header.request_id, header.flags) == (b"c", 5, frames.HOST_CLOCK)
    assert 1001 * S < header.deadline_us - now_us() <= 1002 * S
    routing.reply([b"c", frames.pack_header(request_id=5), b"\x90"])
    assert frames.unpack_header(replies[0][1]).flags & frames.FORWARDED
    assert routing.outstanding == 0


def sets(client: shmcache.Client, key: str, value: str) -> bool:
    try:
        return bool(client.set(key, value))
    except shmcache.ShmcacheError:
        return False


def test_a_write_that_comes_through_when_the_partition_ends_is_not_executed() -> None:
    """It lay in the buffers of the connection meanwhile; its client has given up."""
    with hosts(2) as made:
        first, second = made
        wide = {"listen": "tcp://0.0.0.0:7400", "relay_listen": "tcp://0.0.0.0:7410"}
        with first.running_instance(**wide) as one, second.running_instance(replica_of=f"tcp://{first.address}:7400", forward_writes=True) as two:
            with shmcache.connect(two.url, timeout=1.0) as client, shmcache.connect(one.url) as at_primary:
                wait_until(lambda: sets(client, "k", "before"), 10, "writes are forwarded")
                made.wire().partition("both")
                with pytest.raises(shmcache.ShmcacheError):
                    client.set("k", "late")
                made.heal()
                # By the same connection, behind the late one.
                wait_until(lambda: sets(client, "after", "1"), 20, "writes are forwarded again")
                time.sleep(0.5)
                assert at_primary.get("after") == b"1"
                assert at_primary.get("k") == b"before"
