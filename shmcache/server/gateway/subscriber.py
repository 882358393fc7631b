"""The subscriptions of one client: a connection of its own to the hub, so that the hub counts it and a slow one loses alone."""

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

from ...errors import InstanceNotFound, LimitExceeded, ProtocolError, Unavailable
from ...limits import CHANNEL_CONFIRM_S, CHANNEL_SUBSCRIPTIONS_MAX, MESSAGE_BYTES_MAX
from ...protocol.channels import (
    CHANNEL,
    NONCE_BYTES,
    PATTERN,
    PROBE,
    REFUSED,
    SHARD,
    Message,
    name_of,
    probe_topic,
    topic_of,
    unpack_messages,
)
from ...protocol.streams import FRAME, SUBSCRIBE, UNSUBSCRIBE, Records, record, stream_path
from .replies import Push

if TYPE_CHECKING:
    from .connection import Connection

_RECONNECT_S: Final = 0.05
_WORDS: Final = {CHANNEL: b"message", SHARD: b"smessage"}


class Subscriber(asyncio.Protocol):
    """Topics, and the stream that brings their messages."""

    def __init__(self, client: "Connection") -> None:
        self._client = client
        self.topics: dict[bytes, dict[bytes, None]] = {CHANNEL: {}, PATTERN: {}, SHARD: {}}
        """Kind -> names, oldest first."""
        self._transport: Any = None
        self._records = Records(2 * MESSAGE_BYTES_MAX)
        self._held: list[Message] | None = None
        """Messages that wait until their subscription has been answered."""
        self._probe = b""
        self._confirmed: asyncio.Future[int] | None = None
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        """Channels, patterns, shard channels."""
        return len(self.topics[CHANNEL]), len(self.topics[PATTERN]), len(self.topics[SHARD])

    @property
    def total(self) -> int:
        return sum(self.counts)

    count = total

    async def subscribe(self, kind: bytes, names: list[bytes]) -> None:
        """In force when it returns; messages wait until `release`. Raises ShmcacheError."""
        topics = [topic_of(kind, name) for name in names]
        if self.total + len(names) > CHANNEL_SUBSCRIPTIONS_MAX:
            raise LimitExceeded(f"a client has at most {CHANNEL_SUBSCRIPTIONS_MAX} subscriptions")
        if self._transport is None:
            await self._connect()
        if self._held is None:
            self._held = []
        for name, topic in zip(names, topics, strict=True):
            if name not in self.topics[kind]:
                self.topics[kind][name] = None
                self._send(SUBSCRIBE, topic)
        if await self._settled(topics[-1]) & REFUSED:
            for name in names:
                self._drop(kind, name)
            raise LimitExceeded("the hub takes no more subscriptions")

    async def _settled(self, topic: bytes) -> int:
        """Wait until the hub has taken all that was sent to it so far; what it says of the topic (flags)."""
        probe = self._probe = probe_topic(os.urandom(NONCE_BYTES), topic)
        self._confirmed = asyncio.get_running_loop().create_future()
        self._send(SUBSCRIBE, probe)
        try:
            return await asyncio.wait_for(self._confirmed, 2 * CHANNEL_CONFIRM_S)
        except TimeoutError:
            # The hub is being restarted: all topics are sent again by then.
            return 0
        finally:
            self._send(UNSUBSCRIBE, probe)
            self._confirmed = None

    async def unsubscribe(self, kind: bytes, names: list[bytes]) -> None:
        """Out of force when it returns: the hub does not count them any more. Unknown names do not matter."""
        known = [name for name in names if name in self.topics[kind]]
        for name in known:
            self._drop(kind, name)
        if known and self._transport is not None:
            await self._settled(topic_of(kind, known[-1]))

    def _drop(self, kind: bytes, name: bytes) -> None:
        if self.topics[kind].pop(name, b"") is None:
            self._send(UNSUBSCRIBE, topic_of(kind, name))

    def release(self) -> None:
        """Hand out what came meanwhile."""
        held, self._held = self._held, None
        for message in held or ():
            self._give(message)

    async def _connect(self) -> None:
        """Raises Unavailable."""
        client = self._client
        try:
            endpoints = client.gateway.route.attach().snapshot.hub_endpoints
        except InstanceNotFound as error:
            raise Unavailable(str(error)) from None
        if not endpoints:
            raise Unavailable("this instance carries no channels (--no-channels)")
        try:
            await client.gateway.loop.create_unix_connection(lambda: self, stream_path(endpoints[1]))
        except OSError as error:
            raise Unavailable(f"the hub does not answer: {error}") from None

    # --- asyncio.Protocol ---
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._records = Records(2 * MESSAGE_BYTES_MAX)
        for kind, names in self.topics.items():
            for name in names:
                self._send(SUBSCRIBE, topic_of(kind, name))
        if self._confirmed is not None:
            self._send(SUBSCRIBE, self._probe)

    def data_received(self, data: bytes) -> None:
        # What was published after the client lost a channel is not for it any more.
        self._client.gateway.guard.keep_up()
        if self._client.is_closing:
            return
        try:
            for kind, body in self._records.feed(data):
                if kind == FRAME:
                    for message in unpack_messages(body):
                        self._take(message)
        except ProtocolError:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self._is_closed:
            self._task = self._client.gateway.loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        while not self._is_closed and self._transport is None:
            await asyncio.sleep(_RECONNECT_S)
            with contextlib.suppress(Unavailable):
                await self._connect()
        if self._is_closed and self._transport is not None:
            self._transport.close()

    def _take(self, message: Message) -> None:
        if message.kind == PROBE:
            if self._confirmed is not None and not self._confirmed.done() and message.topic == self._probe:
                self._confirmed.set_result(message.flags)
        elif self._held is not None:
            self._held.append(message)
        else:
            self._give(message)

    def _give(self, message: Message) -> None:
        kind, name = message.topic[:1], name_of(message.topic)
        if name not in self.topics[kind]:
            return
        if kind == PATTERN:
            values = [b"pmessage", name, message.channel, message.payload]
        else:
            values = [_WORDS[kind], message.channel, message.payload]
        self._client.push(Push(values))

    def _send(self, kind: int, topic: bytes) -> None:
        if self._transport is not None:
            self._transport.write(record(kind, topic))

    def close(self) -> None:
        """Unsubscribe from all."""
        self._is_closed = True
        for names in self.topics.values():
            names.clear()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()
