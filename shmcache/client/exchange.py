"""Requests out, replies in: what is sent, sent again and given up, without any waiting of its own.

`exchange` is a generator. It yields steps, and whoever drives it (`channels` with threads, `loop` with
asyncio) carries them out: that is all in which the sync and the async client differ. (A sync call that needs
one message sends it without, and hands over to an exchange when anything but the reply comes:
`Channels.ask`.)
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Protocol

from ..errors import CacheTimeout, ShmcacheError, Unavailable
from ..limits import ARRIVAL_POLL_MS, CLIENT_POLL_MS, CLIENT_RESEND_MS
from ..protocol import frames
from ..protocol.clocks import RemoteClock
from ..protocol.codec import decode_error, encode_commands, encode_options
from ..protocol.commands import Args, is_repeatable
from .policy import Next, Silence, after_silence, refusal_error, retry_delay, silence_error, tries_again

POLL_S = CLIENT_POLL_MS / 1000
_request_ids = count(1)
_clock = time.monotonic


class Send(NamedTuple):
    """Send one message. Answered by True, or False if the queue to that endpoint is full."""

    endpoint: str
    request_id: int
    header: bytes
    payload: bytes


class Receive(NamedTuple):
    """Wait for a reply until a moment of the monotonic clock. Answered by a `Reply` or None."""

    until: float


class Reply(NamedTuple):
    header: bytes
    payload: bytes


Step = Send | Receive
Steps = Generator[Step, Any, Any]


class Target(NamedTuple):
    """Where a shard is reached now. It compares equal as long as the same worker is there."""

    endpoint: str
    worker: tuple[int, int]
    """Its pid and generation; zeros behind a router."""


class Route(Protocol):
    """Knows where the shards are."""

    where: str
    """For messages to people."""
    epoch: int
    clock: RemoteClock
    """Of the host there; not known, and not needed, where that is this host."""
    sees_workers: bool
    """Whether a change of `target` tells that a worker was replaced."""

    def target(self, slot: int, flags: int = 0) -> Target | None:
        """Where a request with these flags for the slot goes now; None while nobody is there."""

    def replaced(self, target: Target, slot: int, flags: int = 0) -> bool:
        """Whether what was sent there will not be answered any more. A worker that ends in order still answers."""

    def arrived(self, slot: int, stamp: int) -> bool:
        """Whether reads here see the write with this stamp."""

    def forget(self) -> None:
        """A server said MOVED: look again."""

    def wrote(self, *, forwarded: bool) -> None:
        """A write was answered: by the instance itself, or by the primary that it forwards to."""


@dataclass(slots=True, eq=False)
class Request:
    """One message to one shard, and where it stands."""

    shard: int
    slot: int
    flags: int
    payload: bytes
    commands: Sequence[Args] = ()
    """What the payload packs; empty for a control call."""
    number: int = 0
    """Request id; a message that is sent again through a router keeps it, so that either reply counts."""
    attempts: int = 0
    sent_to: Target | None = None
    sent_at: float = 0.0
    not_before: float = 0.0
    refusal: ShmcacheError | None = None
    may_have_happened: bool = False
    """It writes, and was sent before without an answer: a refusal now does not say that nothing was executed."""
    stamp: int = 0
    """Of the shard after the request, as the reply says."""
    forwarded: bool = False
    """It was executed at the primary of the instance that was asked."""
    outcome: bytes | ShmcacheError | None = None
    """The reply's payload, or why there is none."""

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no harm. Asked only when a reply does not come.

        Repeating a batch repeats its order too: SET a, GET a, SET a ends as it would have.
        """
        return all(map(is_repeatable, self.commands))

    def header(self, route: "Route", at: float, endpoint: str) -> bytes:
        """Of the message, which keeps its number when it is sent once more. `at`: its deadline, monotonic clock."""
        number = self.number = self.number or next(_request_ids)
        flag, deadline_us = frames.deadline_at(at, endpoint, route.clock)
        return frames.pack_header(self.flags | flag, self.slot, route.epoch, number, deadline_us)

    def is_sent(self, target: Target, now: float) -> None:
        """Note that it went out. `now` on the monotonic clock."""
        self.attempts += 1
        self.sent_to, self.sent_at = target, now


class Deadline(NamedTuple):
    """`at` on the monotonic clock, `timeout` in seconds for messages."""

    at: float
    timeout: float

    @staticmethod
    def after(timeout: float) -> "Deadline":
        return Deadline(_clock() + timeout, timeout)


def answers(reply: Reply, header: bytes) -> bool:
    """Whether it is the plain reply to the message with that header, with which all is done."""
    return reply.header[8:16] == header[8:16] and not reply.header[1] & (frames.ERROR | frames.FORWARDED)


def exchange(
    route: Route, requests: Sequence[Request], deadline: Deadline, reply: Reply | None = None
) -> Generator[Step, Any, None]:
    """Fill in every request's `outcome`. Some may be out already, and a `reply` to one of them have come."""
    waiting = {request.number: request for request in requests if request.sent_to is not None}
    idle = [request for request in requests if request.sent_to is None]
    while idle or waiting:
        if idle:
            idle = yield from _send_all(route, idle, waiting, deadline)
        if not idle and not waiting:
            break
        if reply is None:
            until = min([deadline.at, _clock() + POLL_S, *(request.not_before for request in idle)])
            reply = yield Receive(until)
        if reply is not None:
            request = waiting.pop(frames.request_id_of(reply.header), None)
            if request is not None:
                _take(route, request, reply, idle, deadline)
        else:
            _review(route, waiting, idle, deadline)
        reply = None
    yield from _see_own_writes(route, requests, deadline)


