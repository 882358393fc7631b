"""Commands that wait for a key (flag `blocking`): the engine tries once and answers nil; who waits, and who is served, is decided here.

A client whose keys nobody waits for has its command tried as it is. Else, and when there is nothing, it stands in a queue for each of its keys, behind
those that came earlier. When the write log says that a key was written, those in its queue are tried in their order until there is
nothing left, one key after the other in the order in which they were written. So a waiter is served by the first of its keys that has data.
"""

import asyncio
from typing import Any, Final

from ...client.exchange import Deadline
from ...client.session import pipeline_steps
from ...errors import CommandFailed, ResponseError, ShmcacheError
from ...limits import RESP_TIMEOUT_S, RESP_TRIES_MAX
from ...protocol.commands import slot_of_key
from .changes import WRITTEN, Change
from .replies import NIL_ARRAY
from .rows import Row

_TIMEOUT_FIRST: Final = frozenset({"BLMPOP", "BZMPOP"})
"""Commands whose timeout is the first argument; else it is the last."""
_MOVES: Final = frozenset({"BLMOVE", "BRPOPLPUSH"})
"""They wait for their first key only."""
_SECONDS_MAX: Final = 2**63 / 1000


class Waiter:
    """One client in a blocking command."""

    __slots__ = ("args", "is_new", "is_tried", "keys", "outcome", "row", "verdict")

    def __init__(self, row: Row, args: list[Any], outcome: asyncio.Future[Any]) -> None:
        self.row, self.args, self.outcome = row, args, outcome
        self.keys: list[bytes] = keys_of(row, args)
        self.is_new = True
        """Not tried with all of its keys yet: a key of the wrong type is still an error."""
        self.is_tried = False
        """A try is with the shard: it must be known how that ends before anything else is said."""
        self.verdict: Any = None
        """What it is told if the try that is under way finds nothing."""

    def end(self, value: Any) -> None:
        """Its waiting is over, with a value or an error, unless a try has taken something for it."""
        if self.is_tried:
            self.verdict = value
        elif not self.outcome.done():
            self.outcome.set_result(value)

    def attempt(self, key: bytes) -> list[list[Any]]:
        """What to ask the shard, for this key alone."""
        args, name = self.args, self.row.name
        if name in _MOVES:
            # Its type says whether it is this key or the other that is of the wrong one.
            return [["TYPE", key], [name, *args[1:]]]
        if name in _TIMEOUT_FIRST:
            return [[name, "0", "1", key, *args[3 + len(self.keys) :]]]
        return [[name, key, "0"]]


