"""A hub joined to the hub of another instance: what is published here goes up, what our subscribers want
comes down.

Messages are delivered at home at once, whatever the network does; each carries its origin, so that the
copy which comes
back is cut. The upstream hub is found through its router and looked up again when it stops answering.
"""

import os
import time
from typing import Any

import zmq

from ...errors import ConfigError, ProtocolError
from ...limits import (
    CHANNEL_CONFIRM_S,
    CHANNEL_FORWARDS_MAX,
    CHANNEL_LINK_LOST_S,
    CHANNEL_LINK_S,
    DRAIN_MESSAGES_MAX,
    HIGH_WATER_MESSAGES,
)
from ...protocol import codec, frames
from ...protocol.channels import (
    NONCE_BYTES,
    PATTERN,
    PROBE,
    REFUSED,
    Message,
    is_local,
    name_of,
    probe_topic,
    probed_topic,
    seen_from,
    unpack_messages,
)
from ...protocol.security import Security
from .commands import Forwarded
from .core import HubCore

Socket = zmq.Socket[bytes]


class UpstreamLink:
    """The way to the upstream hub, or the search for it."""

    def __init__(
        self,
        context: "zmq.Context[Socket]",
        poller: zmq.Poller,
        core: HubCore,
        security: Security,
        message_bytes: int,
        log: Any,
    ) -> None:
        self._context, self._poller, self._core, self._log = context, poller, core, log
        self._security = security
        self._message_bytes = message_bytes
        self.endpoints: list[str] = []
        self._turn = 0
        self._router: Socket | None = None
        self._control: Socket | None = None
        self._sub: Socket | None = None
        self._asked_at = self._heard_at = 0.0
        self.up = False
        self.unforwarded = self.forwarded = 0
        self._outbox: list[Forwarded] = []
        self._generation = 0
        self._last: dict[bytes, int] = {}
        """Topic -> sequence number that came last from upstream."""
        self._confirming: dict[bytes, float] = {}
        """Topics whose subscription upstream has not confirmed, and until when it is waited for."""
        self._held: list[tuple[bytes, bytes]] = []
        """(topic, probe) of our subscribers who wait for that."""

    def set_upstreams(self, endpoints: list[str]) -> None:
        """Join the instance behind these routers (one is used), or none."""
        if endpoints != self.endpoints:
            self._drop()
            self.endpoints, self._turn, self._asked_at = list(endpoints), 0, 0.0

    def figures(self) -> dict[str, Any]:
        return {
            "endpoints": self.endpoints,
            "up": self.up,
            "forwarded": self.forwarded,
            "unforwarded": self.unforwarded,
        }

    # --- subscriptions ---------------------------------------------------------------------------
    def subscribe(self, topic: bytes) -> None:
        """Somebody here wants a topic."""
        if self._sub is None or not self._carries(topic):
            return
        self._sub.subscribe(topic)
        if self.up and topic.endswith(b"\0"):
            self._sub.subscribe(probe_topic(os.urandom(NONCE_BYTES), topic))
            self._confirming[topic] = time.monotonic() + CHANNEL_CONFIRM_S

    def unsubscribe(self, topic: bytes) -> None:
        """Nobody here wants it any more."""
        self._last.pop(topic, None)
        self._confirming.pop(topic, None)
        if self._sub is not None and self._carries(topic):
            self._sub.unsubscribe(topic)

    @staticmethod
    def _carries(topic: bytes) -> bool:
        return topic[:1] == PATTERN or not is_local(name_of(topic))

    def holds_back(self, topic: bytes, probe: bytes) -> bool:
        """Whether the answer to a probe waits until upstream has confirmed the topic."""
        if topic not in self._confirming or len(self._held) >= HIGH_WATER_MESSAGES:
            return False
        self._held.append((topic, probe))
        return True

    def _release(self) -> None:
        held, self._held = self._held, []
        for topic, probe in held:
            if topic in self._confirming:
                self._held.append((topic, probe))
            else:
                self._core.answer_probe(probe)

    # --- messages --------------------------------------------------------------------------------
    def forward(self, entry: Forwarded) -> None:
        """Send a message up with the others of this turn of the loop."""
        if len(self._outbox) >= CHANNEL_FORWARDS_MAX:
            self.flush()
        self._outbox.append(entry)

    def flush(self) -> None:
        """Send what waits; what cannot go is counted, not kept: it would come too late."""
        batch, self._outbox = self._outbox, []
        while batch:
            part, size = [batch[0]], len(batch[0][2])
            while len(part) < len(batch) and size + len(batch[len(part)][2]) <= self._message_bytes:
                size += len(batch[len(part)][2])
                part.append(batch[len(part)])
            batch = batch[len(part) :]
            if self._control is not None and self._call(self._control, "forward", messages=part):
                self.forwarded += len(part)
            else:
                self.unforwarded += len(part)

    def readable(self, socket: Socket) -> None:
        """Take what came at one of this link's sockets."""
        for _ in range(DRAIN_MESSAGES_MAX):
            try:
                message = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if socket is self._sub:
                self._take(message[0])
            elif socket is self._control:
                self._pong(message)
            elif socket is self._router:
                self._found(message)
            if socket.closed:
                return

    def _take(self, frame: bytes) -> None:
        try:
            messages = unpack_messages(frame)
        except ProtocolError as error:
            self._log.warning("malformed message from upstream", reason=str(error))
            return
        for message in messages:
            self._take_one(message)

    def _take_one(self, message: Message) -> None:
        if message.generation != self._generation:
            self._generation = message.generation
            self._last.clear()
        if message.kind == PROBE:
            self._confirmed(message)
            return
        topic = message.topic
        last = self._last.get(topic)
        if last is not None and message.topic_seq > last + 1:
            self._core.skip(topic, message.topic_seq - last - 1)
        self._last[topic] = message.topic_seq
        kind = b"c" if message.kind == PATTERN else message.kind
        if not is_local(message.channel):
            self._core.take(
                kind,
                message.channel,
                message.payload,
                message.origin,
                message.number,
                message.hops + 1,
                message.unix_ms,
            )

    def _confirmed(self, message: Message) -> None:
        topic = probed_topic(message.topic)
        if self._sub is not None:
            self._sub.unsubscribe(message.topic)
        if message.flags & REFUSED:
            self._log.warning("upstream refuses a subscription", topic=topic.decode("utf-8", "replace"))
        elif self._core.table.holds(topic):
            self._last.setdefault(topic, message.topic_seq)
        self._confirming.pop(topic, None)
        self._release()

    # --- finding and losing it ---------------------------------------------------------------------
    def tick(self, now: float) -> None:
        """Ask for the upstream hub, or whether it is still there; give up what takes too long."""
        expired = [topic for topic, until in self._confirming.items() if until <= now]
        for topic in expired:
            del self._confirming[topic]
        if expired:
            self._release()
        if not self.endpoints or now - self._asked_at < CHANNEL_LINK_S:
            return
        self._asked_at = now
        if self._control is not None:
            if now - self._heard_at <= CHANNEL_LINK_LOST_S:
                self._call(self._control, "ping")
                return
            self._log.warning("upstream hub lost", endpoint=self.endpoints[self._turn])
            self._drop()
        if self._router is not None:
            self._close(self._router)
            self._turn = (self._turn + 1) % len(self.endpoints)
        try:
            self._router = self._open(zmq.DEALER, self.endpoints[self._turn])
        except ConfigError as error:
            # The keys were there when the endpoint was set.
            self._router = None
            self._log.warning("upstream cannot be joined", endpoint=self.endpoints[self._turn], reason=str(error))
            return
        self._call(self._router, "channels", wait=True)

    def _found(self, message: list[bytes]) -> None:
        answer = _result(message)
        endpoints = answer.get("endpoints") if isinstance(answer, dict) else None
        if (
            not isinstance(endpoints, list)
            or len(endpoints) != 2
            or not all(isinstance(e, str) for e in endpoints)
        ):
            return
        router = self.endpoints[self._turn]
        assert self._router is not None
        self._close(self._router)
        self._router = None
        control, messages = (seen_from(endpoint, router) for endpoint in endpoints)
        try:
            self._control = self._open(zmq.DEALER, control)
            self._sub = self._open(zmq.SUB, messages)
        except (zmq.ZMQError, ConfigError) as error:
            self._log.warning("upstream hub's endpoint is unusable", endpoint=control, reason=str(error))
            self._drop()
            return
        for topic in (*self._core.table.counts, *self._core.table.prefixes):
            self.subscribe(topic)
        self._heard_at = time.monotonic()
        self._call(self._control, "ping", wait=True)

    def _pong(self, message: list[bytes]) -> None:
        answer = _result(message)
        if answer is None:
            return
        self._heard_at = time.monotonic()
        if isinstance(answer, dict) and not self.up:
            self.up = True
            self._log.info("joined to an upstream hub", endpoint=self.endpoints[self._turn])

    def _drop(self) -> None:
        for socket in (self._router, self._control, self._sub):
            if socket is not None:
                self._close(socket)
        self._router = self._control = self._sub = None
        self.up = False
        self._last.clear()
        self._confirming.clear()
        self._release()

    def _open(self, kind: int, endpoint: str) -> Socket:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.maxmsgsize = 2 * self._message_bytes + (1 << 20)
        socket.rcvhwm = socket.sndhwm = HIGH_WATER_MESSAGES
        socket.reconnect_ivl, socket.reconnect_ivl_max = 50, 1000
        try:
            self._security.client(socket, endpoint)
            socket.connect(endpoint)
        except (zmq.ZMQError, ConfigError):
            socket.close(linger=0)
            raise
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _close(self, socket: Socket) -> None:
        self._poller.unregister(socket)
        socket.close(linger=0)

    def _call(self, socket: Socket, call: str, wait: bool = False, **arguments: Any) -> bool:
        """Send a control call, unless it may `wait` for the connection only over a link that is up."""
        if not wait and not self.up:
            return False
        header = frames.pack_header(flags=frames.CONTROL, request_id=1)
        try:
            socket.send_multipart([header, codec.encode_control(call, arguments)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        self._drop()


def _result(message: list[bytes]) -> Any:
    """Result of a control call; None if it was refused or is none."""
    try:
        if len(message) != 2 or frames.unpack_header(message[0]).flags & frames.ERROR:
            return None
        results = codec.decode_results(message[1])
    except ProtocolError:
        return None
    return results[0] if results and not isinstance(results[0], Exception) else None
