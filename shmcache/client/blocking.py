"""The sync client: for threads, forks and everything that may wait."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Set
from types import TracebackType
from typing import Any, Self, TypeVar

from .._engine import CommandError, EngineError
from ..limits import CLIENT_TIMEOUT_S
from ..protocol.commands import LOCAL, Args
from ..protocol.needs import Ack
from .arguments import Key, Value, key_list, plain
from .channels import Channels
from .core import NOT_READ, ClientCore, _no_pair_attached, _not_attached
from .exchange import Deadline, Request, Step
from .hub import all_of, hub_steps
from .options import NO_OPTIONS, RequestOptions
from .pipeline import PipelineCore
from .pubsub import PubSub
from .replies import finish
from .script_methods import Script
from .session import batch_results, has_moved, moved_steps, sole_batch, sole_request, sole_result
from .waiting import pauses, seconds_of

_Result = TypeVar("_Result")


class Client(ClientCore):
    """A connected client. Any number of threads may use one; a forked child may go on using it."""

    def __init__(
        self,
        url: str | None = None,
        *,
        decode_responses: bool = False,
        timeout: float = CLIENT_TIMEOUT_S,
        options: RequestOptions = NO_OPTIONS,
        **keys: str | None,
    ) -> None:
        super().__init__(url, decode_responses=decode_responses, timeout=timeout, options=options, **keys)
        self._channels = Channels(self._access)

    def register_script(self, script: str | bytes) -> Script:
        """A script as an object that is called with `keys=` and `args=`."""
        return Script(self, script)

    def get(self, name: Key, *, timeout: float | None = None) -> Any:
        """The value, None if there is none. On the host: one look into shared memory, no socket, no lock."""
        try:
            return self._reader_get(name)
        except (EngineError, CommandError, TypeError):
            # Not attached, busy, retired, or an unusual kind of key: the general way deals with it.
            return self._run(("GET", name), timeout)

    def mget(self, keys: Any, *args: Key, timeout: float | None = None) -> Any:
        """List of values in the keys' order, None for a missing one. Not one moment over several shards."""
        wanted = key_list(keys, args)
        try:
            return self._reader_mget(wanted)
        except (EngineError, CommandError, TypeError):
            return self._run(("MGET", *wanted), timeout)

    def hget(self, name: Key, key: Key, *, timeout: float | None = None) -> Any:
        """The field's value, None if there is none. On the host: as `get`."""
        try:
            return self._reader_hget(name, key)
        except (EngineError, CommandError, TypeError):
            return self._run(("HGET", name, key), timeout)

    def sismember(self, name: Key, value: Value, *, timeout: float | None = None) -> Any:
        """1 if it is a member, else 0. On the host: as `get`."""
        try:
            return self._reader_sismember(name, value)
        except (EngineError, CommandError, TypeError):
            return self._run(("SISMEMBER", name, value), timeout)

    def zscore(self, name: Key, value: Value, *, timeout: float | None = None) -> Any:
        """The score, None if there is no such member. On the host: as `get`."""
        try:
            return self._reader_zscore(name, value)
        except (EngineError, CommandError, TypeError):
            return self._run(("ZSCORE", name, value), timeout)

    def _run(self, args: tuple[Any, ...], timeout: float | None = None) -> Any:
        args = plain(args)
        if args[0] in LOCAL:
            result = self._read_now(args)
            return self._drive(self._steps(args, timeout)) if result is NOT_READ else result
        request = sole_request(self._route, args, self._options)
        if request is None:
            return self._drive(self._steps(args, timeout))
        self._channels.ask(self._route, request, self.timeout if timeout is None else timeout)
        return finish(args, sole_result(request), self.decode_responses)

    def _run_waiting(self, args: tuple[Any, ...]) -> Any:
        seconds = seconds_of(args)
        until = time.monotonic() + seconds if seconds else float("inf")
        for pause in pauses():
            result = self._run(args)
            left = until - time.monotonic()
            if result is not None or left <= 0:
                break
            time.sleep(min(pause, left))
        return result

    def _ask_hub(self, request: Request, finish: Callable[[list[Any]], Any], timeout: float | None) -> Any:
        if self._hub.ready:
            self._channels.ask(self._hub, request, self.timeout if timeout is None else timeout)
            if type(request.outcome) is not bytes:
                self._hub.forget()
            return finish(all_of(request))
        return finish(self._drive(hub_steps(self._hub, request, self._deadline(timeout))))

    def publish_many(
        self, messages: Iterable[tuple[Key, Value]], *, timeout: float | None = None
    ) -> list[int]:
        """Send many `(channel, message)` in as few requests as possible; the receivers of each."""
        counts: list[int] = []
        for request in self._batches(messages):
            counts += self._ask_hub(request, list, timeout)
        return counts

    def pubsub(self, ignore_subscribe_messages: bool = False) -> PubSub:
        """An object that subscribes to channels and receives their messages."""
        return PubSub(self, ignore_subscribe_messages)

    def _drive(self, steps: Generator[Step, Any, _Result]) -> _Result:
        return self._channels.run(steps)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._channels.after_fork()

    def open(self) -> Self:
        """Connect now. Raises InstanceNotFound, Unavailable, LayoutMismatch."""
        self._drive(self._open_steps())
        return self

    def close(self) -> None:
        """Give up sockets and mappings. A client that is used again connects again."""
        self._channels.close()
        self._channels = Channels(self._access)
        self._reader_get = _not_attached
        self._reader_mget = _not_attached
        self._reader_hget = self._reader_sismember = self._reader_zscore = _no_pair_attached
        self._route.detach()

    def pipeline(self, transaction: bool = False, shard_hint: None = None) -> "Pipeline":
        """Collect commands and send them together. A `transaction` is all or nothing, over any shards."""
        return Pipeline(self, transaction)

    def scan_iter(
        self, match: Key | None = None, count: int | None = None, _type: str | None = None
    ) -> Iterator[Any]:
        """All keys that match, by SCAN."""
        cursor = 0
        while True:
            cursor, keys = self.scan(cursor, match, count, _type)
            yield from keys
            if cursor == 0:
                return

    def hscan_iter(
        self, name: Key, match: Key | None = None, count: int | None = None, no_values: bool | None = None
    ) -> Iterator[Any]:
        """All fields and values that match, or all fields, by HSCAN."""
        cursor = 0
        while True:
            cursor, found = self.hscan(name, cursor, match, count, no_values)
            yield from found if no_values else found.items()
            if cursor == 0:
                return

    def sscan_iter(self, name: Key, match: Key | None = None, count: int | None = None) -> Iterator[Any]:
        """All members that match, by SSCAN."""
        cursor = 0
        while True:
            cursor, members = self.sscan(name, cursor, match, count)
            yield from members
            if cursor == 0:
                return

    def zscan_iter(self, name: Key, match: Key | None = None, count: int | None = None) -> Iterator[Any]:
        """All `(member, score)` of which the member matches, by ZSCAN."""
        cursor = 0
        while True:
            cursor, pairs = self.zscan(name, cursor, match, count)
            yield from pairs
            if cursor == 0:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: Key) -> bool:
        return bool(self.exists(name))

    def __getitem__(self, name: Key) -> Any:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: Key, value: Value) -> None:
        self.set(name, value)

    def __delitem__(self, name: Key) -> None:
        self.delete(name)


