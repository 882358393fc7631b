"""Commands that are collected and sent together: the part without waiting."""

from collections.abc import Generator, Set
from typing import Any, Final, Self

from .._engine import EngineError
from ..errors import DataError, ResponseError
from ..protocol.commands import LOCAL, Args
from .arguments import Key, Value, all_plain
from .core import ClientCore
from .exchange import Deadline, Step
from .hub import PUBLISHING, publish_command, publisher, publishing_steps
from .local import read
from .methods import CommandMethods
from .replies import finish_all
from .routes import LocalRoute
from .session import pipeline_steps
from .transactions import transaction_steps


class PipelineCore(CommandMethods):
    """Every method adds its command and returns the pipeline; `execute` runs them."""

    def __init__(self, client: ClientCore, transaction: bool) -> None:
        self._client = client
        self._transaction = transaction
        self._commands: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._commands)

    def __bool__(self) -> bool:
        return True

    def _run(self, args: tuple[Any, ...], timeout: float | None = None) -> Self:
        if timeout is not None:
            raise DataError("a pipeline has one timeout: pass it to execute()")
        self._commands.append(args)
        return self

    # GET and SET are shorter than the inherited way, because pipelines are used where speed counts.
    def get(self, name: Key, *, timeout: float | None = None) -> Self:
        """Adds GET."""
        if timeout is not None:
            return self._run(("GET", name), timeout)
        self._commands.append(("GET", name))
        return self

    def set(self, name: Key, value: Value, *options: Any, **named: Any) -> Self:
        """Adds SET; options as `Client.set` has them."""
        if options or named:
            return super().set(name, value, *options, **named)  # type: ignore[no-any-return]
        self._commands.append(("SET", name, value))
        return self

    def publish(self, channel: Key, message: Value, *, timeout: float | None = None) -> Self:
        """Adds PUBLISH. Messages go out in their order when all other commands of the pipeline have been executed; a transaction takes none."""
        return self._run(publish_command("PUBLISH", channel, message), timeout)

    def spublish(self, shard_channel: Key, message: Value, *, timeout: float | None = None) -> Self:
        """Adds SPUBLISH, as `publish`."""
        return self._run(publish_command("SPUBLISH", shard_channel, message), timeout)

    def execute_command(self, *args: Any, timeout: float | None = None) -> Self:
        """Adds any command by name."""
        publish = publisher(self, args)
        found = super().execute_command(*args, timeout=timeout) if publish is None else publish(*args[1:], timeout=timeout)
        return found  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget what was collected."""
        self._commands = []

    def _take(self) -> tuple[list[Args], Set[str]]:
        """The collected commands, checked, and their names; the pipeline is empty then. Raises DataError."""
        commands, self._commands = self._commands, []
        names = {command[0] for command in commands}
        if self._transaction and not names.isdisjoint(PUBLISHING):
            raise DataError("a message cannot be part of a transaction: the hub that carries it is no shard")
        return all_plain(commands), names

    def _read_now(self, commands: list[Args], names: Set[str]) -> list[Any] | None:
        """Raw results if all commands are reads that the shared memory answers."""
        route = self._client._route
        if not names <= LOCAL or self._transaction:
            return None
        if not isinstance(route, LocalRoute) or route.attachment is None:
            return None
        self._client._check_fresh()
        try:
            if names == {"GET"} and all(len(command) == 2 for command in commands):
                return list(route.attachment.reader.mget([command[1] for command in commands]))
            return [_read_or_error(route, command) for command in commands]
        except EngineError:
            return None

    def _steps(self, commands: list[Args], names: Set[str], deadline: Deadline) -> Generator[Step, Any, list[Any]]:
        if not names.isdisjoint(PUBLISHING):
            return self._steps_with_messages(commands, deadline)
        steps = transaction_steps if self._transaction else pipeline_steps
        return steps(self._client._route, commands, deadline, self._client._options)

    def _steps_with_messages(self, commands: list[Args], deadline: Deadline) -> Generator[Step, Any, list[Any]]:
        """The messages last: who receives one finds done what was asked for with it."""
        others = [command for command in commands if command[0] not in PUBLISHING]
        messages = [command for command in commands if command[0] in PUBLISHING]
        done: list[Any] = []
        if others:
            done = yield from pipeline_steps(self._client._route, others, deadline, self._client._options)
        sent = yield from publishing_steps(self._client._hub, messages, deadline)
        left, met = iter(done), iter(sent)
        return [next(met) if command[0] in PUBLISHING else next(left) for command in commands]

    def _finish(
        self, commands: list[Args], names: Set[str], results: list[Any], raise_on_error: bool
    ) -> list[Any]:
        """The callers' results; raises the first error if wished."""
        if raise_on_error and not _NO_ERRORS.issuperset(map(type, results)):
            for number, result in enumerate(results, 1):
                if isinstance(result, Exception):
                    raise _annotated(result, number, commands[number - 1])
        return finish_all(commands, names, results, self._client.decode_responses)


_NO_ERRORS: Final = frozenset({bytes, str, int, list, type(None)})
"""Types of nearly all results: one look at them saves many."""


def _read_or_error(route: LocalRoute, command: tuple[Any, ...]) -> Any:
    assert route.attachment is not None
    try:
        return read(route.attachment, command)
    except ResponseError as error:
        return error


def _annotated(error: Exception, number: int, command: tuple[Any, ...]) -> Exception:
    if isinstance(error, ResponseError):
        text = " ".join(repr(part)[:40] if type(part) is bytes else str(part)[:40] for part in command[:4])
        return type(error)(error.code, f"command # {number} ({text}) of the pipeline: {error.message}")
    return error
