"""One client: its requests in, its replies out in their order, whoever answers them."""

import asyncio
import socket
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from ..._engine import EngineError, Retired
from ...client.local import read
from ...client.routes import Attachment
from ...client.session import BATCH_COMMANDS_MAX
from ...errors import CommandFailed, ResponseError, ShmcacheError
from ...limits import (
    RESP_OUTPUT_HIGH_BYTES,
    RESP_PENDING_BYTES_MAX,
    RESP_PENDING_COMMANDS_MAX,
)
from ...protocol.commands import plan, slot_of_key, slots_of_keys
from . import blocking, transactions
from .acl.guard import PROTECTED
from .arguments import address
from .entries import Entry, Part, Parts, Places, Run
from .packed import go_short
from .packets import PACKET_BYTES_MAX, Packet
from .replies import ENCODERS, Encoder, encode2
from .requests import Command, Requests
from .rows import Row, find, not_subscribed, unknown, wrong_arity
from .shapes import SHAPED2, SHAPED3, encoder_for

if TYPE_CHECKING:
    from .gateway import Gateway

NO_REPLY: Final = object()
"""A handler's value if it has written what there is to say, or nothing is to be said."""
_FLUSH_BYTES: Final = 64 * 1024
_FLUSH_REPLIES: Final = 512
_BACKLOG_COMMANDS: Final = 1_024


def _mute(_result: Any) -> bytes:
    return b""


