"""The hub as a client sees it: where it is, and the commands that go to it instead of a shard."""

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from ..errors import InstanceNotFound, LimitExceeded, ProtocolError, ResponseError, ShmcacheError, Unavailable
from ..limits import CHANNEL_MESSAGE_BYTES_MAX
from ..protocol import frames
from ..protocol.channels import check_name, seen_from
from ..protocol.codec import decode_results, encode_commands, encode_control
from ..protocol.streams import stream_path
from .arguments import Key, Value, plain
from .exchange import Deadline, Request, Step, Target, exchange
from .routes import LocalRoute, RouterRoute
from .streams import SCHEME

BATCH_BYTES_MAX = 256 * 1024
BATCH_MESSAGES_MAX = 1_000
"""What `publish_many` puts into one request."""
Timeout = float | None


class HubRoute:
    """Where the hub of a route's instance is: in the directory on this host, else the router tells."""

    epoch = 0

    def __init__(self, route: LocalRoute | RouterRoute, streams: bool = True) -> None:
        """`streams`: requests on this host go by the plain unix socket, else by ZeroMQ as to a shard."""
        self._streams = streams
        self.where = f"the hub of {route.where}"
        self._route = route
        # The hub is on the router's host.
        self.clock = route.clock
        self.sees_workers = isinstance(route, LocalRoute)
        self._remote: tuple[str, str] | None = None

    @property
    def ready(self) -> bool:
        """Whether a request can be sent at once."""
        if isinstance(self._route, LocalRoute):
            return self._route.attachment is not None and self.target(0) is not None
        return self._remote is not None

    @property
    def messages(self) -> str:
        """Endpoint of the messages. After `prepare`."""
        if isinstance(self._route, LocalRoute):
            return SCHEME + stream_path(self._route.attach().snapshot.hub_endpoints[1])
        assert self._remote is not None
        return self._remote[1]

    def arrived(self, slot: int, stamp: int) -> bool:
        """Messages have no stamps."""
        return True

    def target(self, slot: int, flags: int = 0) -> Target | None:
        if isinstance(self._route, LocalRoute):
            try:
                snapshot = self._route.attach().snapshot
            except (InstanceNotFound, Unavailable):
                return None
            if not snapshot.hub_pid or not snapshot.hub_endpoints:
                return None
            control, messages, *_ = snapshot.hub_endpoints
            return Target(
                SCHEME + stream_path(messages) if self._streams else control,
                (snapshot.hub_pid, snapshot.hub_generation),
            )
        return None if self._remote is None else Target(self._remote[0], (0, 0))

    def is_gone(self, slot: int, flags: int, target: Target) -> bool:
        """Whether the hub that a request was sent to is another one now."""
        return self.sees_workers and self.target(slot, flags) != target

    def forget(self) -> None:
        """It did not answer: ask the router again where it is."""
        self._remote = None

    def prepare(self, deadline: Deadline) -> Generator[Step, Any, None]:
        """Find the hub. Raises Unavailable if the instance has none."""
        route = self._route
        if isinstance(route, LocalRoute):
            yield from route.prepare(deadline)
            if not route.attach().snapshot.hub_endpoints:
                raise Unavailable(f"{route.where} carries no channels (--no-channels)")
            return
        if self._remote is not None:
            return
        request = Request(0, 0, frames.CONTROL, encode_control("channels", {}))
        yield from exchange(route, [request], deadline)
        answer = sole(request)
        endpoints = answer.get("endpoints") if isinstance(answer, dict) else None
        if endpoints == []:
            raise Unavailable(f"the instance at {route.where} carries no channels for other hosts")
        if (
            not isinstance(endpoints, list)
            or len(endpoints) != 2
            or not all(isinstance(e, str) for e in endpoints)
        ):
            raise ProtocolError("the channels reply is not as documented")
        control, messages = (seen_from(endpoint, route.where) for endpoint in endpoints)
        self._remote = control, messages


def sole(request: Request) -> Any:
    """The one result of a request. Raises what it failed with."""
    return all_of(request)[0]


def all_of(request: Request) -> list[Any]:
    """The results of a request. Raises its failure, or the first error among them."""
    outcome = request.outcome
    if not isinstance(outcome, bytes):
        assert outcome is not None
        raise outcome
    results = decode_results(outcome)
    if not results:
        raise ProtocolError("a reply without a result")
    for result in results:
        if isinstance(result, ResponseError):
            raise result
    return results


def publishing(commands: Sequence[tuple[Any, ...]]) -> Request:
    """A request that is never sent twice: a message would come twice."""
    return Request(0, 0, 0, encode_commands(commands), commands)


