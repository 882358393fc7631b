"""The hub process: pub/sub messages of one instance. `python -m shmcache.server.hub SETTINGS`.

A process of its own, so that a flood of messages delays neither requests nor the shipping of the log.
"""

import os
import secrets
import sys
import time
from typing import Any, Final

import zmq

from ..limits import (
    CHANNEL_POLL_MS,
    CHANNEL_TAIL_MS,
    DRAIN_MESSAGES_MAX,
    SOCKETS_MAX,
)
from ..protocol.channels import CHANNEL, PROBE, probed_topic
from ..protocol.directory import Directory
from . import exit_codes
from .child import StopFlag, report, start_child
from .logs import configure_logs, logger
from .paths import remove_socket
from .pubsub.commands import Requests
from .pubsub.core import HubCore
from .pubsub.keyevents import LogEvents
from .pubsub.link import UpstreamLink
from .pubsub.replay import ReplayBuffer
from .pubsub.table import TOPIC_BYTES_MAX
from .router import raise_descriptor_limit
from .sockets import ConnectionCounter, keep_alive, limit_router
from .stats import process_stats

_NOW: Final = int(zmq.NOBLOCK)
_TICK_S: Final = 0.05
_BATCH_BYTES: Final = 1 << 20
"""What a request may be larger than a message: a batch of small ones."""
FRAME_BYTES_MAX: Final = 16_384
"""A frame that has so much gets no further message."""
SUBSCRIBED: Final = 1
UNSUBSCRIBED: Final = 0


