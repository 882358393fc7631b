"""The worker's loop: requests from the socket through the engine and back.

Between two requests stands as little Python as possible: a blocking receive with a timeout instead of a
poller,
plain bytes, one native call for the batch.
"""

import contextlib
import time
from typing import Any, Final

import zmq

from .. import _engine
from ..errors import ProtocolError, ResponseError
from ..limits import (
    TICK_MS_BUSY,
    TICK_MS_MAX,
    TICK_MS_UNFINISHED,
    WORKER_DRAIN_QUIET_MS,
    WORKER_DRAIN_S_MAX,
)
from ..protocol import codec, frames
from ..protocol.directory import Directory
from ..protocol.needs import Ack
from .child import StopFlag
from .paths import remove_socket
from .preparing import CALLS as TRANSACTION_CALLS
from .preparing import Aside, Preparing, is_ending
from .replicating import CALLS, Replicating, split_options
from .scripting.scripts import Scripts
from .sockets import ConnectionCounter, limit_router, listen
from .stats import worker_stats
from .topology import topology

_ENGINE_FLAGS: Final = tuple(
    (_engine.FLAG_TRANSACTION if flags & frames.TRANSACTION else 0)
    | (_engine.FLAG_READ_ONLY if flags & frames.READ_ONLY else 0)
    for flags in range(256)
)
_NOW: Final = int(zmq.NOBLOCK)
_MORE_NOW: Final = int(zmq.SNDMORE | zmq.NOBLOCK)
"""As int: combining pyzmq's enums for every frame takes longer than sending it."""
LIVE_OPTIONS: Final = (
    *("memory_bytes", "policy", "samples", "lfu_log_factor", "lfu_decay_ms"),
    *(f"{kind}_compact_{what}" for kind in ("hash", "list", "set", "zset") for what in ("entries", "bytes")),
)


def batch_length(payload: bytes) -> int:
    """Number of commands that the msgpack array of a payload announces; 0 if it is none."""
    if payload[:1] and 0x90 <= payload[0] <= 0x9F:
        return payload[0] & 15
    if payload[:1] == b"\xdc":
        return int.from_bytes(payload[1:3], "big")
    return int.from_bytes(payload[1:5], "big") if payload[:1] == b"\xdd" else 0


def _is_refused(reply: bytes) -> bool:
    """Whether every command of a batch was answered with an error."""
    return all(isinstance(result, ResponseError) for result in codec.decode_results(reply))