class Pipeline(PipelineCore):
    """Collected commands of a sync client. Not for several threads at once."""

    _client: Client

    def execute(self, raise_on_error: bool = True, *, timeout: float | None = None) -> list[Any]:
        """Run what was collected; results in order.

        With `raise_on_error` the first error is raised at the end, else errors stand in the list. `CrossSlot`
        and `LimitExceeded` of a transaction are raised before it is sent; one over several shards may raise `OutcomeUnknown`, or `Unavailable`
        if nothing of it was done.
        """
        commands, names = self._take()
        if not commands:
            return []
        results = self._read_now(commands, names)
        if results is None:
            results = self._ask(commands, names, self._client.timeout if timeout is None else timeout)
        return self._finish(commands, names, results, raise_on_error)

    def _ask(self, commands: list[Args], names: Set[str], timeout: float) -> list[Any]:
        client = self._client
        request = None if self._transaction else sole_batch(client._route, commands, names, client._options)
        if request is None:
            return client._drive(self._steps(commands, names, Deadline.after(timeout)))
        client._channels.ask(client._route, request, timeout)
        results = batch_results(request)
        if has_moved(results):
            steps = moved_steps(client._route, commands, results, Deadline.after(timeout), client._options)
            return client._drive(steps)
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()


def connect(
    url: str | None = None,
    *,
    decode_responses: bool = False,
    timeout: float = CLIENT_TIMEOUT_S,
    ack: Ack | None = None,
    ack_timeout: float | None = None,
    max_staleness: float | None = None,
    server_key: str | None = None,
    client_key: str | None = None,
    curve: str | None = None,
) -> Client:
    """A connected client of `shm://NAME` (None: the instance `default` on this host) or `tcp://HOST:PORT`.

    `decode_responses`: data comes as `str` (UTF-8) instead of `bytes`. `timeout`: seconds for one call with
    all its retries. `ack`, `ack_timeout`, `max_staleness`: see `Client.with_options`. Raises ConfigError (the
    url, an option), InstanceNotFound, Unavailable, LayoutMismatch.

    By tcp: `server_key` is the server's public key (or its file), `client_key` the file of this client's key
    pair; `curve="off"` allows a plain connection to an address that is not loopback (docs/security.md).
    Raises NotAuthorized when the server refuses the keys.
    """
    options = RequestOptions(ack, ack_timeout, max_staleness)
    keys = {"server_key": server_key, "client_key": client_key, "curve": curve}
    return Client(url, decode_responses=decode_responses, timeout=timeout, options=options, **keys).open()
