"""From a URL to a client, or to the control calls that only the command line makes."""

import time
from dataclasses import dataclass
from typing import Any

from shmcache.errors import ConfigError

DEFAULT_INSTANCE = "default"


@dataclass(frozen=True, slots=True)
class Target:
    """Exactly one of an instance on this host and a router's endpoint."""

    instance: str | None
    endpoint: str | None
    url: str | None = None
    """As given, with the keys that it may name."""


def parse_target(url: str | None) -> Target:
    """Raises ConfigError for anything but shm://NAME, tcp://HOST:PORT and a bare instance name."""
    if not url:
        return Target(DEFAULT_INSTANCE, None)
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Target(url, None)
    if scheme == "shm":
        return Target(rest or DEFAULT_INSTANCE, None)
    address = rest.partition("?")[0]
    if scheme == "tcp" and address.rpartition(":")[2].isdecimal():
        return Target(None, f"tcp://{address}", url)
    raise ConfigError(f"{url!r} is not shm://NAME or tcp://HOST:PORT")


def client_url(url: str | None) -> str | None:
    """What `shmcache.connect` takes: a bare word names an instance."""
    return f"shm://{url}" if url and "://" not in url else url


def open_client(url: str | None, timeout: float) -> Any:
    """A client whose values are bytes; a context manager."""
    import shmcache

    return shmcache.connect(client_url(url), timeout=timeout)


def raw_reply(url: str | None, words: list[bytes], timeout: float) -> Any:
    """The reply to one command as the protocol has it, not as a Python method returns it."""
    from shmcache.client.arguments import plain
    from shmcache.client.session import command_steps
    from shmcache.errors import ResponseError

    with open_client(url, timeout).open() as client:
        name = words[0].decode("utf-8", "replace").upper()
        # The steps below the client's methods, because those turn statuses and texts into Python values.
        steps = command_steps(client._route, plain((name, *words[1:])), client._deadline(timeout))
        reply = client._drive(steps)
    if isinstance(reply, ResponseError):
        raise reply
    return reply


def process_endpoint(name: str, part: str) -> str:
    """Where the relay or the keeper (`part`) of an instance on this host listens. Raises InstanceNotFound."""
    from shmcache.protocol.directory import Directory
    from shmcache.server.paths import ipc_endpoint, socket_folder

    directory = Directory.open(name)
    snapshot = directory.snapshot()
    directory.close()
    return ipc_endpoint(socket_folder(snapshot), name, part)


def call_process(name: str, part: str, call: str, arguments: dict[str, Any] | None = None, timeout: float = 5.0) -> Any:
    """A control call to that process. Raises InstanceNotFound, and what `ControlChannel.call` does."""
    with ControlChannel(timeout) as channel:
        return channel.call(process_endpoint(name, part), call, arguments)


class ControlChannel:
    """Control calls over one DEALER per endpoint, one call at a time."""

    def __init__(self, timeout: float, url: str | None = None) -> None:
        """`url`: of the router, for the keys that it may need. Raises ConfigError."""
        import zmq

        self._zmq = zmq
        self._context = zmq.Context()
        self._sockets: dict[str, Any] = {}
        self._watches: dict[str, Any] = {}
        self._url = url
        self._timeout = timeout
        self._request_id = 0

    def call(self, endpoint: str, name: str, arguments: dict[str, Any] | None = None, slot: int = 0) -> Any:
        """Result of one control call. Raises Unavailable, NotAuthorized, CacheTimeout, ResponseError, ProtocolError."""
        from shmcache.errors import CacheTimeout
        from shmcache.limits import CLIENT_POLL_MS
        from shmcache.protocol import codec, frames

        socket = self._sockets.get(endpoint) or self._connect(endpoint)
        self._request_id += 1
        deadline = time.monotonic() + self._timeout
        flag, deadline_us = frames.deadline_at(deadline, endpoint)
        header = frames.pack_header(frames.CONTROL | flag, slot, 0, self._request_id, deadline_us)
        socket.send_multipart([header, codec.encode_control(name, arguments or {})])
        while (left := deadline - time.monotonic()) > 0:
            if not socket.poll(min(int(left * 1000) + 1, CLIENT_POLL_MS)):
                if endpoint in self._watches and (refusal := self._watches[endpoint].refusal()) is not None:
                    raise refusal
                continue
            head, payload = socket.recv_multipart()
            reply = frames.unpack_header(head)
            if reply.request_id != self._request_id:
                continue
            if reply.flags & frames.ERROR:
                raise codec.decode_error(payload)
            result = codec.decode_results(payload)[0]
            if isinstance(result, Exception):
                raise result
            return result
        raise CacheTimeout(f"{endpoint} did not answer within {self._timeout:g} s")

    def _connect(self, endpoint: str) -> Any:
        socket = self._context.socket(self._zmq.DEALER)
        socket.linger = 0
        if endpoint.startswith("tcp://"):
            from shmcache.client.access import find_access
            from shmcache.client.url import parse
            from shmcache.protocol.handshake import HandshakeWatch

            access = find_access(endpoint, parse(self._url).options, {})
            if access is not None:
                access.secure(socket)
            self._watches[endpoint] = HandshakeWatch(socket, endpoint, access is not None)
        socket.connect(endpoint)
        self._sockets[endpoint] = socket
        return socket

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> "ControlChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class ShardAddress:
    """Where control calls to one shard's worker go."""

    shard: int
    endpoint: str
    slot: int


def shard_addresses(target: Target, channel: ControlChannel) -> list[ShardAddress]:
    """One address per shard: the worker's own on this host, the router's otherwise. Raises InstanceNotFound, Unavailable."""
    from shmcache.errors import Unavailable

    if target.endpoint is not None:
        topology = channel.call(target.endpoint, "topology")
        first = {shard: slot for slot, _, shard in reversed(topology["slots"])}
        return [ShardAddress(s, target.endpoint, slot) for s, slot in sorted(first.items())]
    from shmcache.protocol.directory import Directory

    directory = Directory.open(target.instance or DEFAULT_INSTANCE)
    snapshot = directory.snapshot()
    directory.close()
    if any(not record.endpoints for record in snapshot.shards):
        raise Unavailable(f"instance {snapshot.instance!r} is {snapshot.state}: not all of its workers are there")
    # A worker looks only at its own requests' flags here, so any slot does; the first of the shard is exact.
    slots = [int.from_bytes(snapshot.slots[i : i + 2], "little") for i in range(0, len(snapshot.slots), 2)]
    return [ShardAddress(r.shard, r.endpoints[0], slots.index(r.shard)) for r in snapshot.shards]


def hub_address(target: Target, channel: ControlChannel) -> str | None:
    """Where control calls to the hub go; None if the instance carries no channels. Raises InstanceNotFound."""
    if target.endpoint is not None:
        from shmcache.protocol.channels import seen_from

        endpoints = channel.call(target.endpoint, "channels")["endpoints"]
        return seen_from(endpoints[0], target.endpoint) if endpoints else None
    from shmcache.protocol.directory import Directory

    directory = Directory.open(target.instance or DEFAULT_INSTANCE)
    snapshot = directory.snapshot()
    directory.close()
    return snapshot.hub_endpoints[0] if snapshot.hub_endpoints and snapshot.hub_pid else None
