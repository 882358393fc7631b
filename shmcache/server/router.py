"""The router process: requests from anywhere to the worker of their slot. `python -m shmcache.server.router
SETTINGS`.
"""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import zmq

from ..errors import ConfigError, ShmcacheError
from ..limits import (
    DRAIN_MESSAGES_MAX,
    HIGH_WATER_MESSAGES,
    REPLICATION_LOOK_S,
    ROUTER_DRAIN_S_MAX,
    ROUTER_POLL_MS,
    SOCKETS_MAX,
)
from ..protocol.directory import Directory
from ..protocol.replication import ReplicationRegion, Word
from ..protocol.security import Security
from . import exit_codes
from .child import StopFlag, report, start_child
from .fronts import Fronts
from .logs import configure_logs, logger
from .routing import Routing
from .sockets import keep_alive, limit_router


def raise_descriptor_limit() -> int:
    """Allow as many connections as the host lets this user have; returns that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Router:
    """Moves messages between the sockets; `Routing` decides where to."""

    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._settings, self._log = settings, log
        self._directory = Directory.open(settings["instance"])
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        self._security = Security.from_settings(settings, log)
        self._fronts = Fronts(self._context, settings, self._security)
        self._poller = zmq.Poller()
        self._backs: dict[int, zmq.Socket[bytes]] = {}
        self._version = -1
        self._region: ReplicationRegion | None = None
        self._upstream = ""
        self._body = -1
        self._look_at_replication = 0.0
        self._routing = Routing(
            self._directory.snapshot(), settings, self._reply, self._forward, self._fronts.figures,
            forward_shards=lambda: self._region.word(Word.UPSTREAM_SHARDS) if self._region is not None else 0,
        )  # fmt: skip
        self._takers: dict[zmq.Socket[bytes], Callable[[list[bytes]], None]] = {}

    def bind(self) -> list[str]:
        """Listen; returns the endpoints with the ports in force. Raises zmq.ZMQError, ConfigError."""
        endpoints = self._fronts.bind()
        self._takers = self._fronts.takers(self._routing.request)
        for front in self._takers:
            self._poller.register(front, zmq.POLLIN)
        return endpoints

    def run(self, stop: StopFlag) -> None:
        """Route until `stop` is set; then forward nothing new and bring back the replies that come soon."""
        until = 0.0
        self._follow_directory()
        while True:
            if stop.set and not until:
                self._routing.begin_close()
                until = time.monotonic() + ROUTER_DRAIN_S_MAX
            self._follow_replication()
            self._routing.ask_clock()
            ready = self._poller.poll(ROUTER_POLL_MS)
            # Who had a reply just now sends its next request: that has come, too, when nothing comes any more.
            if until and ((not ready and not self._routing.forwarded) or time.monotonic() >= until):
                break
            if self._directory.version != self._version:
                # It may have slept for long, and a worker that ends is to be sent nothing.
                self._follow_directory()
                continue
            for socket, _ in ready:
                take = self._takers.get(socket, self._routing.reply)
                try:
                    for _ in range(DRAIN_MESSAGES_MAX):
                        take(socket.recv_multipart(zmq.NOBLOCK))
                except zmq.Again:
                    pass
            self._routing.expire()
            self._fronts.update()
        # What has come meanwhile is refused with all else, right before the connections end.
        for front, take in self._takers.items():
            with contextlib.suppress(zmq.Again):
                for _ in range(HIGH_WATER_MESSAGES):
                    take(front.recv_multipart(zmq.NOBLOCK))
        self._routing.close()

    def close(self) -> None:
        """Send what is on its way, bounded by a second, and stop listening."""
        self._fronts.close()
        for back in self._backs.values():
            back.close(linger=0)
        self._context.term()

    def _follow_directory(self) -> None:
        self._version = self._directory.version
        for shard, endpoint in self._routing.update(self._directory.snapshot()):
            if shard in self._backs:
                # With what it still had queued: the worker that this was meant for is gone.
                self._poller.unregister(self._backs[shard])
                self._backs.pop(shard).close(linger=0)
            if endpoint is not None:
                back = self._context.socket(zmq.DEALER)
                limit_router(back, -1)
                back.connect(endpoint)
                self._backs[shard] = back
                self._poller.register(back, zmq.POLLIN)
                self._routing.flush(shard)

    def _follow_replication(self) -> None:
        """A replica that forwards writes has a way to its primary."""
        if self._region is None:
            now = time.monotonic()
            if now < self._look_at_replication:
                return
            self._look_at_replication = now + REPLICATION_LOOK_S
            try:
                self._region = ReplicationRegion.open(self._settings["instance"])
            except ShmcacheError:
                return
        upstream = ""
        if self._region.word(Word.IS_REPLICA) and self._region.word(Word.FORWARD_WRITES):
            body = self._region.word(Word.BODY)
            if self._upstream and body == self._body:
                return
            self._body = body
            identity = self._region.identity()
            upstream = identity.upstream if identity is not None else ""
        if upstream == self._upstream:
            return
        self._upstream = upstream
        lane = self._routing.upstream
        if lane in self._backs:
            self._poller.unregister(self._backs[lane])
            self._backs.pop(lane).close(linger=0)
        if upstream:
            back = self._context.socket(zmq.DEALER)
            limit_router(back, -1)
            keep_alive(back)
            # What is not sent because nobody is there is refused at once, and not sent to who comes later.
            back.immediate = 1
            try:
                self._security.client(back, upstream)
            except ConfigError as error:
                self._log.error("writes are not forwarded", primary=upstream, reason=str(error))
                back.close()
                self._routing.set_forwarding(False)
                return
            back.connect(upstream)
            self._backs[lane] = back
            self._poller.register(back, zmq.POLLIN)
        self._routing.set_forwarding(bool(upstream))

    def _forward(self, shard: int, message: list[bytes]) -> bool:
        try:
            self._backs[shard].send_multipart(message, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _reply(self, message: list[bytes]) -> None:
        try:
            self._fronts.send(message)
        except zmq.ZMQError as error:
            # A client that is gone or does not read loses its reply.
            self._log.debug("reply dropped", reason=error.strerror)


def main() -> int:
    """Route until SIGTERM; returns the exit code."""
    settings, stop = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="router", instance=settings["instance"], pid=os.getpid())
    descriptors = raise_descriptor_limit()
    router = Router(settings, log)
    try:
        endpoints = router.bind()
    except (zmq.ZMQError, ConfigError) as error:
        report(settings, error=str(getattr(error, "strerror", error)), kind="Listen")
        router.close()
        return exit_codes.START_FAILED
    report(settings, ready=True, endpoints=endpoints)
    log.debug("router ready", endpoints=endpoints, descriptors=descriptors)
    router.run(stop)
    router.close()
    return exit_codes.STOPPED


if __name__ == "__main__":
    sys.exit(main())