class Connection(asyncio.Protocol):
    """Reads, decides, writes. What the commands of one client change is kept here."""

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway
        self.id = 0
        self.name = b""
        self.library = {b"LIB-NAME": b"", b"LIB-VER": b""}
        self.resp = 2
        self.user = "default"
        self.is_authenticated = False
        self.restricted = True
        """Each command has to be looked at: it has not logged in, or may not do everything."""
        self.peer = self.local = ""
        self.descriptor = -1
        self.created = self.heard = 0.0
        self.last_command = "NULL"
        self.last_read = b""
        self.wrote_last = False
        """The last packet that went the short way began with what goes to the shards."""
        self.commands = self.bytes_in = 0
        self.no_evict = self.no_touch = False
        self.transport: Any = None
        self.requests = Requests()
        self.pending: deque[Entry] = deque()
        self.out: list[bytes] = []
        self.backlog: deque[Command] = deque()
        self.transaction: transactions.Transaction | None = None
        self.watched: Any = None
        self.subscriber: Any = None
        self.tracking: Any = None
        """What it asked for by CLIENT TRACKING."""
        self.is_monitor = False
        self.muted = False
        self.mute_next = 0
        """CLIENT REPLY SKIP: 2 before the command that it concerns, 1 at it."""
        self.careful = False
        """Some state stands in the way of the short way for commands."""
        self.busy = False
        """A command is being carried out that later ones must wait for."""
        self.task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.owed_bytes = 0
        self.is_stalled = self._is_paused = self.is_closing = False
        self._has_ended = False
        """The client sends nothing more."""
        self._complaint = ""

    # --- asyncio.Protocol ---------------------------------------------------------------------------
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=RESP_OUTPUT_HIGH_BYTES)
        self.created = self.heard = self.gateway.loop.time()
        self.peer, self.local = (address(transport.get_extra_info(name)) for name in ("peername", "sockname"))
        own = transport.get_extra_info("socket")
        if own is not None:
            self.descriptor = own.fileno()
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self.gateway.admit(self):
            transport.write(b"-ERR max number of clients reached\r\n")
            transport.close()
            self.is_closing = True
        elif not self.gateway.guard.welcome(self):
            transport.write(PROTECTED)
            transport.close()
            self.is_closing = True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        self.gateway.forget(self)
        if self.task is not None:
            self.task.cancel()
        if self.subscriber is not None:
            self.subscriber.close()
        self.backlog.clear()
        self.pending.clear()

    def eof_received(self) -> bool:
        if (not self.pending and not self.busy and not self.backlog) or self.id in self.gateway.blocked:
            # Who waits for a key and is gone must not be served.
            return False
        # What it asked for before is still answered.
        self._has_ended = True
        return True

    def pause_writing(self) -> None:
        self.is_stalled = True

    def resume_writing(self) -> None:
        self.is_stalled = False
        self._resume()

    def data_received(self, data: bytes) -> None:
        if self.is_closing or self._complaint:
            return
        gateway = self.gateway
        self.heard = gateway.loop.time()
        self.bytes_in += len(data)
        gateway.bytes_in += len(data)
        if gateway.guard.turn[0] != gateway.guard.seen:
            gateway.guard.follow()
            if self.is_closing:
                return
        pending = self.pending
        if pending:
            last = pending[-1]
            if type(last) is Packet and not last.count:
                last.settle()
                if self.is_closing or self._complaint:
                    return
        elif (
            self.wrote_last
            and gateway.takes_packets
            and not (self.careful or self.backlog or self.busy or gateway.is_careful or self.is_stalled)
            and self.requests.is_clean
            and len(data) <= PACKET_BYTES_MAX
        ):
            packet = Packet(self, data)
            pending.append(packet)
            return gateway.lanes.add_packed(0, packet)
        self.go_on(data)

    def go_on(self, data: bytes) -> None:
        """Look at what has come, now."""
        gateway = self.gateway
        if not (self.careful or self.backlog or self.busy or gateway.is_careful or self.is_stalled) and self.requests.is_clean:
            data = go_short(self, data)
            if not data:
                return
        commands, self._complaint = self.requests.feed(data)
        self.owed_bytes += len(data)
        if self.busy or self.backlog or self.is_stalled:
            self.backlog.extend(commands)
        elif commands:
            self._run(commands)
        if self.requests.is_strict and not self._complaint:
            self._complaint = self.requests.excess
        self.flush()

    # --- commands -----------------------------------------------------------------------------------
    @property
    def command_name(self) -> str:
        """The last command, as CLIENT LIST shows it."""
        if self.last_read:
            # Taken apart only when somebody asks.
            row = find(self.last_read.split(b"\r\n", 3)[2])
            return row.name.lower() if row is not None else "NULL"
        return self.last_command.lower() if self.last_command != "NULL" else "NULL"

    def _run(self, commands: list[Command]) -> None:
        """Begin all of them, as far as may be; the rest goes to the backlog."""
        gateway = self.gateway
        if gateway.guard.turn[0] != gateway.guard.seen:
            gateway.guard.follow()
        self.commands += len(commands)
        gateway.commands += len(commands)
        attachment = gateway.attachment()
        pending, out, resp = self.pending, self.out, self.resp
        size = 0
        run: list[Any] = []
        encoders: list[Encoder] = []
        for at, args in enumerate(commands):
            row = find(args[0])
            if row is not None and row.runs and row.takes(args) and attachment is not None and not (self.careful or gateway.is_careful):
                if not row.local or pending or run:
                    # Consecutive ones go together.
                    args[0] = name = row.name  # type: ignore[call-overload]
                    run.append(args)
                    encoders.append(ENCODERS[resp] if name not in (SHAPED3 if resp == 3 else SHAPED2) else encoder_for(resp, name, args))
                    continue
            elif run:
                self._send_run(run, encoders)
                run, encoders = [], []
            if gateway.is_careful and gateway.holds(self, row):
                self._begin(gateway.wait_released(), self.encode, quiet=True)
                return self.backlog.extendleft(reversed(commands[at:]))
            if (self.careful or gateway.is_careful) and self._step_carefully(row, args, attachment):
                if self.busy or self.is_closing:
                    return self.backlog.extendleft(reversed(commands[at + 1 :]))
            elif row is None:
                out_or_pending(self, unknown(args))
            elif not row.takes(args):
                out_or_pending(self, wrong_arity(row.name))
            elif row.handler is not None:
                self._handle(row, args)
                resp = self.resp
                if self.busy or self.is_closing:
                    return self.backlog.extendleft(reversed(commands[at + 1 :]))
            else:
                args[0] = name = row.name  # type: ignore[call-overload]
                encode = ENCODERS[resp] if name not in (SHAPED3 if resp == 3 else SHAPED2) else encoder_for(resp, name, args)
                if row.local and not pending and attachment is not None:
                    try:
                        reply = encode(attachment.reader.get(args[1])) if name == "GET" else encode(read(attachment, args))  # type: ignore[arg-type]
                    except ResponseError as error:
                        reply = encode(error)
                    except Retired:
                        attachment = gateway.attachment(regions_gone=True)
                        reply = b""
                    except EngineError as error:
                        reply = encode(ResponseError(error.code, error.message)) if hasattr(error, "code") else b""
                    if reply:
                        out.append(reply)
                        size += len(reply)
                        if size > _FLUSH_BYTES:
                            size = 0
                            self.write()
                            if self.is_stalled:
                                return self.backlog.extendleft(reversed(commands[at + 1 :]))
                        continue
                self._send(row, args, encode, attachment)
                if self.busy:
                    return self.backlog.extendleft(reversed(commands[at + 1 :]))
        if run:
            self._send_run(run, encoders)
        self.last_read = b""
        row = find(commands[-1][0]) if type(commands[-1][0]) is bytes else None
        self.last_command = row.name if row is not None else str(commands[-1][0])

    def _send(self, row: Row, args: list[Any], encode: Encoder, attachment: Attachment | None) -> None:
        """To the shard, or shards, that it concerns."""
        gateway = self.gateway
        if self.restricted:
            args = gateway.guard.signed(self, row, args)
        if attachment is None:
            # There is no map to go by: wait for the instance first.
            return self._begin(gateway.command_steps(args), encode)
        if row.blocking:
            self.last_command, self.last_read = row.name, b""
            return self._begin(blocking.wait(self, row, args), encode)
        slots = gateway.slots
        if row.single:
            return self._send_run([args], [encode])
        entry = Entry(self, encode)
        try:
            planned = plan(args, slots, by_shard=True)  # type: ignore[arg-type]
        except ShmcacheError as error:
            return out_or_pending(self, error, encode)
        self.pending.append(entry)
        parts = Parts(entry, planned)
        for number, part in enumerate(planned.parts):
            gateway.lanes.add(part.shard, part.slot, [part.args], Part(parts, number))

    def _send_run(self, commands: list[Any], encoders: list[Encoder]) -> None:
        """Consecutive commands with one key each: one entry for all of them, one item for each shard."""
        lanes, slots = self.gateway.lanes, self.gateway.slots
        for begin in range(0, len(commands), BATCH_COMMANDS_MAX):
            piece = commands[begin : begin + BATCH_COMMANDS_MAX]
            run = Run(self, encoders[begin : begin + BATCH_COMMANDS_MAX])
            self.pending.append(run)
            if slots.shards == 1:
                lanes.add(0, slot_of_key(piece[0][1]), piece, run)
                continue
            of_keys = slots_of_keys([args[1] for args in piece])
            shards = [slots.shard_of[slot] for slot in of_keys]
            for shard in dict.fromkeys(shards):
                places = [place for place, other in enumerate(shards) if other == shard]
                lanes.add(shard, of_keys[places[0]], [piece[place] for place in places], Places(run, places))

    def _step_carefully(self, row: Row | None, args: Command, attachment: Attachment | None) -> bool:
        """What only holds in some states; whether that was all."""
        gateway = self.gateway
        if self.mute_next:
            self.mute_next -= 1
            self.muted = bool(self.mute_next)
            if not self.mute_next and not self.muted:
                self.refresh()
        if self.restricted and row is not None and row.takes(args):
            error = gateway.guard.stops(self, row, args)
            if error is not None:
                out_or_pending(self, error)
                return True
        if gateway.is_careful and row is not None:
            gateway.note(self, row, args)
        if self.subscriber is not None and self.resp == 2 and self.subscriber.count and (row is None or not row.always):
            out_or_pending(self, not_subscribed(args))
            return True
        if self.transaction is not None and (row is None or not row.at_once or not row.takes(args)):
            out_or_pending(self, transactions.queue(self, row, args))
            return True
        if self.muted and row is not None and row.handler is None and row.takes(args):
            args[0] = row.name  # type: ignore[call-overload]
            self._send(row, args, _mute, attachment)
            return True
        if self.tracking is not None and row is not None and row.takes(args):
            return bool(self.tracking.step(row, args, attachment))
        return False

    def _handle(self, row: Row, args: list[Any]) -> None:
        self.last_command = row.name
        assert row.handler is not None
        try:
            value = row.handler(self, args)
        except ShmcacheError as error:
            value = error
        if row.is_async:
            self._begin(value, None)
        elif value is not NO_REPLY:
            out_or_pending(self, value)

    def _begin(self, work: Coroutine[Any, Any, Any], encode: Encoder | None, *, quiet: bool = False) -> None:
        """Carry out something that takes time; later commands wait for it."""
        self.busy = True
        self.task = self.gateway.loop.create_task(self._carry_out(work, encode, quiet))

    async def _carry_out(self, work: Coroutine[Any, Any, Any], encode: Encoder | None, quiet: bool) -> None:
        try:
            while self.pending:
                self._drained = self.gateway.loop.create_future()
                await self._drained
            value = await work
        except ShmcacheError as error:
            value = error
        except asyncio.CancelledError:
            work.close()
            return
        except Exception:
            self.gateway.log.exception("a command failed", command=self.last_command)
            value = CommandFailed("ERR", "internal error; the server's log says more")
        self.busy, self.task = False, None
        if self.is_closing and self.transport.is_closing():
            return
        if value is not NO_REPLY and not quiet:
            out_or_pending(self, value, encode)
        self._resume()

    # --- replies ------------------------------------------------------------------------------------
    def encode(self, value: Any) -> bytes:
        """In the protocol that the client speaks now."""
        return ENCODERS[self.resp](value)

    def push(self, value: Any) -> None:
        """Send what is no reply to a command."""
        if self.transport.is_closing():
            return
        self.transport.write(self.encode(value))
        if self.transport.get_write_buffer_size() > self.gateway.pushed_bytes_max:
            self.gateway.log.warning("client closed: it does not read its messages", client=self.peer)
            self.transport.abort()

    def refresh(self) -> None:
        """After any change of what the short way for commands does not look at."""
        self.careful = bool(
            self.restricted
            or self.transaction is not None
            or (self.subscriber is not None and self.subscriber.count)
            or self.muted
            or self.mute_next
            or (self.tracking is not None and self.tracking.looks)
        )

    def answer_only(self, entry: Entry, data: bytes) -> bool:
        """Send these replies if it is all that this client waits for, which it nearly always is; whether that was so."""
        pending = self.pending
        if (
            len(pending) != 1
            or pending[0] is not entry
            or self.busy or self.backlog or self.out or self._is_paused or self._has_ended or self._complaint or self.is_closing
        ):  # fmt: skip
            return False
        pending.clear()
        self.owed_bytes = 0
        self.transport.write(data)
        self.gateway.bytes_out += len(data)
        if len(data) > _FLUSH_BYTES:
            self.flush()
        return True

    def deliver(self) -> None:
        """Some of the replies that were waited for are there."""
        pending, out = self.pending, self.out
        if len(pending) == 1 and (pending[0].data is None or self.answer_only(pending[0], pending[0].data)):
            return
        while pending and pending[0].data is not None:
            out.append(pending.popleft().data)  # type: ignore[arg-type]
        if not pending and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._resume()

    def _resume(self) -> None:
        while self.backlog and not self.busy and not self.is_stalled and len(self.pending) < RESP_PENDING_COMMANDS_MAX and not self.is_closing:
            chunk = [self.backlog.popleft() for _ in range(min(len(self.backlog), _BACKLOG_COMMANDS))]
            self._run(chunk)
            self.write()
        self.flush()

    def write(self) -> None:
        """Send the replies that are there."""
        if self.out and not self.transport.is_closing():
            data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
            self.transport.write(data)
            self.gateway.bytes_out += len(data)
            if self.transport.get_write_buffer_size() > self.gateway.output_bytes_max:
                self.gateway.log.warning("client closed: it does not read its replies", client=self.peer)
                self.transport.abort()
        self.out.clear()

    def flush(self) -> None:
        """Write what is there, read on or not, close if it is over."""
        self.write()
        if self.is_closing:
            self.backlog.clear()
        if not self.pending and not self.busy and not self.backlog:
            self.owed_bytes = 0
            if self._complaint and not self.is_closing:
                self.transport.write(b"-ERR Protocol error: %b\r\n" % self._complaint.encode())
                self.is_closing = True
            if (self.is_closing or self._has_ended) and not self.transport.is_closing():
                self.transport.close()
        wait = (
            self.is_stalled
            or len(self.backlog) > _BACKLOG_COMMANDS
            or len(self.pending) >= RESP_PENDING_COMMANDS_MAX
            or self.owed_bytes > RESP_PENDING_BYTES_MAX
        )
        if wait != self._is_paused and not self.transport.is_closing():
            self._is_paused = wait
            (self.transport.pause_reading if wait else self.transport.resume_reading)()

    def end(self) -> None:
        """Its user is gone or has lost rights that it uses: close it when what is written now has been sent."""
        self.is_closing = True
        if not self.transport.is_closing():
            self.gateway.loop.call_soon(self.transport.close if self.busy else self.flush)

    def close_after_reply(self) -> None:
        """QUIT: what comes after it is not looked at any more."""
        self.is_closing = True


def out_or_pending(connection: Connection, value: Any, encode: Encoder | None = None) -> None:
    """Put a reply that is known at once into its place."""
    if connection.muted:
        return
    data = (encode or connection.encode)(value)
    if not connection.pending:
        connection.out.append(data)
        return
    entry = Entry(connection, encode2)
    entry.data = data
    connection.pending.append(entry)
