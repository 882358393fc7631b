"""Client-side caching: who has read which key, and who is told when one is changed.

A key is remembered before it is read. If it was changed before the reply of a shard came, the client is told once more after the reply: whether what it
was given is older or newer than the change is not known, and to forget a value that is right costs only time.
"""

from collections.abc import Iterable
from typing import Any, Final

from ..._engine import EngineError
from ...client.local import read
from ...errors import ResponseError
from ...limits import RESP_TRACKED_KEYS_MAX
from ...protocol.commands import READ_ONLY
from .changes import FLUSHED, Change
from .connection import Connection, out_or_pending
from .loops import OwnWrites
from .replies import ENCODERS, Push
from .rows import Row
from .shapes import encoder_for

CHANNEL: Final = b"__redis__:invalidate"
"""Where a RESP2 client is told of invalid keys."""


class Tracking:
    """What one client asked for."""

    def __init__(self, client: Connection) -> None:
        self.client = client
        self.is_broadcast = self.is_optin = self.is_optout = self.no_loop = False
        self.redirect = 0
        """Id of the client that is told instead; 0: itself."""
        self.is_broken = False
        """That client is gone."""
        self.prefixes: list[bytes] = []
        self.caching: bool | None = None
        """CLIENT CACHING, for the next command or transaction."""
        self.own = OwnWrites()

    @property
    def looks(self) -> bool:
        """Whether the commands of this client have to be looked at."""
        return not self.is_broadcast or self.no_loop

    @property
    def table(self) -> "Table":
        table: Table = self.client.gateway.tracking
        return table

    def wants(self) -> bool:
        """Whether keys that are read now are to be remembered."""
        if self.is_broadcast:
            return False
        return self.caching is True if self.is_optin else self.caching is not False or not self.is_optout

    def step(self, row: Row, args: list[Any], attachment: Any) -> bool:
        """Carry out a command if it has to be done in a way of its own; whether it was."""
        client = self.client
        wants = self.wants()
        if row.name not in ("CLIENT", "MULTI", "EXEC"):
            self.caching = None
        if row.handler is not None or row.blocking or attachment is None:
            return False
        args[0] = name = row.name
        args = client.gateway.guard.signed(client, row, args)
        if name not in READ_ONLY:
            work = self.own.carried_out(client, row, args) if self.no_loop else None
            if work is None:
                return False
            client._begin(work, encoder_for(client.resp, name, args))
            return True
        keys = row.keys_in(args) if wants else []
        if not keys:
            return False
        self.table.remember(keys, client)
        encode = encoder_for(client.resp, name, args)
        if row.local and not client.pending:
            try:
                out_or_pending(client, read(attachment, args), encode)
                return True
            except ResponseError as error:
                out_or_pending(client, error)
                return True
            except EngineError:
                pass
        client._begin(self._asked(args, keys), encode)
        return True

    async def _asked(self, args: list[Any], keys: list[bytes]) -> Any:
        gateway = self.client.gateway
        self.table.remember(keys, self.client)
        try:
            return await gateway.ask(*args)
        finally:
            self.table.look_again(keys, self)

    def tell(self, keys: list[bytes] | None) -> None:
        """These keys are invalid; None: all are."""
        client = self.client
        target = client
        if self.redirect:
            found = client.gateway.clients.get(self.redirect)
            if found is None:
                self.is_broken = True
                if client.resp == 3:
                    client.push(Push([b"tracking-redir-broken", self.redirect]))
                return
            target = found
        if target.resp == 3:
            target.push(Push([b"invalidate", keys]))
        elif target is not client and target.subscriber is not None and target.subscriber.count:
            target.transport.write(ENCODERS[2]([b"message", CHANNEL, keys]))


