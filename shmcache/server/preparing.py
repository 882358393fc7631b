"""A worker's parts in transactions over several shards: prepared, held, and ended as the first shard decides.

The first (lowest) shard of a transaction is its decider. Whoever carries the transaction out tells it to commit; if nothing is heard for TRANSACTION_LEASE_MS
it gives the transaction up. The others do what the decider did, told or not: they see it in its region (`_engine.Decisions`).
"""

import contextlib
import os
import time
from collections import OrderedDict, deque
from typing import Any, Final

import posix_ipc

from .. import _engine
from ..errors import ProtocolError
from ..limits import (
    TRANSACTION_ASIDE_BYTES_MAX,
    TRANSACTION_ASIDE_MESSAGES_MAX,
    TRANSACTION_CALL_BYTES_MAX,
    TRANSACTION_HELD_S_MAX,
    TRANSACTION_LEASE_MS,
    TRANSACTION_LOOK_MS,
    TRANSACTION_OUTCOMES_MAX,
)
from ..protocol import codec, frames
from ..protocol.names import region_name
from .replicating import Refusal, Replicating, split_options
from .scripting.scripts import Scripts

_ENDING: Final = frozenset({"decide", "commit", "abandon"})
CALLS: Final = _ENDING | {"prepare"}
"""Control calls of whoever carries out a transaction."""


class Preparing:
    """At most one part at a time: while there is one the worker does nothing else."""

    def __init__(
        self, owner: _engine.Owner, scripts: Scripts, replicating: Replicating, settings: dict[str, Any], log: Any
    ) -> None:
        self._owner, self._scripts, self._replicating, self._log = owner, scripts, replicating, log
        self._instance: str = settings["instance"]
        self._shard: int = settings["shard"]
        self.token = 0
        """Of what is held; 0: nothing is."""
        self._decider = 0
        self._look_at = self._held_until = 0.0
        self._outcomes: OrderedDict[int, bool] = OrderedDict()
        if owner.resolved is not None:
            self._note(*owner.resolved)

    # --- the calls ----------------------------------------------------------------------------------
    def prepare(self, slot: int, arguments: dict[str, Any]) -> Refusal | list[Any]:
        """Run a part and hold it: [whether it is held, results]; no results if it comes too late.

        Raises ProtocolError, EngineError, KeyError, TypeError.
        """
        token, decider, flags, payload = int(arguments["token"]), int(arguments["decider"]), int(arguments["flags"]), arguments["payload"]
        options: dict[str, Any] = split_options(arguments["options"])[0] if arguments["options"] else {}
        if token in self._outcomes:
            return [False, b""]
        if not 0 <= decider <= self._shard < _engine.MAX_DECISION_SHARDS:
            raise ProtocolError(f"shard {decider} cannot decide for shard {self._shard}")
        refusal = self._replicating.refuse(flags, slot, options)
        if refusal is not None:
            return refusal
        # What cannot be waited for is refused before anything is done.
        self._replicating.ack_of(options)
        if flags & frames.SCRIPTS:
            reply = self._scripts.execute(payload, flags | frames.TRANSACTION, (token, decider))
        else:
            reply = self._owner.prepare(payload, token, decider, _engine.FLAG_READ_ONLY if flags & frames.READ_ONLY else 0)
        if not self._owner.prepared:
            return [False, reply]
        now = time.monotonic()
        self.token, self._decider, self._held_until = token, decider, now + TRANSACTION_HELD_S_MAX
        self._look_at = now + (TRANSACTION_LEASE_MS if decider == self._shard else TRANSACTION_LOOK_MS) / 1000
        return [True, reply]

    def decide(self, arguments: dict[str, Any]) -> bool | None:
        """Commit, for these other shards too; whether that is done. None: nothing is known of it (any more)."""
        token, shards = int(arguments["token"]), [int(shard) for shard in arguments["shards"]]
        if token == self.token and self._decider == self._shard:
            self._owner.commit_prepared(shards)
            self._ended(True)
        return self._known(token, self._shard, shards)

    def commit(self, arguments: dict[str, Any]) -> bool | None:
        """Do what is decided; as `decide`."""
        token = int(arguments["token"])
        if token == self.token and self._decider != self._shard:
            self._end(True)
        return self._known(token, int(arguments["decider"]), [self._shard])

    def _known(self, token: int, decider: int, shards: list[int]) -> bool | None:
        """How a transaction ended here. A worker that was started since asks the decider's region, in which the last one of each shard stands."""
        if token in self._outcomes or not token:
            return self._outcomes.get(token)
        return any(outcome_at(self._instance, decider, token, shard) for shard in shards) or None

    def abandon(self, arguments: dict[str, Any]) -> bool:
        """Give a part up, also one that is still to come. Whether it was held until now."""
        token = int(arguments["token"])
        if token == self.token:
            self._end(False)
            return True
        if token not in self._outcomes:
            self._note(token, False)
        return False

    # --- while it is held ---------------------------------------------------------------------------
    def wait_ms(self) -> int:
        """How long messages may be waited for until it is time to `look`."""
        left = self._look_at - time.monotonic()
        return int(left * 1000) + 1 if left > 0 else 0

    def look(self) -> None:
        """Whoever carries out the transaction may be gone: end the part if that is due."""
        now = time.monotonic()
        if self._decider == self._shard:
            return self._end(False)
        outcome = outcome_at(self._instance, self._decider, self.token, self._shard)
        if outcome is None and now < self._held_until:
            self._look_at = now + TRANSACTION_LOOK_MS / 1000
            return None
        if outcome is None:
            self._log.error("a part of a transaction is given up: the first shard has not decided", decider=self._decider)
        return self._end(bool(outcome))

    def _end(self, commits: bool) -> None:
        if commits:
            self._owner.commit_prepared()
        else:
            self._owner.abandon_prepared()
        self._ended(commits)

    def _ended(self, is_committed: bool) -> None:
        self._note(self.token, is_committed)
        self.token = 0
        self._replicating.ring_tailers()

    def _note(self, token: int, is_committed: bool) -> None:
        self._outcomes[token] = is_committed
        if len(self._outcomes) > TRANSACTION_OUTCOMES_MAX:
            self._outcomes.popitem(last=False)


