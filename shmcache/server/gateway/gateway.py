"""What the connections of one gateway process share: the map of the instance, the lanes to its shards, clients, figures."""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from ..._engine import Packer
from ...client.exchange import Deadline
from ...client.hub import HubRoute, hub_steps
from ...client.routes import Attachment, LocalRoute
from ...client.session import command_steps
from ...errors import InstanceNotFound, Unavailable
from ...limits import RESP_PUSHED_BYTES_MAX, RESP_TIMEOUT_S
from ...protocol.commands import SlotMap
from . import watching
from .acl.guard import Guard
from .blocking import Waiters
from .changes import Changes
from .lanes import Lanes
from .packed import packer_for
from .replies import ERRORS
from .rows import Row
from .slowlog import SlowLog
from .tls import Certificates

if TYPE_CHECKING:
    from .connection import Connection

_HOUSEKEEPING_S: Final = 1.0


class Gateway:
    """One process of the RESP port."""

    def __init__(self, settings: dict[str, Any], loop: asyncio.AbstractEventLoop, log: Any) -> None:
        self.settings, self.loop, self.log = settings, loop, log
        self.instance: str = settings["instance"]
        self.route = LocalRoute(self.instance, False)
        self.hub = HubRoute(self.route, False)
        self.lanes = Lanes(self.route, loop, self._delivered, log)
        self.clients: dict[int, Connection] = {}
        self.guard = Guard(settings, self.clients, log)
        self.certificates = Certificates(settings["tls"], log) if settings["tls"] else None
        self.touched: set[Connection] = set()
        self.monitors: set[Connection] = set()
        self.is_careful = False
        self._paused_until = 0.0
        self.clients_max: int = settings["clients_max"]
        self.timeout_s: int = settings["timeout_s"]
        self.output_bytes_max: int = settings["output_bytes"]
        self.pushed_bytes_max = RESP_PUSHED_BYTES_MAX
        self.slots = SlotMap((), ())
        self._lately: Attachment | None = None
        self._looked_at = -1.0
        self.packer: Packer | None = None
        """Packs requests by `slots`."""
        self.takes_packets = False
        """All goes to one shard: packets can wait as they came."""
        self.options: dict[str, str] = {}
        """Redis' options that mean nothing here but were set, to be read back."""
        self.started = time.time()
        self.commands = self.connections = self.rejected = self.bytes_in = self.bytes_out = 0
        self.errors = ERRORS
        self.slowlog = SlowLog()
        self.lanes.slow = self._slow
        self.note_slower_than(self.slowlog.threshold_us)
        self.rates: deque[tuple[float, int]] = deque([(loop.time(), 0)], 16)
        self._next_id = (settings["number"] << 48) + 1
        self._paused_all = False
        self._released: asyncio.Future[None] | None = None
        self.has_keeper: bool = settings["has_keeper"]
        self.base: dict[str, int] = {}
        """Counters of the workers at the last CONFIG RESETSTAT."""
        self.blocked: dict[int, Any] = {}
        """Clients that wait for a key, by their ids, and how to wake them."""
        self.changes = Changes(self)
        self.waiters = Waiters(self)
        self.tracking: Any = None
        """Who is told of keys that are changed (`tracking.Table`)."""

    # --- the map ------------------------------------------------------------------------------------
    def attachment(self, *, regions_gone: bool = False) -> Attachment | None:
        """The mapping as it is now; None while the instance is not there."""
        route = self.route
        attachment = route.attachment
        if regions_gone or attachment is None or attachment.directory.version != attachment.version:
            try:
                attachment = route.attach(regions_gone=regions_gone)
            except (InstanceNotFound, Unavailable):
                return None
        slots = route.write_slots
        if slots is not self.slots:
            self.slots, self.packer = slots, packer_for(slots)
            self.takes_packets = slots.shards == 1
        return attachment

    def attachment_lately(self, now: float) -> Attachment | None:
        """The mapping as it was in this millisecond of the loop's clock: a worker tells if it is not the one that is meant, and so does a reader."""
        if now != self._looked_at:
            self._looked_at = now
            self._lately = self.attachment()
        return self._lately

    def command_steps(self, args: Any) -> Coroutine[Any, Any, Any]:
        """One command as a client of its own would ask it, also while the instance is not there."""
        return self.lanes.run(command_steps(self.route, args, Deadline.after(RESP_TIMEOUT_S), by_shard=True))

    async def ask(self, *args: Any) -> Any:
        """The result of one command to the shards. Raises ShmcacheError."""
        return await self.command_steps(args)

    async def ask_hub(self, request: Any) -> list[Any]:
        """Results of one request to the hub. Raises ShmcacheError."""
        found: list[Any] = await self.lanes.run(hub_steps(self.hub, request, Deadline.after(RESP_TIMEOUT_S)))
        return found

    def _delivered(self) -> None:
        while self.touched:
            self.touched.pop().deliver()

    # --- clients ------------------------------------------------------------------------------------
    def admit(self, connection: "Connection") -> bool:
        """Take a new client, if there is a place for it."""
        if len(self.clients) >= self.clients_max:
            self.rejected += 1
            return False
        self.connections += 1
        connection.id = self._next_id
        self._next_id += 1
        self.clients[connection.id] = connection
        return True

    def forget(self, connection: "Connection") -> None:
        self.clients.pop(connection.id, None)
        self.tracking.leave(connection)
        watching.forget(connection)
        if connection in self.monitors:
            self.monitors.discard(connection)
            self.refresh()

    def refresh(self) -> None:
        """After any change of what concerns all connections."""
        self.is_careful = bool(self.monitors) or self._paused_until > self.loop.time() or self.slowlog.threshold_us == 0

    def note_slower_than(self, threshold_us: int) -> None:
        """Microseconds from which on the slow log has a command; negative: none."""
        self.slowlog.threshold_us = threshold_us
        self.lanes.slow_s = threshold_us / 1e6 if threshold_us >= 0 else float("inf")
        self.refresh()

    def _slow(self, seconds: float, payload: bytes, items: list[Any]) -> None:
        found = [getattr(item[1], "connection", None) for item in items if type(item) is tuple]
        self.slowlog.note_message(seconds, payload, list(dict.fromkeys(one for one in found if one is not None)))

    def note(self, connection: "Connection", row: Row, args: list[Any]) -> None:
        """A command is about to be carried out while somebody wants to know of all of them."""
        if self.monitors and "nomonitor" not in row.flags:
            self.show(connection, args)
        if not self.slowlog.threshold_us and (row.local or row.handler is not None) and row.name != "SLOWLOG":
            self.slowlog.note(0.0, args, connection.peer, connection.name)

    def show(self, connection: "Connection", args: list[Any]) -> None:
        """Tell those who monitor."""
        now = time.time()
        words = " ".join(f'"{_escaped(part)}"' for part in args)
        line = f"+{now:.6f} [0 {connection.peer}] {words}\r\n".encode("latin-1", "replace")
        for monitor in list(self.monitors):
            if monitor is not connection and not monitor.transport.is_closing():
                monitor.transport.write(line)
                if monitor.transport.get_write_buffer_size() > self.pushed_bytes_max:
                    monitor.transport.abort()

    # --- CLIENT PAUSE -------------------------------------------------------------------------------
    def pause(self, seconds: float, everything: bool) -> None:
        """Hold back all commands, or those that write."""
        self._paused_until = max(self._paused_until, self.loop.time() + seconds)
        self._paused_all = everything or (self._paused_all and self.is_careful)
        if self._released is None or self._released.done():
            self._released = self.loop.create_future()
        self.refresh()
        self.loop.call_later(seconds, self._maybe_release)

    def _maybe_release(self) -> None:
        left = self._paused_until - self.loop.time()
        if left <= 0:
            self.unpause()
        else:
            # The loop's clock goes in milliseconds: it may wake a moment early. Or the pause was made longer.
            self.loop.call_later(left + 0.001, self._maybe_release)

    def unpause(self) -> None:
        self._paused_until = 0.0
        self._paused_all = False
        if self._released is not None and not self._released.done():
            self._released.set_result(None)
        self.refresh()

    def holds(self, connection: "Connection", row: Row | None) -> bool:
        """Whether this command has to wait for the end of a pause."""
        if not self._paused_until or row is None or self.loop.time() >= self._paused_until:
            return False
        if row.name in ("CLIENT", "SHUTDOWN", "QUIT"):
            return False
        if self._paused_all:
            return True
        if row.name == "EXEC" and connection.transaction is not None:
            return connection.transaction.writes
        return "write" in row.flags or row.name in ("PUBLISH", "SPUBLISH")

    async def writes_allowed(self) -> None:
        """Wait for the end of a pause, if there is one."""
        while self._paused_until > self.loop.time():
            await self.wait_released()

    async def wait_released(self) -> None:
        assert self._released is not None
        await asyncio.shield(self._released)

    def unblock(self, connection: "Connection", with_error: bool) -> int:
        """End the waiting of a client that is in a blocking command; how many there were."""
        wake = self.blocked.pop(connection.id, None)
        if wake is None:
            return 0
        wake(with_error)
        return 1

    async def totals(self) -> dict[str, int]:
        """Counters of all workers, added up."""
        from .asking import call_workers

        shards = await call_workers(self, "stats")
        return {name: sum(shard.get(name, 0) for shard in shards) for name in ("hits", "misses", "expired", "evicted")}

    # --- housekeeping -------------------------------------------------------------------------------
    async def housekeeping(self) -> None:
        """Once a second: users, idle connections, figures, certificates."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            now = self.loop.time()
            self.rates.append((now, self.commands))
            # Clients that only listen or wait bring no packet to notice it by.
            self.guard.keep_up()
            if self.certificates is not None:
                self.certificates.review()
            if not self.timeout_s:
                continue
            for connection in list(self.clients.values()):
                exempt = connection.subscriber is not None or connection.is_monitor or connection.busy
                if now - connection.heard > self.timeout_s and not exempt:
                    connection.transport.close()

    @property
    def rate(self) -> int:
        """Commands a second, lately."""
        (first, few), (last, many) = self.rates[0], self.rates[-1]
        return int((many - few) / (last - first)) if last > first else 0

    def close(self) -> None:
        for connection in list(self.clients.values()):
            connection.transport.abort()
        self.waiters.close()
        self.changes.close()
        self.lanes.close()
        self.guard.close()
        self.route.detach()


def _escaped(part: Any) -> str:
    text = (part if isinstance(part, bytes) else str(part).encode()).decode("latin-1")
    known = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}
    return "".join(known.get(c) or (c if " " <= c <= "~" else f"\\x{ord(c):02x}") for c in text)
