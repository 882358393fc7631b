"""What the sync and the asyncio client have in common: everything but the waiting."""

import copy
import os
import warnings
import weakref
from collections.abc import Generator
from dataclasses import replace
from typing import Any, ClassVar, Self

from .._engine import DEBUG_BUILD, EngineError, Retired
from ..errors import TooStale
from ..limits import CLIENT_TIMEOUT_S
from ..protocol.commands import LOCAL
from ..protocol.needs import Ack
from .access import Access, find_access
from .exchange import Deadline, Step
from .hub import ChannelMethods, HubRoute, publisher
from .local import read, read_steps
from .methods import CommandMethods
from .options import NO_OPTIONS, RequestOptions
from .replies import finish
from .routes import LocalRoute, RouterRoute
from .session import command_steps
from .url import OPTIONS, parse

if DEBUG_BUILD:
    warnings.warn("shmcache's engine is a debug build: many times slower", RuntimeWarning, stacklevel=2)

_clients: "weakref.WeakSet[ClientCore]" = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _not_attached(_key: Any) -> Any:
    raise Retired("not attached yet")


def _no_pair_attached(_key: Any, _name: Any) -> Any:
    raise Retired("not attached yet")


NOT_READ = object()
"""No result: the shared memory alone could not answer."""


class ClientCore(CommandMethods, ChannelMethods):
    """Where the client is connected, and its commands as steps."""

    _streams: ClassVar[bool] = True
    """Whether its channels know the hub's plain unix socket."""

    def __init__(
        self,
        url: str | None = None,
        *,
        decode_responses: bool = False,
        timeout: float = CLIENT_TIMEOUT_S,
        options: RequestOptions = NO_OPTIONS,
        **keys: str | None,
    ) -> None:
        """Does not connect yet. `timeout` is seconds for a whole call with its retries.

        `keys`: server_key, client_key, curve, as for `connect`.
        """
        if keys.keys() - set(OPTIONS):
            raise TypeError(f"unknown arguments: {', '.join(sorted(keys.keys() - set(OPTIONS)))}")
        self._options = options
        address = parse(url)
        self.timeout = timeout
        self.decode_responses = decode_responses
        self._access: Access | None = None
        self._route: LocalRoute | RouterRoute
        if address.instance is not None:
            self._route = LocalRoute(address.instance, decode_responses)
        else:
            assert address.endpoint is not None
            self._access = find_access(address.endpoint, address.options, keys)
            self._route = RouterRoute(address.endpoint, secured=self._access is not None)
        self._hub = HubRoute(self._route, self._streams)
        self._local = isinstance(self._route, LocalRoute)
        self._reader_get = _not_attached
        self._reader_mget = _not_attached
        self._reader_hget = self._reader_sismember = _no_pair_attached
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} of {self._route.where}>"

    def with_options(
        self, *, ack: Ack | None = None, ack_timeout: float | None = None, max_staleness: float | None = None
    ) -> Self:
        """This client with other wishes, for one call or many; it shares connections and mappings.

        `ack`: replicas that must have a write before it returns (a number, "quorum", "all"), else `NotReplicated` is raised: applied
        here, not acknowledged. `ack_timeout`: seconds to wait for them. `max_staleness`: seconds that a replica may be behind when it answers a
        read, else `TooStale`. What is not named stays as it is.
        """
        given = {"ack": ack, "ack_timeout": ack_timeout, "max_staleness": max_staleness}
        view = copy.copy(self)
        view._options = replace(self._options, **{name: value for name, value in given.items() if value is not None})
        if view._options.max_staleness is not None:
            # The short way of GET and MGET looks at nothing but the data.
            view._reader_get = view._reader_mget = _not_attached
            view._reader_hget = view._reader_sismember = _no_pair_attached
        _clients.add(view)
        return view

    def wait(self, num_replicas: int, timeout: int) -> Any:
        """How many replicas have all that was written so far; waits until they are `num_replicas`, at most `timeout` ms (0: the call's own)."""
        return self._run(("WAIT", num_replicas, timeout))

    def execute_command(self, *args: Any, timeout: float | None = None) -> Any:
        """Any command by name, as `execute_command("SET", "k", 1)`; results as the methods give them."""
        publish = publisher(self, args)
        return super().execute_command(*args, timeout=timeout) if publish is None else publish(*args[1:], timeout=timeout)

    def _check_fresh(self) -> None:
        """Raises TooStale if this host's replica is further behind than this client takes."""
        most = self._options.max_staleness
        if most is not None and isinstance(self._route, LocalRoute):
            age = self._route.replica_age()
            if age is not None and age > most:
                raise TooStale(f"this replica is {age:.3f} s behind, {most:g} are allowed")

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline.after(self.timeout if timeout is None else timeout)

    def _after_fork(self) -> None:
        self._route.after_fork()

    def _read_now(self, args: tuple[Any, ...]) -> Any:
        """The finished result if the shared memory answers at once, else NOT_READ. Raises ResponseError."""
        route = self._route
        if args[0] in LOCAL and isinstance(route, LocalRoute) and route.attachment is not None:
            self._check_fresh()
            try:
                return finish(args, read(route.attachment, args), self.decode_responses)
            except EngineError:
                pass
        return NOT_READ

    def _open_steps(self, timeout: float | None = None) -> Generator[Step, Any, None]:
        yield from self._route.prepare(self._deadline(timeout))
        self._use_reader()

    def _steps(self, args: tuple[Any, ...], timeout: float | None) -> Generator[Step, Any, Any]:
        """Run a command that `_read_now` did not; returns the finished result."""
        deadline = self._deadline(timeout)
        route = self._route
        if args[0] in LOCAL and isinstance(route, LocalRoute):
            yield from route.prepare(deadline)
            self._check_fresh()
            result = yield from read_steps(route, args, deadline, self._options)
        else:
            result = yield from command_steps(route, args, deadline, self._options)
        self._use_reader()
        return finish(args, result, self.decode_responses)

    def _use_reader(self) -> None:
        route = self._route
        if isinstance(route, LocalRoute) and route.attachment is not None and self._options.max_staleness is None:
            self._reader_get = route.attachment.reader.get
            self._reader_mget = route.attachment.reader.mget
            self._reader_hget = route.attachment.reader.hget
            self._reader_sismember = route.attachment.reader.sismember
