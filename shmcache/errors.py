"""All errors that shmcache raises, in one tree.

ShmcacheError
├── ConfigError              an option is wrong; names the option and where it came from
├── InstanceNotFound         no instance of that name runs on this host
├── InstanceExists           another server of that name runs already
├── LayoutMismatch           a region was written by another layout version
├── NoSpace                  /dev/shm or the memory cgroup is full
├── DamagedFile              a snapshot or log file is not what was written; names the file and the offset
├── WrongKey                 a file is encrypted, and its key was not given; names the file and the key
├── ArchiveError             the object store does not answer, or does not have what it should; names the object
├── NotDurable               a write is applied in memory, but not on disk; or refused because the disk does not take any more
├── ProtocolError            bytes that are not the protocol
├── LimitExceeded            a message, batch or queue is over its limit
├── BadChannel               a channel's name or pattern that there cannot be (also ValueError)
├── DataError                an argument has a type that cannot be stored (also TypeError)
├── NotReplicated            a write is applied locally, but fewer replicas have it than were asked for
├── NotEnoughReplicas        refused: too few replicas are connected (min_replicas_to_write); nothing was executed
├── TooStale                 refused: the replica is further behind than the read allows
├── Unavailable              nobody answers for the shard (also ConnectionError)
│   ├── OutcomeUnknown       a write was sent and its reply never came: it may or may not have happened
│   └── NotAuthorized        the server refused the connection: a key is missing, wrong or not on its list
├── CacheTimeout             the call's time ran out; a write may or may not have happened (also TimeoutError)
└── ResponseError            a command's error reply, by its code:
    ├── CommandFailed        ERR        ├── WrongType   WRONGTYPE     ├── OutOfMemory  OOM
    ├── CrossSlot            CROSSSLOT  ├── Moved       MOVED         └── ReadOnly     READONLY
    └── ShardFull            NOSPACE
"""

from typing import Any


class ShmcacheError(Exception):
    """Base of everything that shmcache raises on purpose."""


class ConfigError(ShmcacheError):
    """An option's value or source is wrong."""


class InstanceNotFound(ShmcacheError):
    """No instance of that name runs on this host (or it has just stopped)."""


class InstanceExists(ShmcacheError):
    """A server of that name runs already."""


class LayoutMismatch(ShmcacheError):
    """A shared memory object is not ours or has another layout version."""


class NoSpace(ShmcacheError):
    """/dev/shm or the memory cgroup has no room for a region."""


class DamagedFile(ShmcacheError):
    """A file of the persistence is not what was written there. `name`, `offset` in bytes, `what` is wrong."""

    def __init__(self, name: str, offset: int, what: str) -> None:
        super().__init__(f"{name}, offset {offset}: {what}")
        self.name, self.offset, self.what = name, offset, what


class WrongKey(ShmcacheError):
    """A file of the persistence is encrypted with a key that was not given."""


class ArchiveError(ShmcacheError):
    """An object store cannot be reached, or does not have what it should have."""


class NotDurable(ShmcacheError):
    """The append-only file does not take writes (its disk is full, or failed). The message says whether this write was executed in memory."""


class ProtocolError(ShmcacheError):
    """A frame or payload that does not follow docs/protocol.md."""


class LimitExceeded(ShmcacheError):
    """A message, batch or queue is over its limit; nothing was executed."""


class BadChannel(ShmcacheError, ValueError):
    """A channel's name is empty, contains a zero byte, or is reserved."""


class DataError(ShmcacheError, TypeError):
    """An argument is neither bytes, str, int nor float."""


class NotReplicated(ShmcacheError):
    """A write took effect here, but fewer replicas acknowledged it in time than were asked for.

    `acknowledged` of `needed` replicas have it.
    """

    def __init__(self, message: str, acknowledged: int = 0, needed: int = 0) -> None:
        super().__init__(message)
        self.acknowledged, self.needed = acknowledged, needed


class NotEnoughReplicas(ShmcacheError):
    """Fewer replicas than `min_replicas_to_write` are connected and close; nothing was executed."""


class TooStale(ShmcacheError):
    """The replica that was asked is further behind than the read allows."""


class Unavailable(ShmcacheError, ConnectionError):
    """The shard's worker could not be reached; nothing was executed."""


class OutcomeUnknown(Unavailable):
    """A write went out and its reply never came: it may or may not have happened. Also when it was sent again and refused then."""


class NotAuthorized(Unavailable):
    """The server refused the connection's handshake: a key is missing, wrong or not on its list."""


class CacheTimeout(ShmcacheError, TimeoutError):
    """The call's time ran out.

    A read changed nothing. A write that may be repeated (a plain SET, a DEL) may or may not have happened,
    and is not executed any more: doing it again is safe. One that may not be repeated ends as
    `OutcomeUnknown`.
    """


class ResponseError(ShmcacheError):
    """A command's error reply. `code` is its class (`WRONGTYPE`), `message` the rest."""

    default_code = "ERR"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message if self.code == "ERR" else f"{self.code} {self.message}"


class CommandFailed(ResponseError):
    """ERR: wrong arity, syntax, not an integer, unknown command ..."""


class WrongType(ResponseError):
    """WRONGTYPE: the key holds another kind of value."""

    default_code = "WRONGTYPE"


class OutOfMemory(ResponseError):
    """OOM: the memory limit is reached and the policy may not evict."""

    default_code = "OOM"


class CrossSlot(ResponseError):
    """CROSSSLOT: the keys of one command or transaction hash to different slots."""

    default_code = "CROSSSLOT"


class Moved(ResponseError):
    """MOVED: the shard that was asked does not own the key's slot (any more)."""

    default_code = "MOVED"


class ReadOnly(ResponseError):
    """READONLY: a write to a replica, or in a message flagged read-only."""

    default_code = "READONLY"


class ShardFull(ResponseError):
    """NOSPACE: the host's shared memory is full, the write did not happen."""

    default_code = "NOSPACE"


class OverLimit(ResponseError, LimitExceeded):
    """LIMIT: a key or value is longer than the engine takes."""

    default_code = "LIMIT"


_BY_CODE: dict[str, type[ResponseError]] = {
    cls.default_code: cls
    for cls in (CommandFailed, WrongType, OutOfMemory, CrossSlot, Moved, ReadOnly, ShardFull, OverLimit)
}
_REFUSALS: dict[str, type[ShmcacheError]] = {
    "PROTOCOL": ProtocolError,
    "LIMIT": LimitExceeded,
    "DEADLINE": CacheTimeout,
    "NOTDURABLE": NotDurable,
    "UNAVAILABLE": Unavailable,
    "NOTREPLICATED": NotReplicated,
    "NOREPLICAS": NotEnoughReplicas,
    "STALE": TooStale,
}


def from_reply(code: str, message: str) -> ResponseError:
    """The error of one failed command; an unknown code gives a plain `ResponseError`."""
    return _BY_CODE.get(code, ResponseError)(code, message)


def from_refusal(code: str, message: str, fields: dict[str, Any] | None = None) -> ShmcacheError:
    """The error that a whole message ended with (flag ERROR); nothing of it was executed, `NotReplicated` excepted."""
    refusal = _REFUSALS.get(code)
    if refusal is NotReplicated and fields:
        return NotReplicated(message, int(fields.get("acknowledged", 0)), int(fields.get("needed", 0)))
    return refusal(message) if refusal is not None else from_reply(code, message)