class Hub:
    """Moves messages between the sockets; `HubCore` and `Requests` decide."""

    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._settings, self._log = settings, log
        self._directory = Directory.open(settings["instance"])
        self._version = -1
        self.generation = secrets.randbits(63) | 1
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        self._control = self._context.socket(zmq.ROUTER)
        limit_router(self._control, settings["message_bytes"] + _BATCH_BYTES)
        self._control.router_handover = 1
        self._out = self._context.socket(zmq.XPUB)
        limit_router(self._out, TOPIC_BYTES_MAX + 64)
        self._out.sndhwm = settings["queue_messages"]
        # Every subscription is heard of, not only the first of its topic: they are counted.
        self._out.setsockopt(zmq.XPUB_VERBOSER, 1)
        for socket in (self._control, self._out):
            keep_alive(socket)
        self._connections = ConnectionCounter(self._out)
        self._topic = b""
        self._parts: list[bytes] = []
        self._filled = 0
        self._poller = zmq.Poller()
        replay = ReplayBuffer(
            settings["replay_messages"], settings["replay_seconds"], settings["replay_bytes"]
        )
        self.core = HubCore(self.generation, replay, self._send, log)
        self._link = UpstreamLink(self._context, self._poller, self.core, settings["message_bytes"], log)
        self._requests = Requests(
            self.core, settings["message_bytes"], self._link.forward, self.set_upstreams, self._figures
        )
        self.set_upstreams(settings["upstream"])
        self._events = LogEvents(settings["notify"], log) if settings["notify"] else None

    def set_upstreams(self, endpoints: list[str]) -> None:
        """Join the channels to the instance behind these routers; an empty list ends that. One is used at
        a time.
        """
        self._link.set_upstreams(endpoints)
        self._requests.forwards = bool(endpoints)

    def bind(self) -> list[str]:
        """Listen; returns the endpoints with the ports in force, in the directory's order. Raises
        zmq.ZMQError.
        """
        endpoints = []
        for socket, endpoint in zip((self._control, self._out) * 2, self._settings["listen"], strict=False):
            if endpoint.startswith("ipc://"):
                remove_socket(endpoint)
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                raise zmq.ZMQError(error.errno, f"cannot listen at {endpoint}: {error.strerror}") from None
            last = socket.getsockopt(zmq.LAST_ENDPOINT)
            assert isinstance(last, bytes)
            endpoints.append(last.rstrip(b"\0").decode())
            if endpoint.startswith("ipc://") and self._settings["gid"] >= 0:
                os.chown(endpoint.removeprefix("ipc://"), -1, self._settings["gid"])
                os.chmod(endpoint.removeprefix("ipc://"), 0o660)
            self._poller.register(socket, zmq.POLLIN)
        return endpoints

    def run(self, stop: StopFlag) -> None:
        """Carry messages until `stop` is set."""
        wait_ms = CHANNEL_POLL_MS if self._events is None else CHANNEL_TAIL_MS
        due = 0.0
        while not stop.set:
            for socket, _ in self._poller.poll(wait_ms):
                if socket is self._control:
                    self._answer()
                elif socket is self._out:
                    self._note_subscriptions()
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

    def _answer(self) -> None:
        receive, answer, send = (
            self._control.recv_multipart,
            self._requests.answer,
            self._control.send_multipart,
        )
        try:
            for _ in range(DRAIN_MESSAGES_MAX):
                reply = answer(receive(_NOW))
                self._flush()
                if reply is not None:
                    try:
                        send(reply, _NOW)
                    except zmq.ZMQError as error:
                        self._log.debug("reply dropped", reason=error.strerror)
        except zmq.Again:
            pass

    def _note_subscriptions(self) -> None:
        table, link = self.core.table, self._link
        try:
            for _ in range(DRAIN_MESSAGES_MAX):
                message = self._out.recv(_NOW)
                if not message:
                    continue
                topic = message[1:]
                if message[0] == SUBSCRIBED:
                    if topic[:1] == PROBE:
                        if not link.holds_back(probed_topic(topic), topic):
                            self.core.answer_probe(topic)
                        continue
                    first = table.add(topic)
                    if first:
                        link.subscribe(topic)
                    elif first is None and table.refused & (table.refused - 1) == 0:
                        # At the 1st, 2nd, 4th, 8th ... refusal: whoever floods us shall not fill the disk,
                        # too.
                        self._log.warning("subscriptions refused: over a limit", refused=table.refused)
                elif message[0] == UNSUBSCRIBED and topic[:1] != PROBE and table.remove(topic):
                    link.unsubscribe(topic)
        except zmq.Again:
            pass
        self._flush()

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
            self._out.send(b"".join(self._parts), _NOW)
            self._parts, self._topic, self._filled = [], b"", 0

    def _tick(self, now: float) -> None:
        self._link.tick(now)
        self._connections.update()
        self.core.warn_dropped(now)
        self.core.replay.expire(time.time_ns() // 1_000_000)
        if self._events is not None and self._directory.version != self._version:
            self._version = self._directory.version
            self._events.follow(self._directory.snapshot())

    def _figures(self) -> dict[str, Any]:
        return {
            "requests": self.core.counts["requests"],
            "refused": self.core.counts["refused"],
            "clients": self._connections.count,
            "upstream": self._link.figures(),
            "log_missed_bytes": self._events.missed_bytes if self._events else 0,
        } | process_stats()

    def close(self) -> None:
        """Send what is on its way, bounded by a second, and stop listening."""
        if self._events is not None:
            self._events.close()
        self._link.close()
        self._connections.close()
        for socket in (self._control, self._out):
            socket.close(linger=1000)
        self._context.term()
        for endpoint in self._settings["listen"]:
            if endpoint.startswith("ipc://"):
                remove_socket(endpoint)


def main() -> int:
    """Carry messages until SIGTERM; returns the exit code."""
    settings, stop = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="hub", instance=settings["instance"], pid=os.getpid())
    raise_descriptor_limit()
    hub = Hub(settings, log)
    try:
        endpoints = hub.bind()
    except zmq.ZMQError as error:
        report(settings, error=error.strerror, kind="Listen")
        return exit_codes.START_FAILED
    report(settings, ready=True, endpoints=endpoints, generation=hub.generation)
    log.debug("hub ready", endpoints=endpoints, generation=hub.generation)
    hub.run(stop)
    hub.close()
    return exit_codes.STOPPED


if __name__ == "__main__":
    sys.exit(main())
