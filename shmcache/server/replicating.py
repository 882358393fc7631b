"""What a worker has to do with replication: its role, records to apply, replies that wait for replicas."""

import select
import time
from collections.abc import Callable
from typing import Any, Final

import zmq

from .. import _engine
from ..errors import InstanceNotFound, LayoutMismatch, ProtocolError
from ..limits import DURABLE_WAIT_S_MAX, MARK_SLICE_US, TICK_MS_BUSY
from ..protocol import codec, frames
from ..protocol.directory import SLOTS
from ..protocol.doorbell import Doorbell, Ringer
from ..protocol.needs import Ack, parse_ack
from ..protocol.replication import ReplicationRegion, Word
from .durable import Disk
from .holding import Held, Holding
from .paths import bell_path

CALLS: Final = frozenset({"apply", "mark", "sweep", "role", "nothing"})
"""Control calls of the relay; the router lets none of them in."""

_NUMBERS: Final = frozenset({"ack_timeout_ms", "max_staleness_ms", "after_stamp"})
"""Options that are whole numbers: checked before anything is executed."""

Refusal = tuple[str, str]
"""Code and text."""


class Replicating:
    """One worker's part in replication."""

    def __init__(self, owner: _engine.Owner, settings: dict[str, Any], log: Any) -> None:
        self._owner, self._settings, self._log = owner, settings, log
        self._shard: int = settings["shard"]
        self._ack: Ack = parse_ack(settings["ack"])
        self._ack_timeout_s: float = settings["ack_timeout_ms"] / 1000
        self._min_replicas: int = settings["min_replicas"]
        self._ringer = Ringer()
        self._bells: dict[str, str] = {}
        self._bell: Doorbell | None = None
        # Not zmq_poll, see selecting.py.
        self._epoll = select.epoll()
        self._region: ReplicationRegion | None = None
        self.holding = Holding()
        self.paused = False
        self.disk = Disk(settings["instance"], self._shard)
        self.watches_writes = self._ack != 0 or self._min_replicas > 0 or self.disk.holds or self.disk.refuses
        """Whether every request has to be looked at."""
        self._open_region()

    def _open_region(self) -> None:
        if self._region is None:
            try:
                self._region = ReplicationRegion.open(self._settings["instance"])
            except (InstanceNotFound, LayoutMismatch):
                # There is no relay (yet); when one comes it tells its role.
                pass

    # --- before a batch -----------------------------------------------------------------------------
    def refuse(self, flags: int, slot: int, options: dict[str, Any]) -> Refusal | None:
        """Why a batch must not be executed now; None if it may."""
        if not flags & frames.READ_ONLY:
            if self.paused:
                return "UNAVAILABLE", "the primary hands its role over; not executed"
            if trouble := self.disk.trouble():
                return "NOTDURABLE", f"{trouble}; not executed"
            if self._min_replicas and (self._region is None or self._region.word(Word.REPLICAS_GOOD) < self._min_replicas):
                return "NOREPLICAS", f"fewer than {self._min_replicas} replicas are connected and close; not executed"
        staleness_ms = options.get("max_staleness_ms")
        after = options.get("after_stamp")
        if staleness_ms is None and after is None:
            return None
        region = self._region
        if region is None or not region.word(Word.IS_REPLICA):
            return None
        if staleness_ms is not None:
            age_ms = time.time_ns() // 1_000_000 - region.word(Word.CURRENT_AS_OF_MS)
            if age_ms > staleness_ms:
                return "STALE", f"this replica is {age_ms} ms behind, {staleness_ms} are allowed"
        if after is not None:
            shards = region.word(Word.UPSTREAM_SHARDS)
            if shards == 0 or region.stamp(slot * shards // SLOTS) < after:
                return "UNAVAILABLE", "the write has not arrived at this replica yet"
        return None

    # --- after a batch ------------------------------------------------------------------------------
    def ring_tailers(self) -> None:
        """Wake the readers of the log that sleep."""
        for name in self._owner.waiting_tailers():
            path = self._bells.get(name)
            if path is None:
                path = self._bells[name] = str(bell_path(self._settings["folder"], self._settings["instance"], name))
            self._ringer.ring(path)

    def ack_of(self, options: dict[str, Any]) -> Ack:
        """What this batch asks for. Raises ProtocolError."""
        if "ack" not in options:
            return self._ack
        try:
            return parse_ack(options["ack"])
        except Exception as error:
            raise ProtocolError(str(error)) from None

    def hold(self, ack: Ack, options: dict[str, Any], release: Callable[[int, int, bool], None], *, durable: bool = False) -> None:
        """Hold a reply until everything in the log up to now is acknowledged, and on the disk if `durable`."""
        timeout_ms = options.get("ack_timeout_ms")
        patience = self._ack_timeout_s if timeout_ms is None else float(timeout_ms) / 1000
        now = time.monotonic()
        held = Held(self._owner.log_position, ack, now + patience, release, now + DURABLE_WAIT_S_MAX if durable else 0.0)
        if (self._region is None and not durable) or self.holding.is_full:
            release(0, 0 if ack == "all" or ack == "quorum" else int(ack), not durable)
            return
        self.holding.add(held)

    def wait(self, socket: "zmq.Socket[bytes]") -> None:
        """Sleep until there is a request or an acknowledgement, while replies are held. `socket` has just been found empty."""
        if self._bell is None:
            self._bell = Doorbell(
                bell_path(self._settings["folder"], self._settings["instance"], f"w{self._shard}"), self._settings["gid"]
            )
            self._epoll.register(self._bell, select.EPOLLIN)
            self._epoll.register(socket.fileno(), select.EPOLLIN)
        if self._review():
            return
        for ready, _ in self._epoll.poll(TICK_MS_BUSY / 1000):
            if ready == self._bell.fileno():
                self._bell.silence()
                self._review()

    def _review(self) -> bool:
        """Look at the acknowledgements; True if nothing is held any more."""
        region, disk = self._region, self.disk
        acks = region.acks(self._shard) if region is not None else []
        known = region.word(Word.REPLICAS_KNOWN) if region is not None else 0
        self.holding.review(acks, known, time.monotonic(), disk.durable(), is_broken=bool(disk.trouble()))
        return not self.holding

    # --- the relay's calls --------------------------------------------------------------------------
    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Carry out one of CALLS. Raises EngineError, KeyError, TypeError, ValueError."""
        match name:
            case "apply":
                effective = self._owner.apply(arguments["records"])
                self.ring_tailers()
                return {"effective": effective}
            case "mark":
                return {"cursor": self._owner.mark_stale(arguments["cursor"], arguments["slots"], MARK_SLICE_US)}
            case "sweep":
                cursor, deleted = self._owner.sweep_stale(arguments["cursor"], arguments["slots"], MARK_SLICE_US)
                return {"cursor": cursor, "deleted": deleted}
            case "role":
                self._open_region()
                self.paused = bool(arguments["paused"])
                # Paused means no effects at all, not even expiry: the successor must end at the same place.
                self._owner.configure(replica=bool(arguments["replica"]) or self.paused, epoch=int(arguments["epoch"]))
                self._owner.set_primary(str(arguments["primary"]))
                self._log.info("role", **arguments)
                return {"position": self._owner.log_position}
        # "nothing": how far its log is; between two batches, so that all with such a stamp is in it.
        return {"shard": self._shard, "position": self._owner.log_position, "stamp": self._owner.last_stamp}

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
        self._epoll.close()
        self._ringer.close()


def split_options(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Options and batch of a payload with the flag OPTIONS. Raises ProtocolError."""
    options, size = codec.decode_options(payload)
    for name in _NUMBERS & options.keys():
        if type(options[name]) is not int or options[name] < 0:
            raise ProtocolError(f"the option {name} is {options[name]!r}, not a number")
    return options, payload[size:]