class Waiters:
    """All of one gateway process."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway
        self._queues: dict[bytes, dict[Waiter, None]] = {}
        self._ready: dict[bytes, None] = {}
        self._task: asyncio.Task[None] | None = None

    def stands(self, keys: list[bytes]) -> bool:
        """Whether somebody waits for one of them."""
        return any(key in self._queues for key in keys)

    def add(self, waiter: Waiter) -> None:
        self._gateway.changes.need(self, self._changed, self._missed)
        for key in waiter.keys:
            self._queues.setdefault(key, {})[waiter] = None
        # Something may have come since it was tried, or it was not tried at all.
        self._serve(waiter.keys)

    def remove(self, waiter: Waiter) -> None:
        for key in waiter.keys:
            queue = self._queues.get(key)
            if queue is not None:
                queue.pop(waiter, None)
                if not queue:
                    del self._queues[key]
        if not self._queues:
            self._gateway.changes.release(self)

    # --- the log says ---
    def _changed(self, changes: list[Change]) -> None:
        queues = self._queues
        found = [key for what, key, _ in changes if key in queues and what == WRITTEN]
        if found:
            self._serve(found)

    def _missed(self) -> None:
        self._serve(list(self._queues))

    def _serve(self, keys: list[bytes]) -> None:
        self._ready.update(dict.fromkeys(keys))
        if self._task is None:
            self._task = self._gateway.loop.create_task(self._pump())

    async def _pump(self) -> None:
        try:
            while self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                if self._gateway.is_careful:
                    await self._gateway.writes_allowed()
                try:
                    await self._serve_key(key)
                except ShmcacheError as error:
                    # What a single waiter is told of: its shard cannot be asked now.
                    self._gateway.log.debug("waiting clients not served", reason=str(error))
        except Exception:
            self._gateway.log.exception("waiting clients not served")
        finally:
            self._task = None

    async def _serve_key(self, key: bytes) -> None:
        """Try those who wait for a key, in their order, until there is nothing left."""
        tried: set[Waiter] = set()
        many = 1
        while True:
            group = [w for w in self._queues.get(key, ()) if w not in tried and not w.outcome.done()][:many]
            if not group:
                return
            # They are asked in one message: nothing comes in between.
            attempts = [waiter.attempt(key) for waiter in group]
            for waiter in group:
                waiter.is_tried = True
            try:
                results = await self._ask([command for commands in attempts for command in commands])
            except ShmcacheError as error:
                results = [error] * sum(map(len, attempts))
            at = 0
            is_empty = False
            for waiter, commands in zip(group, attempts, strict=True):
                at += len(commands)
                is_empty |= self._settle(waiter, key, results[at - len(commands) : at])
            if is_empty:
                return
            tried.update(group)
            many = min(2 * many, RESP_TRIES_MAX)

    async def _ask(self, commands: list[list[Any]]) -> list[Any]:
        gateway = self._gateway
        found: list[Any] = await gateway.lanes.run(
            pipeline_steps(gateway.route, [tuple(command) for command in commands], Deadline.after(RESP_TIMEOUT_S), by_shard=True)
        )
        return found

    def _settle(self, waiter: Waiter, key: bytes, results: list[Any]) -> bool:
        """Take what a try has brought. Whether there was nothing."""
        waiter.is_tried = False
        result = results[-1]
        if waiter.outcome.done():
            # Its client went away while the shard was asked. What was taken for it goes to the next who asked the same.
            if result is not None and not isinstance(result, Exception):
                self._pass_on(waiter, key, result)
            return False
        nothing = result is None
        if isinstance(result, ResponseError) and result.code == "WRONGTYPE" and not waiter.is_new:
            # A key that has become something else is as good as none, except where a move goes to.
            nothing = len(results) == 1 or results[0] != "list"
            if nothing and waiter.verdict is None:
                return False
        elif isinstance(result, ShmcacheError) and not isinstance(result, ResponseError) and not waiter.is_new:
            # The shard cannot be asked just now; that is no reason to end what may wait for ever.
            self._gateway.loop.call_later(RESP_TIMEOUT_S / 10, self._serve, [key])
            nothing = True
        if not nothing:
            waiter.outcome.set_result(result)
            self.remove(waiter)
            return False
        if waiter.verdict is not None:
            waiter.outcome.set_result(waiter.verdict)
            self.remove(waiter)
        elif key == waiter.keys[-1]:
            waiter.is_new = False
        return result is None

    def _pass_on(self, gone: Waiter, key: bytes, result: Any) -> None:
        attempt = gone.attempt(key)
        for waiter in self._queues.get(key, ()):
            if not waiter.is_tried and not waiter.outcome.done() and waiter.attempt(key) == attempt:
                waiter.outcome.set_result(result)
                self.remove(waiter)
                return

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def wait(client: Any, row: Row, args: list[Any]) -> Any:
    """The command's result, or nil when its timeout (seconds, 0: none) is over. Raises ShmcacheError."""
    gateway = client.gateway
    loop = gateway.loop
    waiter = Waiter(row, args, loop.create_future())
    seconds = timeout_of(row, args)
    waiters: Waiters = gateway.waiters
    if not waiters.stands(waiter.keys):
        result = await _try_once(gateway, row, args, waiter.keys)
        if result is not None:
            return result
        waiter.is_new = False
    timer = loop.call_later(seconds, waiter.end, NIL_ARRAY) if seconds else None
    error = ResponseError("UNBLOCKED", "client unblocked via CLIENT UNBLOCK")
    gateway.blocked[client.id] = lambda with_error: waiter.end(error if with_error else NIL_ARRAY)
    waiters.add(waiter)
    try:
        result = await waiter.outcome
    finally:
        waiter.outcome.cancel()
        waiters.remove(waiter)
        gateway.blocked.pop(client.id, None)
        if timer is not None:
            timer.cancel()
    if isinstance(result, Exception):
        raise result
    return result


async def _try_once(gateway: Any, row: Row, args: list[Any], keys: list[bytes]) -> Any:
    """The command as it is, or key by key if they are not all in one slot."""
    if row.name in _MOVES or len({slot_of_key(key) for key in keys}) < 2:
        return await gateway.ask(*args)
    for key in keys:
        result = await gateway.ask(*Waiter(row, args, gateway.loop.create_future()).attempt(key)[0])
        if result is not None:
            return result
    return None


def keys_of(row: Row, args: list[Any]) -> list[bytes]:
    """The keys that a command waits for, each once. Raises CommandFailed for a wrong number of them."""
    if row.name in _MOVES:
        return [args[1]]
    if row.name not in _TIMEOUT_FIRST:
        return list(dict.fromkeys(args[1:-1]))
    try:
        count = int(args[2])
    except ValueError:
        count = 0
    if count <= 0:
        raise CommandFailed("ERR", "numkeys should be greater than 0")
    if count > len(args) - 4:
        raise CommandFailed("ERR", "syntax error")
    return list(dict.fromkeys(args[3 : 3 + count]))


def timeout_of(row: Row, args: list[Any]) -> float:
    """Raises CommandFailed as Redis does."""
    text = args[1] if row.name in _TIMEOUT_FIRST else args[-1]
    try:
        seconds = float(text) if b"_" not in text else float("nan")
    except ValueError:
        seconds = float("nan")
    if seconds != seconds:
        raise CommandFailed("ERR", "timeout is not a float or out of range")
    # Those that no clock can count are negative there, too.
    if not 0 <= seconds <= _SECONDS_MAX:
        raise CommandFailed("ERR", "timeout is negative")
    return seconds
