"""The hub process: pub/sub messages of one instance. `python -m shmcache.server.hub SETTINGS`.

A process of its own, so that a flood of messages delays neither requests nor the shipping of the log.
"""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import zmq

from ..errors import ConfigError
from ..limits import (
    CHANNEL_POLL_MS,
    CHANNEL_TAIL_MS,
    DRAIN_MESSAGES_MAX,
    SOCKETS_MAX,
)
from ..protocol.channels import CHANNEL, PROBE, probed_topic
from ..protocol.directory import Directory
from ..protocol.security import Security
from ..protocol.streams import stream_path
from . import exit_codes
from .child import StopFlag, report, start_child
from .logs import configure_logs, logger
from .pubsub.commands import Requests
from .pubsub.core import HubCore
from .pubsub.keyevents import LogEvents
from .pubsub.link import UpstreamLink
from .pubsub.replay import ReplayBuffer
from .pubsub.side import BATCH_BYTES, Side
from .pubsub.streams import Streams
from .router import raise_descriptor_limit
from .stats import process_stats

_NOW: Final = int(zmq.NOBLOCK)
_TICK_S: Final = 0.05
FRAME_BYTES_MAX: Final = 16_384
"""A frame that has so much gets no further message."""


class Hub:
    """Moves messages between the sockets; `HubCore` and `Requests` decide."""

    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._settings, self._log = settings, log
        self._directory = Directory.open(settings["instance"])
        self._version = -1
        self.generation = secrets.randbits(63) | 1
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        self._security = Security.from_settings(settings, log)
        listen = settings["listen"]
        self._sides = [
            Side(self._context, settings, listen[at : at + 2], self._security) for at in range(0, len(listen), 2)
        ]
        self._streams = Streams(
            stream_path(listen[1]),
            settings["gid"],
            settings["message_bytes"] + BATCH_BYTES,
            settings["queue_messages"],
            lambda message: self._requests.answer(message, local=True),
            self._note_subscription,
            self._flush,
        )
        self._takers: dict[Any, Callable[[], None]] = {}
        self._topic = b""
        self._parts: list[bytes] = []
        self._filled = 0
        self._poller = zmq.Poller()
        replay = ReplayBuffer(
            settings["replay_messages"], settings["replay_seconds"], settings["replay_bytes"]
        )
        self.core = HubCore(self.generation, replay, self._send, log)
        self._link = UpstreamLink(
            self._context, self._poller, self.core, self._security, settings["message_bytes"], log
        )
        self._requests = Requests(
            self.core, settings["message_bytes"], self._link.forward, self.set_upstreams, self._figures, self.notify
        )
        self.set_upstreams(settings["upstream"])
        self._events: LogEvents | None = None
        if settings["notify"]:
            self._events = LogEvents(settings["notify"], log)

    def set_upstreams(self, endpoints: list[str]) -> None:
        """Join the channels to the instance behind these routers; an empty list ends that. One is used at
        a time. Raises ConfigError: no key for one of them.
        """
        self._security.check((), endpoints)
        self._link.set_upstreams(endpoints)
        self._requests.forwards = bool(endpoints)

    def notify(self, letters: str | None) -> str:
        """Set what is told of keys from now on, if it is not None; the letters in force."""
        events = self._events
        if letters is not None:
            if events is not None and not letters:
                events.close()
                self._events = None
            elif events is not None:
                events.letters = letters
            elif letters:
                self._events = events = LogEvents(letters, self._log)
                # The next write is told of, whoever makes it.
                events.follow(self._directory.snapshot())
        return self._events.letters if self._events is not None else ""

    def bind(self) -> list[str]:
        """Listen; returns the endpoints with the ports in force, in the directory's order. Raises
        zmq.ZMQError, ConfigError.
        """
        endpoints = []
        for side in self._sides:
            endpoints += side.bind()
            for socket, take in ((side.control, self._answer), (side.out, self._note_subscriptions)):
                self._takers[socket] = partial(take, side)
                self._poller.register(socket, zmq.POLLIN)
        self._streams.bind()
        self._takers[self._streams.fileno()] = self._streams.serve
        self._poller.register(self._streams.fileno(), zmq.POLLIN)
        return endpoints

    def run(self, stop: StopFlag) -> None:
        """Carry messages until `stop` is set."""
        due = 0.0
        while not stop.set:
            for socket, _ in self._poller.poll(CHANNEL_POLL_MS if self._events is None else CHANNEL_TAIL_MS):
                take = self._takers.get(socket)
                if take is not None:
                    take()
                elif not socket.closed:
                    self._link.readable(socket)
            if self._requests.forwards:
                self._link.flush()
            if self._events is not None:
                for channel, payload in self._events.poll():
                    self.core.publish(CHANNEL, channel, payload)
            now = time.monotonic()
            if now >= due:
                due = now + _TICK_S
                self._tick(now)
            self._flush()

    def _answer(self, side: Side) -> None:
        receive, answer, send = side.control.recv_multipart, self._requests.answer, side.control.send_multipart
        try:
            for _ in range(DRAIN_MESSAGES_MAX):
                reply = answer(receive(_NOW), side.local)
                self._flush()
                if reply is not None:
                    try:
                        send(reply, _NOW)
                    except zmq.ZMQError as error:
                        self._log.debug("reply dropped", reason=error.strerror)
        except zmq.Again:
            pass

    def _note_subscriptions(self, side: Side) -> None:
        with contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_MESSAGES_MAX):
                change = side.subscription()
                if change is not None:
                    self._note_subscription(*change)
        self._flush()

    def _note_subscription(self, added: bool, topic: bytes) -> None:
        table, link = self.core.table, self._link
        if topic[:1] == PROBE:
            if added and not link.holds_back(probed_topic(topic), topic):
                self.core.answer_probe(topic)
        elif not added:
            if table.remove(topic):
                link.unsubscribe(topic)
        else:
            first = table.add(topic)
            if first:
                link.subscribe(topic)
            elif first is None and table.refused & (table.refused - 1) == 0:
                # At the 1st, 2nd, 4th, 8th ... refusal: whoever floods us shall not fill the disk, too.
                self._log.warning("subscriptions refused: over a limit", refused=table.refused)

    def _send(self, topic: bytes, message: bytes) -> None:
        """Put a message into the frame that is being filled, if that has the same topic; else begin
        another.
        """
        if topic != self._topic or self._filled > FRAME_BYTES_MAX:
            self._flush()
            self._topic = topic
            self._parts.append(topic)
        self._parts.append(message)
        self._filled += len(message)

    def _flush(self) -> None:
        """Send what has been collected: a hundred messages of one request cost a subscriber one frame."""
        if self._parts:
            frame = b"".join(self._parts)
            self._streams.send(frame)
            for side in self._sides:
                if side.subscriptions:
                    side.out.send(frame, _NOW)
            self._parts, self._topic, self._filled = [], b"", 0

    def _tick(self, now: float) -> None:
        self._link.tick(now)
        for side in self._sides:
            side.connections.update()
        self._streams.listen()
        self.core.warn_dropped(now)
        self.core.replay.expire(time.time_ns() // 1_000_000)
        if self._events is not None and self._directory.version != self._version:
            self._version = self._directory.version
            self._events.follow(self._directory.snapshot())

    def _figures(self) -> dict[str, Any]:
        return {
            "requests": self.core.counts["requests"],
            "refused": self.core.counts["refused"],
            "clients": len(self._streams) + sum(side.connections.count for side in self._sides),
            "denied": self._security.denied,
            "handshakes_failed": sum(side.connections.failed for side in self._sides),
            "upstream": self._link.figures(),
            "log_missed_bytes": self._events.missed_bytes if self._events else 0,
        } | process_stats()

    def close(self) -> None:
        """Send what is on its way, bounded by a second, and stop listening."""
        if self._events is not None:
            self._events.close()
        self._link.close()
        self._streams.close()
        for side in self._sides:
            side.close()
        self._security.close()
        self._context.term()


def main() -> int:
    """Carry messages until SIGTERM; returns the exit code."""
    settings, stop = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="hub", instance=settings["instance"], pid=os.getpid())
    raise_descriptor_limit()
    try:
        hub = Hub(settings, log)
        endpoints = hub.bind()
    except (zmq.ZMQError, OSError, ConfigError) as error:
        text = str(error) if isinstance(error, ConfigError) else error.strerror
        report(settings, error=text, kind="Listen")
        return exit_codes.START_FAILED
    report(settings, ready=True, endpoints=endpoints, generation=hub.generation)
    log.debug("hub ready", endpoints=endpoints, generation=hub.generation)
    hub.run(stop)
    hub.close()
    return exit_codes.STOPPED


if __name__ == "__main__":
    sys.exit(main())
