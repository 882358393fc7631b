"""Subscribing: what the sync and the asyncio subscriber have in common, and the sync one.

As in an exchange, generators say what to wait for: `Readable` for something at the SUB socket, `Call` for
an exchange
with the hub. A subscription is in force when the hub has answered a question that was sent behind it.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import zmq

from ..errors import CacheTimeout, LimitExceeded, ShmcacheError
from ..limits import (
    CHANNEL_CHECK_S,
    CHANNEL_PROBE_S,
    CHANNEL_PROBES_MAX,
    CHANNEL_SUBSCRIPTIONS_MAX,
)
from ..protocol.channels import CHANNEL, PATTERN, SHARD, name_of, topic_of
from .arguments import Key
from .exchange import Deadline
from .hub import HubRoute, as_bytes, calling, hub_steps
from .sockets import leave_alone, open_sub
from .streams import SCHEME, StreamSub
from .subscriber import Entry, Handler, Missed, Subscriber

if TYPE_CHECKING:
    from .blocking import Client
    from .core import ClientCore

__all__ = ["Missed", "PubSub", "PubSubCore", "PubSubThread"]

_NOW = int(zmq.NOBLOCK)
_PROBED_AT_ONCE = 1_000
_EVENTS_AHEAD = 1_000
_EVENTS_WHILE_WAITING = 1_000_000
"""Events that a subscriber holds for its caller: normally, and while it waits for a confirmation."""
_SILENT_CHECKS_MAX = 3
"""Unanswered checks after which the hub is looked up again."""
_VERBS = {
    CHANNEL: ("subscribe", "unsubscribe"),
    PATTERN: ("psubscribe", "punsubscribe"),
    SHARD: ("ssubscribe", "sunsubscribe"),
}


class Readable(NamedTuple):
    """Wait until the SUB socket has something, or a moment of the monotonic clock."""

    until: float


class Call(NamedTuple):
    """Drive an exchange; answered by its result."""

    steps: Generator[Any, Any, Any]


PubSubSteps = Generator[Readable | Call, Any, Any]


class PubSubCore:
    """Everything but the waiting."""

    def __init__(self, client: "ClientCore", ignore_subscribe_messages: bool = False) -> None:
        self._client = client
        self._hub = HubRoute(client._route, client._streams)
        self._state = Subscriber(client.decode_responses)
        self._ignore = ignore_subscribe_messages
        self._socket: zmq.Socket[bytes] | StreamSub | None = None
        self._endpoint = ""
        self._pid = os.getpid()
        self._heard_at = self._checked_at = 0.0
        self._silent_checks = 0

    @property
    def subscribed(self) -> bool:
        """Whether there is a subscription, or something left to be read."""
        return bool(self._state.entries or self._state.events)

    @property
    def channels(self) -> dict[Any, Handler | None]:
        """Handlers by channel, None for one without."""
        return self._named(CHANNEL)

    @property
    def patterns(self) -> dict[Any, Handler | None]:
        return self._named(PATTERN)

    @property
    def shard_channels(self) -> dict[Any, Handler | None]:
        return self._named(SHARD)

    def _named(self, kind: bytes) -> dict[Any, Handler | None]:
        entries = self._state.entries.values()
        return {self._state.text(name_of(e.topic)): e.handler for e in entries if e.topic[:1] == kind}

    # --- socket ----------------------------------------------------------------------------------
    def _connect(self) -> "zmq.Socket[bytes] | StreamSub":
        """The socket, subscribed to all that is wanted. After `prepare`."""
        endpoint = self._hub.messages
        if self._socket is not None and self._pid != os.getpid():
            leave_alone(self._socket)
            self._socket = None
        if self._socket is not None and endpoint == self._endpoint:
            return self._socket
        self._disconnect()
        self._pid, self._endpoint = os.getpid(), endpoint
        if endpoint.startswith(SCHEME):
            self._socket = StreamSub(endpoint)
        else:
            self._socket = open_sub(endpoint, self._client._access)
        self._state.probes.clear()
        for topic in self._state.entries:
            self._socket.subscribe(topic)
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is not None:
            if self._pid == os.getpid():
                self._socket.close(linger=0)
            else:
                leave_alone(self._socket)
        self._socket = None

    def _drain(self, most: int = _EVENTS_AHEAD) -> bool:
        """Take what has come, up to so many events that nobody has read; whether something had."""
        socket = self._socket
        if socket is None or self._pid != os.getpid():
            return False
        came = False
        events = self._state.events
        try:
            while len(events) < most:
                answered = self._state.feed(socket.recv(_NOW))
                came = True
                if answered is not None:
                    socket.unsubscribe(answered)
        except (zmq.Again, BlockingIOError):
            pass
        if came:
            self._heard_at = time.monotonic()
            self._silent_checks = 0
        return came

    # --- subscribing -----------------------------------------------------------------------------
    def _subscribe_steps(
        self,
        kind: bytes,
        names: tuple[Any, ...],
        handlers: dict[str, Handler],
        replay: int,
        replay_seconds: float,
        timeout: float | None,
    ) -> PubSubSteps:
        deadline = self._client._deadline(timeout)
        wanted: dict[bytes, Handler | None] = {topic_of(kind, as_bytes(name)): None for name in _flat(names)}
        wanted |= {topic_of(kind, as_bytes(name)): handler for name, handler in handlers.items()}
        if self._state.room(set(wanted)) < 0:
            raise LimitExceeded(f"a subscriber has at most {CHANNEL_SUBSCRIPTIONS_MAX} channels and patterns")
        yield Call(self._hub.prepare(deadline))
        socket = self._connect()
        entries = self._state.entries
        fresh = []
        for topic, handler in wanted.items():
            if topic in entries:
                entries[topic].handler = handler
                continue
            fresh.append(topic)
            entries[topic] = Entry(topic, handler, holds=bool(replay or replay_seconds) and kind != PATTERN)
            socket.subscribe(topic)
        try:
            for at in range(0, len(fresh), _PROBED_AT_ONCE):
                yield from self._confirm_steps(fresh[at : at + _PROBED_AT_ONCE], deadline)
            for topic in fresh:
                if entries[topic].holds:
                    yield from self._replay_steps(entries[topic], replay, replay_seconds, deadline)
        except BaseException:
            self._forget(fresh)
            raise
        for count, topic in enumerate(wanted, len(entries) - len(fresh) + 1):
            self._tell(_VERBS[kind][0], topic, min(count, len(entries)))

    def _confirm_steps(self, topics: list[bytes], deadline: Deadline) -> PubSubSteps:
        """Wait until the hub has taken note of these subscriptions."""
        entries = self._state.entries
        wait_s = CHANNEL_PROBE_S
        while True:
            open_topics = [t for t in topics if not entries[t].confirmed and not entries[t].refused]
            if not open_topics:
                break
            if time.monotonic() >= deadline.at:
                self._hub.forget()
                raise CacheTimeout(
                    f"{self._hub.where} did not confirm a subscription within {deadline.timeout:g} s"
                )
            socket = self._connect()
            for topic in open_topics:
                socket.subscribe(self._state.probe(topic))
            until = min(time.monotonic() + wait_s, deadline.at)
            wait_s *= 2
            while any(not entries[t].confirmed and not entries[t].refused for t in open_topics):
                # Nobody reads meanwhile: older subscriptions' messages may not keep us from the answer.
                if self._drain(_EVENTS_WHILE_WAITING):
                    continue
                if time.monotonic() >= until:
                    break
                yield Readable(until)
        refused = [name_of(t) for t in topics if entries[t].refused]
        if refused:
            raise LimitExceeded(f"{self._hub.where} takes no more subscriptions: {refused[0]!r} refused")

    def _replay_steps(self, entry: Entry, messages: int, seconds: float, deadline: Deadline) -> PubSubSteps:
        before = entry.last or 0
        frames: list[bytes] = []
        after = 0
        while True:
            request = calling(
                "replay", topic=entry.topic, upto=before, messages=messages, seconds=seconds, after=after
            )
            (part,) = yield Call(hub_steps(self._hub, request, deadline))
            if not part:
                break
            frames += part
            after = _seq_of(part[-1], entry.topic)
            if after >= before:
                break
        self._state.release(entry, frames, before)

    def _unsubscribe(self, kind: bytes, names: tuple[Any, ...]) -> None:
        chosen = {topic_of(kind, as_bytes(name)) for name in _flat(names)}
        if not names:
            chosen = {topic for topic in self._state.entries if topic[:1] == kind}
        for topic in chosen:
            self._forget([topic])
            self._tell(_VERBS[kind][1], topic, len(self._state.entries))

    def _forget(self, topics: list[bytes]) -> None:
        for topic in topics:
            if (
                self._state.entries.pop(topic, None) is not None
                and self._socket is not None
                and self._pid == os.getpid()
            ):
                self._socket.unsubscribe(topic)

    def _tell(self, verb: str, topic: bytes, count: int) -> None:
        if not self._ignore:
            name = self._state.text(name_of(topic))
            self._state.events.append(
                ({"type": verb, "pattern": None, "channel": name, "data": count, "seq": None}, None)
            )

    # --- reading ---------------------------------------------------------------------------------
    def _message_steps(self, timeout: float | None) -> PubSubSteps:
        """The next event and its handler; None when the time is over. `timeout` None waits as long as it
        takes.
        """
        state = self._state
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            if state.events or self._drain():
                if state.dropped:
                    yield from self._report_steps()
                if state.events:
                    return state.events.popleft()
                continue
            now = time.monotonic()
            if until is not None and now >= until:
                return None
            if not state.entries and until is None:
                return None
            check_at = max(self._heard_at, self._checked_at) + CHANNEL_CHECK_S
            if state.entries and now >= check_at:
                yield from self._check_steps(now)
                continue
            wait_until = check_at if state.entries else now + CHANNEL_CHECK_S
            yield Readable(wait_until if until is None else min(wait_until, until))

    def _check_steps(self, now: float) -> PubSubSteps:
        """Nothing came for a while: ask how far the topics are, and look the hub up again if it does not
        say.
        """
        self._checked_at = now
        self._silent_checks += 1
        if self._socket is None or self._silent_checks > _SILENT_CHECKS_MAX or self._pid != os.getpid():
            if self._silent_checks > _SILENT_CHECKS_MAX:
                self._hub.forget()
            self._silent_checks = 0
            try:
                yield Call(self._hub.prepare(Deadline.after(CHANNEL_CHECK_S)))
                self._connect()
            except ShmcacheError:
                return
        socket = self._socket
        assert socket is not None
        for probe in self._state.probes:
            socket.unsubscribe(probe)
        self._state.probes.clear()
        for topic in self._state.next_topics(CHANNEL_PROBES_MAX):
            socket.subscribe(self._state.probe(topic))

    def _report_steps(self) -> PubSubSteps:
        """Tell the hub what its queue for us had no room for."""
        dropped, self._state.dropped = self._state.dropped, {}
        for topic, count in dropped.items():
            try:
                steps = hub_steps(
                    self._hub, calling("dropped", topic=topic, count=count), Deadline.after(CHANNEL_CHECK_S)
                )
                yield Call(steps)
            except ShmcacheError:
                # Only statistics.
                return

    def _reset(self) -> None:
        self._disconnect()
        self._state = Subscriber(self._client.decode_responses)


def _flat(names: tuple[Any, ...]) -> Iterator[Any]:
    for name in names:
        if isinstance(name, list | tuple | set):
            yield from name
        else:
            yield name


def _seq_of(frame: bytes, topic: bytes) -> int:
    at = len(topic) + 16
    return int.from_bytes(frame[at : at + 8], "little")


class PubSub(PubSubCore):
    """Subscriptions of a sync client, with redis-py's methods. Not for several threads at once."""

    _client: "Client"

    def _drive(self, steps: PubSubSteps) -> Any:
        answer: Any = None
        try:
            step = next(steps)
            while True:
                if type(step) is Readable:
                    left = step.until - time.monotonic()
                    if self._socket is None:
                        time.sleep(max(0.0, left))
                    else:
                        self._socket.poll(max(0, int(left * 1000) + 1))
                    step = steps.send(None)
                else:
                    assert type(step) is Call
                    try:
                        answer = self._client._drive(step.steps)
                    except ShmcacheError as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(answer)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    def subscribe(
        self,
        *args: Key,
        replay: int = 0,
        replay_seconds: float = 0,
        timeout: float | None = None,
        **kwargs: Handler,
    ) -> None:
        """Subscribe to channels; `name=handler` calls the handler with each message instead of returning it.

        In force when it returns: what is published from then on comes. `replay`: also the last so many
        messages,
        `replay_seconds`: those of the last seconds, as far as the hub keeps them. Raises BadChannel,
        LimitExceeded,
        CacheTimeout, Unavailable.
        """
        self._drive(self._subscribe_steps(CHANNEL, args, kwargs, replay, replay_seconds, timeout))

    def psubscribe(self, *args: Key, timeout: float | None = None, **kwargs: Handler) -> None:
        """Subscribe to patterns (`news.*`)."""
        self._drive(self._subscribe_steps(PATTERN, args, kwargs, 0, 0, timeout))

    def ssubscribe(
        self,
        *args: Key,
        replay: int = 0,
        replay_seconds: float = 0,
        timeout: float | None = None,
        **kwargs: Handler,
    ) -> None:
        """Subscribe to shard channels."""
        self._drive(self._subscribe_steps(SHARD, args, kwargs, replay, replay_seconds, timeout))

    def unsubscribe(self, *args: Key) -> None:
        """From these channels, or from all."""
        self._unsubscribe(CHANNEL, args)

    def punsubscribe(self, *args: Key) -> None:
        """From these patterns, or from all."""
        self._unsubscribe(PATTERN, args)

    def sunsubscribe(self, *args: Key) -> None:
        """From these shard channels, or from all."""
        self._unsubscribe(SHARD, args)

    def get_message(
        self, ignore_subscribe_messages: bool = False, timeout: float | None = 0.0
    ) -> dict[str, Any] | None:
        """The next message as a dict (`type`, `pattern`, `channel`, `data`, `seq`), or a `Missed`; None if
        none comes
        within `timeout` seconds (None: wait for ever), or if a handler took it.
        """
        found = self._drive(self._message_steps(timeout))
        if found is None:
            return None
        message, handler = found
        if handler is not None:
            handler(message)
            return None
        if ignore_subscribe_messages and message["type"].endswith("subscribe"):
            return None
        return message  # type: ignore[no-any-return]

    def listen(self) -> Iterator[dict[str, Any]]:
        """Messages as they come, as long as there are subscriptions."""
        while self.subscribed:
            message = self.get_message(timeout=None)
            if message is not None:
                yield message

    def run_in_thread(
        self,
        callback: Handler | None = None,
        sleep_time: float = 0.1,
        daemon: bool = False,
        exception_handler: Callable[[BaseException, "PubSub", "PubSubThread"], None] | None = None,
    ) -> "PubSubThread":
        """Start a thread that calls the handlers, and `callback` with what has none. Stop it with
        `.stop()`.
        """
        thread = PubSubThread(self, callback, sleep_time, daemon, exception_handler)
        thread.start()
        return thread

    def close(self) -> None:
        """Unsubscribe from everything and give up the socket. It may be used again."""
        self._reset()

    reset = close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PubSubThread(threading.Thread):
    """Reads messages until it is stopped. The subscriber belongs to it meanwhile."""

    def __init__(
        self,
        pubsub: PubSub,
        callback: Handler | None,
        sleep_time: float,
        daemon: bool,
        exception_handler: Callable[[BaseException, PubSub, "PubSubThread"], None] | None,
    ) -> None:
        super().__init__(name="shmcache-pubsub", daemon=daemon)
        self._pubsub, self._callback, self._sleep_time = pubsub, callback, sleep_time
        self._exception_handler = exception_handler
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.is_set():
            try:
                message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=self._sleep_time)
                if message is not None and self._callback is not None:
                    self._callback(message)
            except BaseException as error:
                if self._exception_handler is None:
                    self._pubsub.close()
                    raise
                self._exception_handler(error, self._pubsub, self)
        self._pubsub.close()

    def stop(self) -> None:
        """Ask it to end; it closes its subscriber."""
        self._stop_asked.set()
