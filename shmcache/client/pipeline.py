"""Commands that are collected and sent together: the part without waiting."""

from collections.abc import Generator
from typing import Any, Self

from .._engine import EngineError
from ..errors import DataError, ResponseError
from ..protocol.commands import LOCAL
from .arguments import Key, plain
from .core import ClientCore
from .exchange import Step
from .local import read
from .methods import CommandMethods
from .replies import CALLBACKS, finish
from .routes import LocalRoute
from .session import pipeline_steps


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

    def get(self, name: Key, *, timeout: float | None = None) -> Self:
        """Adds GET. Shorter than the inherited way, because pipelines are used where speed counts."""
        if timeout is not None:
            return self._run(("GET", name), timeout)
        self._commands.append(("GET", name))
        return self

    def reset(self) -> None:
        """Forget what was collected."""
        self._commands = []

    def _take(self) -> list[tuple[Any, ...]]:
        """The collected commands, checked; the pipeline is empty afterwards. Raises DataError."""
        commands, self._commands = self._commands, []
        return list(map(plain, commands))

    def _read_now(self, commands: list[tuple[Any, ...]]) -> list[Any] | None:
        """Raw results if all commands are reads that the shared memory answers."""
        route = self._client._route
        if self._transaction or not isinstance(route, LocalRoute) or route.attachment is None:
            return None
        names = {command[0] for command in commands}
        try:
            if names == {"GET"} and all(len(command) == 2 for command in commands):
                return list(route.attachment.reader.mget([command[1] for command in commands]))
            if LOCAL.issuperset(names):
                return [_read_or_error(route, command) for command in commands]
        except EngineError:
            pass
        return None

    def _steps(
        self, commands: list[tuple[Any, ...]], timeout: float | None
    ) -> Generator[Step, Any, list[Any]]:
        seconds = self._client.timeout if timeout is None else timeout
        return (yield from pipeline_steps(self._client._route, commands, seconds, self._transaction))

    def _finish(self, commands: list[tuple[Any, ...]], results: list[Any], raise_on_error: bool) -> list[Any]:
        """The callers' results; raises the first error if wished."""
        decode = self._client.decode_responses
        names = {command[0] for command in commands}
        if decode or not CALLBACKS.keys().isdisjoint(names) or "TYPE" in names:
            pairs = zip(commands, results, strict=True)
            results = [finish(command[0], result, decode) for command, result in pairs]
        if raise_on_error:
            for number, result in enumerate(results, 1):
                if isinstance(result, Exception):
                    raise _annotated(result, number, commands[number - 1])
        return results


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
