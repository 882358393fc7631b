"""The commands for scripts, which a worker carries out itself: their rows of the command table. No I/O."""

from collections.abc import Sequence
from typing import Any, Final

from .._engine import CommandSpec
from ..errors import CommandFailed, ResponseError

_WRITES: Final = frozenset({"write", "noscript"})
_READS: Final = frozenset({"readonly", "noscript"})


def _row(name: str, arity: int, flags: frozenset[str], split: str, summary: str, numkeys: int = 0) -> CommandSpec:
    return CommandSpec(name, arity, 0, 0, 0, flags, split, "script", summary, numkeys)


SCRIPT_COMMANDS: Final = (
    _row("EVAL", -3, _WRITES, "shard", "Run a script: its text, the number of keys, the keys, arguments.", 2),
    _row("EVALSHA", -3, _WRITES, "shard", "Run a script that the shard knows, by the SHA-1 of its text.", 2),
    _row("EVALSHA_RO", -3, _READS, "shard", "As EVALSHA; the script may not write.", 2),
    _row("EVAL_RO", -3, _READS, "shard", "As EVAL; the script may not write.", 2),
    _row("FCALL", -3, _WRITES, "shard", "Call a function of a library: its name, the number of keys, the keys, arguments.", 2),
    _row("FCALL_RO", -3, _READS, "shard", "As FCALL, for functions flagged no-writes.", 2),
    _row("FUNCTION", -2, _WRITES, "none", "Libraries of functions: LOAD, LIST, DELETE, FLUSH, DUMP, RESTORE, STATS."),
    _row("SCRIPT", -2, _READS | {"idempotent", "all_shards"}, "scripts", "The scripts that the shards know: LOAD, EXISTS, FLUSH."),
)
"""Split `shard`: the keys must be of one shard; `scripts`: every shard is asked, see `merge_scripts`."""

RUN_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"})

_AS: Final = "as"


def as_user(args: Sequence[Any], rights: bytes) -> list[Any]:
    """A command that runs a script for somebody who may not do everything: a map behind the last argument says what (server/acl/passing.py)."""
    return [*args, {_AS: rights}]


def split_user(command: list[Any]) -> tuple[list[Any], bytes | None]:
    """(Command, rights) of a command that may have been made by `as_user`. Raises CommandFailed."""
    last = command[-1]
    if type(last) is not dict:
        return command, None
    rights = last.get(_AS)
    if type(rights) is not bytes or len(command) < 2:
        raise CommandFailed("ERR", "a map at the end of a command says as whom it runs")
    return command[:-1], rights


ANSWERED_ELSEWHERE: Final = frozenset(
    ["ACL", "ASKING", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "DISCARD", "EXEC", "FAILOVER", "HELLO", "LASTSAVE", "LATENCY", "MEMORY", "MODULE", "MONITOR", "MULTI", "PSUBSCRIBE", "PSYNC", "PUBLISH", "PUBSUB", "PUNSUBSCRIBE", "QUIT", "READONLY", "READWRITE", "REPLCONF", "REPLICAOF", "RESET", "ROLE", "SAVE", "SELECT", "SHUTDOWN", "SLAVEOF", "SLOWLOG", "SPUBLISH", "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "SWAPDB", "SYNC", "UNSUBSCRIBE", "UNWATCH", "WAIT", "WATCH"]
)
"""Commands that there are, but which no shard can carry out for a script."""


def merge_scripts(results: list[Any]) -> Any:
    """The answer of all shards to SCRIPT. A script exists if all of them know it."""
    failed = next((result for result in results if isinstance(result, ResponseError)), None)
    if failed is not None:
        return failed
    if isinstance(results[0], list):
        return [min(found) for found in zip(*results, strict=True)]
    return results[0]
