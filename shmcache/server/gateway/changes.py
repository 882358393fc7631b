"""Which keys are changed, as the write logs of all shards say it, while somebody in this process needs to know.

Nobody needs it: the logs are not open, and nothing is paid. Somebody does: the logs are read to their ends, then this process tells the owners
that it sleeps (`prepare_wait`) and is woken by its doorbell as soon as there is more. What is missed is never passed over: when a log was
faster than its reader, or its regions are others than before, the listeners hear that any key may have changed.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from ..._engine import EngineError, LogTailer, Overtaken, decode_changes
from ...errors import InstanceNotFound
from ...limits import RESP_LOG_BLIND_MS, RESP_LOG_BYTES_MAX, RESP_LOG_LINGER_S, RESP_LOG_LOOK_MS
from ...protocol.attach import open_tailer
from ...protocol.doorbell import Doorbell
from ..paths import bell_path

WRITTEN: Final = 1
"""A change after which the key is there."""
FLUSHED: Final = 2
"""All keys of a shard are gone."""
Change = tuple[int, bytes, int]
"""What, key, stamp: see `_engine.decode_changes`."""


class Changes:
    """The logs of one instance, read for one gateway process."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway
        self._name = f"gateway{gateway.settings['number']}"
        self._needs: dict[object, tuple[Callable[[list[Change]], None], Callable[[], None]]] = {}
        self._tailers: dict[int, LogTailer] = {}
        self._identities: dict[int, tuple[str, int]] = {}
        self._version = -1
        self._bell: Doorbell | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unneeded_since = 0.0
        self.is_blind = False
        """A log cannot be read: it has no place for a further reader, or is not there (yet)."""
        self.missed_bytes = self.rings = 0

    # --- who needs it -------------------------------------------------------------------------------
    def need(self, who: object, changed: Callable[[list[Change]], None], missed: Callable[[], None]) -> None:
        """From now on hand every change to `changed`; `missed` is called when there were some that are not known. Once for each `who`."""
        if who in self._needs:
            return
        # Who comes later does not hear of what was before.
        self.drain()
        self._needs[who] = (changed, missed)
        if self._bell is None:
            self._open()

    def release(self, who: object) -> None:
        """It is needed no longer. The logs stay open for a moment: whoever waited once often waits again at once."""
        if self._needs.pop(who, None) is not None and not self._needs:
            self._unneeded_since = self._gateway.loop.time()

    def _open(self) -> None:
        gateway = self._gateway
        settings = gateway.settings
        self._bell = Doorbell(bell_path(settings["folder"], gateway.instance, self._name), settings["gid"])
        gateway.loop.add_reader(self._bell.fileno(), self._heard)
        self._follow()
        self._turn()

    def close(self) -> None:
        """Read the logs no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for tailer in self._tailers.values():
            tailer.close()
        self._tailers.clear()
        self._identities.clear()
        self._version = -1
        if self._bell is not None:
            self._gateway.loop.remove_reader(self._bell.fileno())
            self._bell.close()
            self._bell = None

    # --- the logs -----------------------------------------------------------------------------------
    def _follow(self) -> bool:
        """Open the logs that there are now. True if one of them is another than before."""
        attachment = self._gateway.attachment()
        if attachment is None or attachment.version == self._version:
            return False
        has_other = False
        self.is_blind = False
        for record in attachment.snapshot.shards:
            # An owner that only took its predecessor's place goes on in the same log.
            identity = (record.log_name, attachment.snapshot.epoch)
            if self._identities.get(record.shard) == identity:
                continue
            former = self._tailers.pop(record.shard, None)
            if former is not None:
                former.close()
            has_other |= self._identities.pop(record.shard, None) is not None
            try:
                self._tailers[record.shard] = open_tailer(record.log_name, self._name, None)
                self._identities[record.shard] = identity
            except (InstanceNotFound, PermissionError, EngineError, Overtaken):
                self.is_blind = True
        self._version = -1 if self.is_blind else attachment.version
        return has_other

    def _heard(self) -> None:
        assert self._bell is not None
        self._bell.silence()
        self.rings += 1
        self._turn()

    def _turn(self) -> None:
        """Hand on what is there, then sleep, or come back at once if there is more than one turn takes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bell is None:
            return
        loop = self._gateway.loop
        if not self._needs and loop.time() - self._unneeded_since > RESP_LOG_LINGER_S:
            return self.close()
        if self._follow() or self.is_blind:
            self._miss()
        more = self._read(RESP_LOG_BYTES_MAX)
        if more or not all([tailer.prepare_wait() for tailer in self._tailers.values()]):
            # Other work of the loop comes in between.
            self._timer = loop.call_later(0, self._turn)
        else:
            self._timer = loop.call_later((RESP_LOG_BLIND_MS if self.is_blind else RESP_LOG_LOOK_MS) / 1000, self._turn)

    def drain(self) -> None:
        """Hand on all that was written up to now, before returning."""
        if self._bell is not None:
            while self._read(RESP_LOG_BYTES_MAX):
                pass

    def _read(self, most: int) -> bool:
        """Hand on up to so many bytes of each log. Whether one had so many."""
        found: list[Change] = []
        more = False
        for shard, tailer in self._tailers.items():
            try:
                data = tailer.poll(most)
            except Overtaken:
                missed = tailer.resume_at_oldest()
                self.missed_bytes += missed
                self._gateway.log.warning("a write log overtook the gateway", shard=shard, missed_bytes=missed)
                self._miss()
                more = True
                continue
            if data:
                more |= len(data) >= most // 2
                found += decode_changes(data)
        if found:
            for changed, _ in list(self._needs.values()):
                changed(found)
        return more

    def _miss(self) -> None:
        for _, missed in list(self._needs.values()):
            with contextlib.suppress(asyncio.CancelledError):
                missed()