class Aside:
    """Messages that came while the shard was held."""

    def __init__(self) -> None:
        self.messages: deque[list[bytes]] = deque()
        self._bytes = 0

    def add(self, message: list[bytes]) -> bool:
        """False if there is no room for it."""
        size = len(message[-1])
        if len(self.messages) >= TRANSACTION_ASIDE_MESSAGES_MAX or self._bytes + size > TRANSACTION_ASIDE_BYTES_MAX:
            return False
        self._bytes += size
        self.messages.append(message)
        return True

    def take(self) -> list[bytes]:
        """The one that came first."""
        message = self.messages.popleft()
        self._bytes -= len(message[-1])
        return message


def is_ending(message: list[bytes]) -> bool:
    """Whether it is a call that a held shard answers: all others wait."""
    if len(message) < 3 or len(message[-1]) > TRANSACTION_CALL_BYTES_MAX:
        return False
    try:
        return bool(frames.unpack_header(message[-2]).flags & frames.CONTROL) and codec.decode_control(message[-1])[0] in _ENDING
    except ProtocolError:
        return False


def outcome_at(instance: str, decider: int, token: int, shard: int) -> bool | None:
    """What the decider's region says of a transaction; None: nothing yet."""
    # Opened each time: it is seldom looked for, and the region may be another one since.
    with contextlib.suppress(posix_ipc.Error, OSError, _engine.EngineError):
        fd = posix_ipc.SharedMemory(region_name(instance, decider, "data"), read_only=True).fd
        try:
            return _engine.Decisions(fd).outcome(token, shard)
        finally:
            os.close(fd)
    return None


def was_decided(settings: dict[str, Any], data_fd: int, log: Any) -> bool:
    """Whether what the former worker had prepared is to be committed."""
    try:
        token, decider = _engine.Decisions(data_fd).prepared
    except _engine.EngineError:
        # Whoever attaches will say so.
        return False
    if not token or decider == settings["shard"]:
        return False
    until = time.monotonic() + TRANSACTION_HELD_S_MAX
    while (outcome := outcome_at(settings["instance"], decider, token, settings["shard"])) is None and time.monotonic() < until:
        time.sleep(TRANSACTION_LOOK_MS / 1000)
    if outcome is None:
        log.error("a part of a transaction is given up: the first shard has not decided", decider=decider)
    return bool(outcome)