class Table:
    """Of one gateway process."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway
        self.clients: dict[int, Tracking] = {}
        self._readers: dict[bytes, set[int]] = {}
        self._prefixes: dict[bytes, dict[int, None]] = {}
        self.keys_max: int = RESP_TRACKED_KEYS_MAX

    @property
    def keys(self) -> int:
        return len(self._readers)

    @property
    def items(self) -> int:
        return sum(map(len, self._readers.values()))

    @property
    def prefixes(self) -> int:
        return len(self._prefixes)

    # --- clients ---
    def join(self, tracking: Tracking) -> None:
        client = tracking.client
        self._gateway.changes.need(self, self._changed, self._missed)
        self.clients[client.id] = tracking
        for prefix in tracking.prefixes:
            self._prefixes.setdefault(prefix, {})[client.id] = None
        client.tracking = tracking
        client.refresh()

    def leave(self, client: Connection) -> None:
        """What it had read is forgotten when it is changed next, or to make room."""
        tracking = self.clients.pop(client.id, None)
        if tracking is None:
            return
        client.tracking = None
        client.refresh()
        for prefix in tracking.prefixes:
            members = self._prefixes[prefix]
            members.pop(client.id, None)
            if not members:
                del self._prefixes[prefix]
        if not self.clients:
            self._readers.clear()
            self._gateway.changes.release(self)

    # --- keys ---
    def remember(self, keys: Iterable[bytes], client: Connection) -> None:
        readers = self._readers
        for key in keys:
            readers.setdefault(key, set()).add(client.id)
        while len(readers) > self.keys_max:
            oldest = next(iter(readers))
            self._tell_readers(oldest, readers.pop(oldest), {})

    def look_again(self, keys: list[bytes], tracking: Tracking) -> None:
        """A reply with these keys has come: those that were changed meanwhile are invalid, and may be changed again."""
        client = tracking.client
        if client.tracking is not tracking:
            return
        self._gateway.changes.drain()
        lost = [key for key in keys if client.id not in self._readers.get(key, ())]
        if lost:
            self.remember(lost, client)
            # After the reply.
            self._gateway.loop.call_soon(lambda: [tracking.tell([key]) for key in lost])

    def _tell_readers(self, key: bytes, readers: set[int], held: dict[int, Any]) -> None:
        for number in readers:
            tracking = self.clients.get(number)
            if tracking is not None and number not in held:
                tracking.tell([key])

    # --- the log says ---
    def _changed(self, changes: list[Change]) -> None:
        is_flushed = False
        told: dict[bytes, dict[bytes, None]] = {}
        holding = {number: tracking.own for number, tracking in self.clients.items() if tracking.own.keys}
        for change in changes:
            what, key, _ = change
            if what == FLUSHED:
                is_flushed = True
                continue
            held = {number: own for number, own in holding.items() if own.hold(change)} if holding else {}
            readers = self._readers.pop(key, None)
            if readers is not None:
                self._tell_readers(key, readers, held)
                if held and (kept := readers & held.keys()):
                    # It is decided when the client's own write has been answered.
                    self._readers[key] = kept
            for prefix in self._prefixes:
                if key.startswith(prefix):
                    told.setdefault(prefix, {})[key] = None
        if is_flushed:
            self._missed()
        for prefix, keys in told.items():
            for number in self._prefixes.get(prefix, ()):
                tracking = self.clients[number]
                mine = [key for key in keys if key not in tracking.own.keys]
                if mine:
                    tracking.tell(mine)

    def settle(self, tracking: Tracking, keys: Iterable[bytes]) -> None:
        """These keys were changed by others while a write of a client with NOLOOP was under way."""
        number = tracking.client.id
        for key in keys:
            if tracking.is_broadcast:
                if any(key.startswith(prefix) for prefix in tracking.prefixes):
                    tracking.tell([key])
            elif number in self._readers.get(key, ()):
                self._readers[key].discard(number)
                tracking.tell([key])

    def _missed(self) -> None:
        """Any key may have changed."""
        if self._readers or self._prefixes:
            self._readers.clear()
            for tracking in list(self.clients.values()):
                tracking.tell(None)
