"""Reads answered by the shared memory itself, with the owner as the way out."""

from collections.abc import Generator
from typing import Any

from .._engine import Busy, CommandError, EngineError, Retired
from ..errors import CommandFailed, from_reply
from ..protocol.commands import Args, cursor_number, pack_cursor, unpack_cursor
from .exchange import Deadline, Step
from .options import NO_OPTIONS, RequestOptions
from .routes import Attachment, LocalRoute, pause
from .session import command_steps


def read(attachment: Attachment, args: Args) -> Any:
    """Raw result of a command flagged `local`.

    Raises ResponseError, or Busy, Retired and EngineError as the reader does.
    """
    try:
        if args[0] == "SCAN":
            return _scan(attachment, args)
        if args[0] == "MGET":
            # A way of its own: it fetches the entries ahead and makes no copy of the keys.
            return attachment.reader.mget(args[1:])
        return attachment.reader.command(*args)
    except CommandError as error:
        raise from_reply(error.code, error.message) from None


def _scan(attachment: Attachment, args: Args) -> Any:
    options = {str(name).upper(): value for name, value in zip(args[2::2], args[3::2], strict=False)}
    if len(args) % 2 or not options.keys() <= {"MATCH", "COUNT", "TYPE"}:
        raise Busy("the owner knows what is wrong with it")
    match, kind = options.get("MATCH"), options.get("TYPE")
    count = cursor_number(options.get("COUNT", 10))
    if count == 0:
        raise CommandFailed("ERR", "syntax error")
    shards = attachment.slots.shards
    shard, inner = unpack_cursor(cursor_number(args[1]), shards)
    inner, keys = attachment.reader.scan(
        shard,
        inner,
        match if match is None or isinstance(match, bytes) else str(match).encode(),
        count,
        kind.decode() if isinstance(kind, bytes) else kind,
    )
    return [pack_cursor(shard, inner, shards), keys]


def read_steps(
    route: LocalRoute, args: Args, deadline: Deadline, options: RequestOptions = NO_OPTIONS
) -> Generator[Step, Any, Any]:
    """A read that did not succeed at once: map anew what was retired, ask the owner if the reader is kept
    busy.
    """
    attempt = 0
    regions_gone = False
    while True:
        yield from route.prepare(deadline, regions_gone=regions_gone)
        assert route.attachment is not None
        try:
            return read(route.attachment, args)
        except Retired as error:
            attempt += 1
            regions_gone = True
            yield from pause(attempt, deadline, route.given_up(error))
        except EngineError:
            return (yield from command_steps(route, args, deadline, options))