class Service:
    """Serves one shard's owner on a ROUTER socket."""

    def __init__(
        self, owner: _engine.Owner, directory: Directory, settings: dict[str, Any], log: Any
    ) -> None:
        self._owner, self._directory, self._settings, self._log = owner, directory, settings, log
        self._epoch: int = settings["epoch"]
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.ROUTER)
        limit_router(self._socket, settings["message_bytes"])
        self._socket.rcvtimeo = TICK_MS_MAX
        self._connections = ConnectionCounter(self._socket)
        self._replicating = Replicating(owner, settings, log)
        self._scripts = Scripts(owner, settings, log)
        self._preparing = Preparing(owner, self._scripts, self._replicating, settings, log)
        self._aside = Aside()
        self.messages = 0
        self.refused = 0

    def bind(self) -> None:
        """Listen at the shard's endpoint; a dead predecessor's socket file is replaced."""
        listen(self._socket, self._settings["endpoint"], self._settings["gid"])

    def run(self, stop: StopFlag) -> None:
        """Serve until `stop` is set."""
        receive, answer, tick = self._socket.recv_multipart, self._answer, self._owner.tick
        aside, next_aside = self._aside.messages, self._aside.take
        now = time.monotonic_ns
        replicating, holding = self._replicating, self._replicating.holding
        flags = due = 0
        while not stop.set:
            if holding:
                flags = _NOW
            try:
                # It waits in here right after an answer: looking first would only cost an exception.
                answer(next_aside() if aside else receive(flags))
                self.messages += 1
                if now() < due:
                    continue
            except zmq.Again:
                if holding:
                    replicating.wait(self._socket)
                    if now() < due:
                        continue
            # Unfinished housekeeping goes on when nothing waits, and soon if there is no end of messages.
            more = tick()
            # What expired is in the log, too.
            replicating.ring_tailers()
            flags = _NOW if more else 0
            due = now() + (TICK_MS_UNFINISHED if more else TICK_MS_BUSY) * 1_000_000
            self._connections.update()
        self._drain()

    def _drain(self) -> None:
        """Answer what was sent before the directory said that this worker ends, and let held replies go."""
        holding = self._replicating.holding
        until = time.monotonic() + WORKER_DRAIN_S_MAX
        self._socket.rcvtimeo = WORKER_DRAIN_QUIET_MS
        while time.monotonic() < until:
            try:
                self._answer(self._aside.take() if self._aside.messages else self._socket.recv_multipart(_NOW if holding else 0))
            except zmq.Again:
                if not holding:
                    break
                self._replicating.wait(self._socket)

    def close(self) -> None:
        """Send what is on its way, bounded by a second, and stop listening."""
        self._connections.close()
        self._replicating.close()
        self._socket.close(linger=1000)
        self._context.term()
        remove_socket(self._settings["endpoint"])

    def _answer(self, message: list[bytes]) -> None:
        if len(message) < 3:
            return self._refuse(message[:1], None, "PROTOCOL", "a message is [header][payload]")
        payload = message[-1]
        try:
            header = frames.unpack_header(message[-2])
        except ProtocolError as error:
            return self._refuse(message[:-2], None, "PROTOCOL", str(error))
        flags, slot, _, request_id, deadline_us = header
        if deadline_us and frames.is_late(header):
            return self._refuse(message[:-2], header, "DEADLINE", "the deadline passed before execution")
        if flags & frames.CONTROL:
            return self._control(message, header)
        options: dict[str, Any] = {}
        replicating = self._replicating
        watched = replicating.watches_writes or replicating.paused
        if flags & frames.OPTIONS:
            try:
                options, payload = split_options(payload)
            except ProtocolError as error:
                return self._refuse(message[:-2], header, "PROTOCOL", str(error))
            watched = True
        if watched and (refusal := replicating.refuse(flags, slot, options)) is not None:
            return self._refuse(message[:-2], header, *refusal)
        try:
            # Before anything is executed: what cannot be carried out is refused whole.
            ack = replicating.ack_of(options) if watched else 0
        except ProtocolError as error:
            return self._refuse(message[:-2], header, "PROTOCOL", str(error))
        before = self._owner.log_position if watched else 0
        try:
            message[-1] = (
                self._scripts.execute(payload, flags) if flags & frames.SCRIPTS else self._owner.execute(payload, _ENGINE_FLAGS[flags])
            )
        except ProtocolError as error:
            return self._refuse(message[:-2], header, "PROTOCOL", str(error))
        except _engine.EngineError as error:
            code = "LIMIT" if batch_length(payload) > _engine.MAX_BATCH_COMMANDS else "PROTOCOL"
            return self._refuse(message[:-2], header, code, str(error))
        replicating.ring_tailers()
        message[-2] = frames.pack_header(0, slot, self._epoch, request_id, self._owner.last_stamp)
        # Also a write that found nothing to do: why there was nothing to do may still be on its way. (A DEL that is sent again finds
        # its key gone; when the first one is lost after this answer, a promise is broken.)
        if (ack != 0 or replicating.disk.holds) and (
            self._owner.log_position != before or not (flags & frames.READ_ONLY or _is_refused(message[-1]))
        ):
            return self._hold(message, header, ack, options)
        self._send(message)

    def _hold(self, message: list[bytes], header: frames.Header, ack: Ack, options: dict[str, Any]) -> None:
        """Send the reply of a write when as many replicas as were asked for, and the disk, have everything it may rest on."""
        durable = self._replicating.disk.holds

        def release(have: int, wanted: int, is_durable: bool) -> None:
            if not is_durable:
                reason = self._replicating.disk.trouble() or "the disk did not take it in time"
                return self._refuse(message[:-2], header, "NOTDURABLE", f"{reason}; executed in memory only")
            if have >= wanted:
                return self._send(message)
            text = f"applied locally, acknowledged by {have} of {wanted}"
            self._refuse(message[:-2], header, "NOTREPLICATED", text, {"acknowledged": have, "needed": wanted})

        return self._replicating.hold(ack, options, release, durable=durable)

    def _send(self, message: list[bytes]) -> None:
        # A peer that is gone or does not read loses its reply; a ROUTER never waits for one.
        send = self._socket.send
        try:
            for frame in message[:-1]:
                send(frame, _MORE_NOW)
            send(message[-1], _NOW)
        except zmq.ZMQError:
            pass

    def _refuse(
        self,
        route: list[bytes],
        header: frames.Header | None,
        code: str,
        text: str,
        fields: dict[str, Any] | None = None,
    ) -> None:
        self.refused += 1
        slot, request_id = (header.slot, header.request_id) if header else (0, 0)
        reply = frames.pack_header(frames.ERROR, slot, self._epoch, request_id, 0)
        self._send([*route, reply, codec.encode_error(code, text, fields)])

    def _control(self, message: list[bytes], header: frames.Header) -> None:
        try:
            call, arguments = codec.decode_control(message[-1])
            if call == "wait":
                return self._wait(message, header, arguments)
            if call in TRANSACTION_CALLS:
                return self._part(call, message, header, arguments)
            result = self._replicating.call(call, arguments) if call in CALLS else self._call(call, arguments)
        except (ProtocolError, _engine.EngineError, TypeError, KeyError, ValueError, OverflowError) as error:
            return self._refuse(message[:-2], header, "PROTOCOL", str(error))
        self._reply(message, header, result)

    def _reply(self, message: list[bytes], header: frames.Header, result: Any) -> None:
        self._send(self._answered(message, header, result))

    def _answered(self, message: list[bytes], header: frames.Header, result: Any) -> list[bytes]:
        """The reply to a control call."""
        head = frames.pack_header(0, header.slot, self._epoch, header.request_id, 0)
        return [*message[:-2], head, codec.encode_results([result])]

    # --- transactions over several shards -----------------------------------------------------------
    def _part(self, call: str, message: list[bytes], header: frames.Header, arguments: dict[str, Any]) -> None:
        """A call about this shard's part of a transaction. Raises what `Preparing` does."""
        preparing, replicating = self._preparing, self._replicating
        if call == "prepare":
            found = preparing.prepare(header.slot, arguments)
            if isinstance(found, tuple):
                return self._refuse(message[:-2], header, *found)
            self._reply(message, header, found)
            return self._hold_shard()
        if call == "abandon":
            return self._reply(message, header, preparing.abandon(arguments))
        options = split_options(arguments["options"])[0] if arguments["options"] else {}
        ack = replicating.ack_of(options)
        waits = ack != 0 or replicating.disk.holds
        if call == "decide":
            # Its reply waits for nobody, because the other shards wait for it. Who must wait asks again, by `commit`.
            return self._reply(message, header, [preparing.decide(arguments), waits])
        is_committed = preparing.commit(arguments)
        if not is_committed or not waits:
            return self._reply(message, header, is_committed)
        return self._hold(self._answered(message, header, is_committed), header, ack, options)

    def _hold_shard(self) -> None:
        """As long as a part is held only what ends it is answered; all else waits, in its order."""
        preparing, socket = self._preparing, self._socket
        while preparing.token:
            wait_ms = preparing.wait_ms()
            if not wait_ms:
                preparing.look()
            elif socket.poll(wait_ms):
                try:
                    message = socket.recv_multipart(_NOW)
                except zmq.Again:
                    continue
                if is_ending(message):
                    self._answer(message)
                elif not self._aside.add(message):
                    self._refuse_aside(message)

    def _refuse_aside(self, message: list[bytes]) -> None:
        with contextlib.suppress(ProtocolError, IndexError):
            self._refuse(message[:-2], frames.unpack_header(message[-2]), "UNAVAILABLE", "the shard is held by a transaction; not executed")

    def _wait(self, message: list[bytes], header: frames.Header, arguments: dict[str, Any]) -> None:
        """Answer with the number of replicas that have all that is in the log now, when it is reached or too late."""

        def release(have: int, _wanted: int, _is_durable: bool) -> None:
            self._reply(message, header, have)

        ack = self._replicating.ack_of({"ack": arguments["replicas"]})
        self._replicating.hold(ack, {"ack_timeout_ms": arguments["timeout_ms"]}, release)

    def _call(self, call: str, arguments: dict[str, Any]) -> Any:
        if call == "topology":
            return topology(self._directory.snapshot())
        if call == "stats":
            counters = {
                "messages": self.messages,
                "refused": self.refused,
                "clients": self._connections.count,
            }
            return worker_stats(self._owner, self._settings["shard"], counters)
        if call == "configure":
            unknown = set(arguments) - set(LIVE_OPTIONS)
            if unknown:
                raise ProtocolError(f"not a live option: {', '.join(sorted(map(str, unknown)))}")
            if arguments:
                self._owner.configure(**arguments)
                self._log.info("options changed", **arguments)
            stats = self._owner.stats()
            return {name: stats[name] for name in LIVE_OPTIONS if name in stats}
        raise ProtocolError(f"unknown control call {call!r}")