def _see_own_writes(route: Route, requests: Sequence[Request], deadline: Deadline) -> Generator[Step, Any, None]:
    """Wait until what was written elsewhere (a replica that forwards) can be read here, or the time is over."""
    probes = []
    for request in requests:
        if request.flags & (frames.READ_ONLY | frames.CONTROL) or not request.stamp:
            continue
        if request.forwarded and not route.sees_workers:
            # Nothing to look at from another host: a batch without commands is refused until the write is there.
            payload = encode_options({"after_stamp": request.stamp}) + encode_commands([])
            probes.append(Request(request.shard, request.slot, frames.READ_ONLY | frames.OPTIONS, payload))
        while not route.arrived(request.slot, request.stamp) and _clock() < deadline.at:
            yield Receive(min(deadline.at, _clock() + ARRIVAL_POLL_MS / 1000))
    if probes:
        yield from exchange(route, probes, deadline)


def _send_all(
    route: Route, idle: list[Request], waiting: dict[int, Request], deadline: Deadline
) -> Generator[Step, Any, list[Request]]:
    """Send what may be sent now; returns the requests that are still to be sent."""
    left = []
    for request in idle:
        if request.outcome is not None:
            continue
        now = _clock()
        if now >= deadline.at:
            waiting.pop(request.number, None)
            refusal = request.refusal or Unavailable(
                f"shard {request.shard} of {route.where} could not be reached within {deadline.timeout:g} s"
            )
            request.outcome = refusal_error(refusal, may_have_happened=request.may_have_happened)
            continue
        if now < request.not_before:
            left.append(request)
            continue
        target = route.target(request.slot, request.flags)
        if target is not None:
            header = request.header(route, deadline.at, target.endpoint)
            sent = yield Send(target.endpoint, request.number, header, request.payload)
            if sent:
                request.is_sent(target, now)
                waiting[request.number] = request
                continue
        _postpone(request, left)
    return left


def _postpone(request: Request, idle: list[Request]) -> None:
    request.attempts += 1
    request.number = 0
    request.not_before = _clock() + retry_delay(request.attempts)
    if request not in idle:
        idle.append(request)


def _take(route: Route, request: Request, reply: Reply, idle: list[Request], deadline: Deadline) -> None:
    if not reply.header[1] & frames.ERROR:
        request.stamp = frames.stamp_of(reply.header)
        request.forwarded = bool(reply.header[1] & frames.FORWARDED)
        if not request.flags & (frames.READ_ONLY | frames.CONTROL):
            route.wrote(forwarded=request.forwarded)
        request.outcome = reply.payload
        return
    refusal = decode_error(reply.payload)
    if isinstance(refusal, CacheTimeout) and route.clock.ahead_us is not None and _clock() < deadline.at:
        # Too late by a clock that is not the one there any more: another host answers at that address, or it has started anew.
        route.clock.forget()
        return _postpone(request, idle)
    if not tries_again(refusal):
        request.outcome = refusal_error(refusal, may_have_happened=request.may_have_happened)
        return
    request.refusal = refusal
    route.forget()
    _postpone(request, idle)


def _review(route: Route, waiting: dict[int, Request], idle: list[Request], deadline: Deadline) -> None:
    """Nothing came: decide about every request that is out."""
    now = _clock()
    for number, request in list(waiting.items()):
        sent_to = request.sent_to
        assert sent_to is not None
        resend = None if route.sees_workers else request.sent_at + CLIENT_RESEND_MS * request.attempts / 1000
        step = after_silence(
            Silence(
                now,
                deadline.at,
                request.repeatable,
                worker_replaced=route.sees_workers and route.replaced(sent_to, request.slot, request.flags),
                resend_at=resend,
            )
        )
        if step is Next.WAIT:
            continue
        if step is Next.SEND_AGAIN and not request.flags & (frames.READ_ONLY | frames.CONTROL):
            request.may_have_happened = True
        if step is Next.SEND_AGAIN and not route.sees_workers:
            if request not in idle:
                idle.append(request)
            continue
        del waiting[number]
        if step is Next.SEND_AGAIN:
            request.number = 0
            idle.append(request)
        else:
            request.outcome = silence_error(step, request.shard, route.where, deadline.timeout)
