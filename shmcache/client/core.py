"""What the sync and the asyncio client have in common: everything but the waiting."""

import os
import warnings
import weakref
from collections.abc import Generator
from typing import Any

from .._engine import DEBUG_BUILD, EngineError, Retired
from ..limits import CLIENT_TIMEOUT_S
from ..protocol.commands import LOCAL
from .exchange import Deadline, Step
from .hub import ChannelMethods, HubRoute
from .local import read, read_steps
from .methods import CommandMethods
from .replies import finish
from .routes import LocalRoute, RouterRoute
from .session import command_steps
from .url import parse

if DEBUG_BUILD:
    warnings.warn("shmcache's engine is a debug build: many times slower", RuntimeWarning, stacklevel=2)

_clients: "weakref.WeakSet[ClientCore]" = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _not_attached(_key: Any) -> Any:
    raise Retired("not attached yet")


NOT_READ = object()
"""No result: the shared memory alone could not answer."""


class ClientCore(CommandMethods, ChannelMethods):
    """Where the client is connected, and its commands as steps."""

    def __init__(
        self, url: str | None = None, *, decode_responses: bool = False, timeout: float = CLIENT_TIMEOUT_S
    ) -> None:
        """Does not connect yet. `timeout` is seconds for a whole call with its retries."""
        address = parse(url)
        self.timeout = timeout
        self.decode_responses = decode_responses
        self._route: LocalRoute | RouterRoute
        if address.instance is not None:
            self._route = LocalRoute(address.instance, decode_responses)
        else:
            assert address.endpoint is not None
            self._route = RouterRoute(address.endpoint)
        self._hub = HubRoute(self._route)
        self._local = isinstance(self._route, LocalRoute)
        self._reader_get = _not_attached
        self._reader_mget = _not_attached
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} of {self._route.where}>"

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline.after(self.timeout if timeout is None else timeout)

    def _after_fork(self) -> None:
        self._route.after_fork()

    def _read_now(self, args: tuple[Any, ...]) -> Any:
        """The finished result if the shared memory answers at once, else NOT_READ. Raises ResponseError."""
        route = self._route
        if args[0] in LOCAL and isinstance(route, LocalRoute) and route.attachment is not None:
            try:
                return finish(args[0], read(route.attachment, args), self.decode_responses)
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
            result = yield from read_steps(route, args, deadline)
        else:
            result = yield from command_steps(route, args, deadline)
        self._use_reader()
        return finish(args[0], result, self.decode_responses)

    def _use_reader(self) -> None:
        route = self._route
        if isinstance(route, LocalRoute) and route.attachment is not None:
            self._reader_get = route.attachment.reader.get
            self._reader_mget = route.attachment.reader.mget