def asking(command: tuple[Any, ...]) -> Request:
    """A request that may be repeated."""
    return Request(0, 0, 0, encode_commands((command,)))


def calling(call: str, **arguments: Any) -> Request:
    """A control call."""
    return Request(0, 0, frames.CONTROL, encode_control(call, arguments))


def hub_steps(hub: HubRoute, request: Request, deadline: Deadline) -> Generator[Step, Any, list[Any]]:
    """Results of one request to the hub."""
    yield from hub.prepare(deadline)
    yield from exchange(hub, [request], deadline)
    if isinstance(request.outcome, ShmcacheError) and not isinstance(
        request.outcome, ResponseError | LimitExceeded
    ):
        hub.forget()
    return all_of(request)


def _publish(name: str, channel: Key, message: Value) -> tuple[Any, ...]:
    args = plain((name, channel, message))
    check_name(as_bytes(args[1]))
    size = len(args[2]) if type(args[2]) is not int else 20
    if size > CHANNEL_MESSAGE_BYTES_MAX:
        raise LimitExceeded(f"a message of {size} bytes is over every limit ({CHANNEL_MESSAGE_BYTES_MAX})")
    return args


def as_bytes(name: Any) -> bytes:
    """A channel's name as it goes over the wire. Raises DataError."""
    (word,) = plain((name,))
    return word if type(word) is bytes else str(word).encode()


class ChannelMethods:
    """Commands about channels; the base of both clients. What `_ask_hub` returns, a method returns."""

    __slots__ = ()
    decode_responses: bool

    @abstractmethod
    def _ask_hub(self, request: Request, finish: Callable[[list[Any]], Any], timeout: Timeout) -> Any: ...

    def publish(self, channel: Key, message: Value, *, timeout: Timeout = None) -> Any:
        """Send a message to all subscribers; how many subscriptions it met at this instance's hub."""
        return self._ask_hub(publishing((_publish("PUBLISH", channel, message),)), _first, timeout)

    def spublish(self, shard_channel: Key, message: Value, *, timeout: Timeout = None) -> Any:
        """As `publish`, to a shard channel."""
        return self._ask_hub(publishing((_publish("SPUBLISH", shard_channel, message),)), _first, timeout)

    def _batches(self, messages: Iterable[tuple[Key, Value]]) -> list[Request]:
        requests = []
        batch: list[tuple[Any, ...]] = []
        size = 0
        for channel, message in messages:
            command = _publish("PUBLISH", channel, message)
            more = 32 + len(as_bytes(command[1])) + (len(command[2]) if type(command[2]) is not int else 9)
            if batch and (size + more > BATCH_BYTES_MAX or len(batch) == BATCH_MESSAGES_MAX):
                requests.append(publishing(batch))
                batch, size = [], 0
            batch.append(command)
            size += more
        return [*requests, publishing(batch)] if batch else requests

    def pubsub_channels(self, pattern: Key = "*", *, timeout: Timeout = None) -> Any:
        """Channels that have subscribers, of those that match the pattern."""
        return self._ask_hub(asking(plain(("PUBSUB", "CHANNELS", pattern))), self._names, timeout)

    def pubsub_shardchannels(self, pattern: Key = "*", *, timeout: Timeout = None) -> Any:
        """Shard channels that have subscribers."""
        return self._ask_hub(asking(plain(("PUBSUB", "SHARDCHANNELS", pattern))), self._names, timeout)

    def pubsub_numsub(self, *args: Key, timeout: Timeout = None) -> Any:
        """`(channel, subscriptions)` of each channel that is named."""
        return self._ask_hub(asking(plain(("PUBSUB", "NUMSUB", *args))), self._counts, timeout)

    def pubsub_shardnumsub(self, *args: Key, timeout: Timeout = None) -> Any:
        """`(shard channel, subscriptions)` of each one that is named."""
        return self._ask_hub(asking(plain(("PUBSUB", "SHARDNUMSUB", *args))), self._counts, timeout)

    def pubsub_numpat(self, *, timeout: Timeout = None) -> Any:
        """Number of different patterns that are subscribed to."""
        return self._ask_hub(asking(("PUBSUB", "NUMPAT")), _first, timeout)

    def _text(self, name: bytes) -> Any:
        return name.decode() if self.decode_responses else name

    def _names(self, results: list[Any]) -> list[Any]:
        return [self._text(name) for name in results[0]]

    def _counts(self, results: list[Any]) -> list[Any]:
        flat = results[0]
        return [(self._text(name), count) for name, count in zip(flat[::2], flat[1::2], strict=True)]


def _first(results: list[Any]) -> Any:
    return results[0]
