"""All figures of an instance at one moment: one call to each of its processes, at most once in METRICS_CACHE_S.

They are the control calls that `shmcache stats` and `shmcache replicas` make, over the same unix sockets. What stands in the replication region
is read from there, so role and epoch are known also while the relay is down.
"""

import threading
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import zmq

from ...errors import InstanceNotFound, ProtocolError
from ...limits import METRICS_ANSWERS_S_MAX, METRICS_CACHE_S
from ...protocol import codec, frames
from ...protocol.directory import Directory, DirectorySnapshot
from ...protocol.replication import ReplicationRegion, Word

Process = tuple[str, str]
"""Its part in the instance, and its shard ("" for all but workers)."""

_QUEUE_MESSAGES: Final = 8


@dataclass(frozen=True, slots=True)
class Figures:
    """What was found out. A process that is down, or does not answer in time, stands in `up` as False and nowhere else."""

    instance: str
    up: dict[Process, bool]
    shards: dict[int, dict[str, Any]]
    router: dict[str, Any] | None
    hub: dict[str, Any] | None
    relay: dict[str, Any] | None
    words: dict[str, int] | None
    """From the replication region; None without one."""
    took_s: float
    process: dict[Process, dict[str, Any]] = field(default_factory=dict)


class Gatherer:
    """Asks, from any thread."""

    def __init__(self, instance: str, relay_endpoint: str) -> None:
        """Raises InstanceNotFound, LayoutMismatch."""
        self._instance, self._relay_endpoint = instance, relay_endpoint
        self._directory = Directory.open(instance)
        self._context = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._numbers = count(1)
        self._region: ReplicationRegion | None = None
        self._lock = threading.Lock()
        self._last: Figures | None = None
        self._last_at = 0.0

    def figures(self) -> Figures:
        """New ones, or those of a moment ago. Raises ShmcacheError."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last_at > METRICS_CACHE_S:
                self._last = self._gather()
                self._last_at = time.monotonic()
            return self._last

    def _gather(self) -> Figures:
        began = time.monotonic()
        snapshot = self._directory.snapshot()
        calls = self._calls(snapshot)
        answers = self._ask({who: call for who, call in calls.items() if call is not None}, began + METRICS_ANSWERS_S_MAX)
        shards = {int(shard): answer for (part, shard), answer in answers.items() if part == "worker"}
        router, hub = answers.get(("router", ""), {}).get("router"), answers.get(("hub", ""), {}).get("hub")
        relay = answers.get(("relay", ""))
        process = {("worker", str(shard)): found["worker"] for shard, found in shards.items()}
        process |= {("router", ""): router} if router else {}
        process |= {("hub", ""): hub} if hub else {}
        process |= {("relay", ""): relay["process"]} if relay else {}
        up = {who: who in answers for who in calls}
        return Figures(self._instance, up, shards, router, hub, relay, self._words(), time.monotonic() - began, process)

    def _calls(self, snapshot: DirectorySnapshot) -> dict[Process, tuple[str, str, dict[str, Any], int] | None]:
        """Of every process that should be there: endpoint, call, arguments, slot; None if there is none to be asked now."""
        calls: dict[Process, tuple[str, str, dict[str, Any], int] | None] = {}
        slots = array("H", snapshot.slots)
        for record in snapshot.shards:
            serves = record.state == "serving" and record.endpoints
            calls["worker", str(record.shard)] = (record.endpoints[0], "stats", {}, slots.index(record.shard)) if serves else None
        local = [endpoint for endpoint in snapshot.router_endpoints if endpoint.startswith("ipc:")]
        calls["router", ""] = (local[0], "stats", {"router": True}, 0) if local else None
        if snapshot.hub_endpoints:
            calls["hub", ""] = (snapshot.hub_endpoints[0], "stats", {}, 0) if snapshot.hub_pid else None
        if self._replication() is not None:
            calls["relay", ""] = (self._relay_endpoint, "replicas", {}, 0)
        return calls

    def _ask(self, calls: dict[Process, tuple[str, str, dict[str, Any], int]], until: float) -> dict[Process, dict[str, Any]]:
        """All at once; those that have answered by then."""
        waiting: dict[int, Process] = {}
        answers: dict[Process, dict[str, Any]] = {}
        poller = zmq.Poller()
        for who, (endpoint, call, arguments, slot) in calls.items():
            socket = self._socket(endpoint)
            number = next(self._numbers)
            head = frames.pack_header(frames.CONTROL, slot, 0, number, 0)
            with suppress(zmq.Again):
                socket.send_multipart([head, codec.encode_control(call, arguments)], zmq.NOBLOCK)
                waiting[number] = who
                poller.register(socket, zmq.POLLIN)
        while waiting and (left_s := until - time.monotonic()) > 0:
            for socket, _ in poller.poll(int(left_s * 1000) + 1):
                self._take(socket.recv_multipart(), waiting, answers)
        for who in waiting.values():
            # Whoever comes in its place is asked over a new connection, and answers no old question.
            self._sockets.pop(calls[who][0]).close(linger=0)
        return answers

    def _take(self, message: list[bytes], waiting: dict[int, Process], answers: dict[Process, dict[str, Any]]) -> None:
        try:
            head = frames.unpack_header(message[0])
            who = waiting.pop(head.request_id, None)
            result = None if head.flags & frames.ERROR else codec.decode_results(message[-1])[0]
        except (ProtocolError, IndexError):
            return
        if who is not None and isinstance(result, dict):
            answers[who] = result

    def _socket(self, endpoint: str) -> "zmq.Socket[bytes]":
        socket = self._sockets.get(endpoint)
        if socket is None:
            socket = self._sockets[endpoint] = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.sndhwm = socket.rcvhwm = _QUEUE_MESSAGES
            socket.connect(endpoint)
        return socket

    def _replication(self) -> ReplicationRegion | None:
        if self._region is None:
            # It may come at any time: an instance can be told to replicate while it runs.
            with suppress(InstanceNotFound):
                self._region = ReplicationRegion.open(self._instance)
        return self._region

    def _words(self) -> dict[str, int] | None:
        region = self._replication()
        if region is None:
            return None
        names = ("is_replica", "epoch", "current_as_of_ms", "replicas_good", "replicas_known")
        return {name: region.word(Word[name.upper()]) for name in names}

    def close(self) -> None:
        with self._lock:
            self._context.destroy(linger=0)
            self._directory.close()
            if self._region is not None:
                self._region.close()
