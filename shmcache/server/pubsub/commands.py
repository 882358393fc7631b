"""Requests to the hub: the wire protocol of a worker, with the commands PUBLISH, SPUBLISH, PUBSUB and PING
and
control calls of its own (docs/pubsub.md). No sockets here.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from ...errors import BadChannel, ConfigError, LimitExceeded, ProtocolError, ResponseError
from ...limits import CHANNEL_UPSTREAMS_MAX, CLIENT_BATCH_COMMANDS_MAX
from ...option_values import NOTIFY_LETTERS
from ...protocol import codec, frames
from ...protocol.channels import CHANNEL, RESERVED_PREFIX, SHARD, check_name, is_local, topic_of
from .core import HubCore
from .table import is_whole

_U64: Final = 2**64
Forwarded = tuple[bytes, bytes, bytes, int, int, int, int]
"""Kind, channel, payload, origin, number, hops, unix ms."""


class Requests:
    """Answers what comes in at the hub's ROUTER."""

    def __init__(
        self,
        core: HubCore,
        message_bytes_max: int,
        forward: Callable[[Forwarded], None],
        set_upstreams: Callable[[list[str]], None],
        figures: Callable[[], dict[str, Any]],
        notify: Callable[[str | None], str],
    ) -> None:
        self._core, self._message_bytes_max = core, message_bytes_max
        self._forward, self._set_upstreams, self._figures, self._notify = forward, set_upstreams, figures, notify
        self.forwards = False
        """Whether there is an upstream hub at present."""

    def answer(self, message: list[bytes], local: bool) -> list[bytes] | None:
        """The reply to one message; None if its sender cannot be answered. `local`: it came by a unix socket."""
        self._core.counts["requests"] += 1
        if len(message) < 3:
            return None
        try:
            header = frames.unpack_header(message[-2])
        except ProtocolError as error:
            return self._refuse(message, frames.request_id_of(message[-2]), "PROTOCOL", str(error))
        try:
            if frames.is_late(header):
                return self._refuse(
                    message, header.request_id, "DEADLINE", "the deadline has passed; not executed"
                )
            if header.flags & frames.CONTROL:
                results = [self._control(*codec.decode_control(message[-1]), local)]
            else:
                commands = codec.decode_commands(message[-1])
                if len(commands) > CLIENT_BATCH_COMMANDS_MAX:
                    raise LimitExceeded(f"{len(commands)} commands; at most {CLIENT_BATCH_COMMANDS_MAX}")
                results = [self._command(command) for command in commands]
            payload = codec.encode_results(results)
        except ProtocolError as error:
            return self._refuse(message, header.request_id, "PROTOCOL", str(error))
        except LimitExceeded as error:
            return self._refuse(message, header.request_id, "LIMIT", str(error))
        except ConfigError as error:
            return self._refuse(message, header.request_id, "ERR", str(error))
        message[-2] = frames.pack_header(request_id=header.request_id)
        message[-1] = payload
        return message

    def _refuse(self, message: list[bytes], request_id: int, code: str, text: str) -> list[bytes]:
        self._core.counts["refused"] += 1
        return [
            *message[:-2],
            frames.pack_header(frames.ERROR, request_id=request_id),
            codec.encode_error(code, text),
        ]

    # --- commands --------------------------------------------------------------------------------
    def _command(self, command: list[Any]) -> Any:
        name = command[0]
        if name == "PUBLISH" or name == "SPUBLISH":
            return self._publish(CHANNEL if name == "PUBLISH" else SHARD, command)
        name = name.decode("latin-1") if type(name) is bytes else name
        upper = name.upper() if isinstance(name, str) else ""
        try:
            if upper in ("PUBLISH", "SPUBLISH"):
                return self._publish(CHANNEL if upper == "PUBLISH" else SHARD, command)
            if upper == "PUBSUB" and len(command) >= 2:
                return self._pubsub(str(_text(command[1])).upper(), [_bytes(word) for word in command[2:]])
        except (BadChannel, ProtocolError) as error:
            return ResponseError("ERR", str(error))
        if upper == "PING":
            return "PONG"
        return ResponseError("ERR", f"the hub has no such command: {str(name)[:40]!r}, {len(command)} words")

    def _publish(self, kind: bytes, command: list[Any]) -> Any:
        if len(command) != 3:
            return ResponseError("ERR", f"wrong number of arguments for '{command[0]}'")
        core = self._core
        try:
            name, payload = _bytes(command[1]), _bytes(command[2])
            check_name(name)
            if name.startswith(RESERVED_PREFIX):
                raise BadChannel(f"channels {RESERVED_PREFIX.decode()}... are the hub's own")
        except (BadChannel, ProtocolError) as error:
            return ResponseError("ERR", str(error))
        except LimitExceeded as error:
            return ResponseError("LIMIT", str(error))
        if len(payload) > self._message_bytes_max:
            text = (
                f"a message of {len(payload)} bytes; at most {self._message_bytes_max} (channel_message_size)"
            )
            return ResponseError("LIMIT", text)
        core.counts["published"] += 1
        receivers, number = core.publish(kind, name, payload)
        if self.forwards and not is_local(name):
            self._forward((kind, name, payload, core.generation, number, 1, time.time_ns() // 1_000_000))
        return receivers

    def _pubsub(self, what: str, words: list[bytes]) -> Any:
        table = self._core.table
        kind = SHARD if what.startswith("SHARD") else CHANNEL
        if what in ("CHANNELS", "SHARDCHANNELS") and len(words) <= 1:
            return table.names(kind, check_name(words[0]) if words else None)
        if what in ("NUMSUB", "SHARDNUMSUB"):
            return [part for name in words for part in (name, table.counts.get(topic_of(kind, name), 0))]
        if what == "NUMPAT" and not words:
            return len(table.patterns)
        return ResponseError("ERR", "unknown PUBSUB subcommand or wrong number of arguments")

    # --- control calls ---------------------------------------------------------------------------
    def _control(self, call: str, arguments: dict[str, Any], local: bool) -> Any:
        core = self._core
        if call == "ping":
            return {"generation": core.generation}
        if call == "stats":
            return {"hub": core.stats() | self._figures()}
        if call == "replay":
            topic = arguments.get("topic")
            if not isinstance(topic, bytes) or not is_whole(topic):
                raise ProtocolError("replay: `topic` is not a topic")
            upto, messages, after = (_number(arguments, name) for name in ("upto", "messages", "after"))
            seconds = arguments.get("seconds", 0)
            if not isinstance(seconds, int | float) or not 0 <= seconds < 2**32:
                raise ProtocolError("replay: `seconds` is not a number of seconds")
            return core.replayed(topic, upto, messages, seconds, after)
        if call == "dropped":
            topic = arguments.get("topic")
            if isinstance(topic, bytes) and topic in core.table.counts:
                core.report_dropped(topic, _number(arguments, "count"), time.monotonic())
            return True
        if call == "forward":
            return self._forwarded(arguments.get("messages"))
        if call == "notify":
            if "letters" in arguments:
                if not local:
                    raise ProtocolError("notify: the letters are set from this host only, by its unix socket")
                letters = arguments["letters"]
                if not isinstance(letters, str) or len(letters) > 64 or set(letters) - set(NOTIFY_LETTERS):
                    raise ProtocolError(f"notify: `letters` are some of {NOTIFY_LETTERS}")
                return {"letters": self._notify(letters)}
            return {"letters": self._notify(None)}
        if call == "upstream":
            if "endpoints" in arguments:
                if not local:
                    # Else everyone who may publish could carry all channels off to a host of his own.
                    raise ProtocolError("upstream: the endpoints are set from this host only, by its unix socket")
                endpoints = arguments["endpoints"]
                if (
                    not isinstance(endpoints, list)
                    or len(endpoints) > CHANNEL_UPSTREAMS_MAX
                    or not all(
                        isinstance(e, str) and e.startswith("tcp://") and len(e) <= 120 for e in endpoints
                    )
                ):
                    raise ProtocolError(
                        f"upstream: `endpoints` is not up to {CHANNEL_UPSTREAMS_MAX} of tcp://HOST:PORT"
                    )
                self._set_upstreams(endpoints)
            return self._figures()["upstream"]
        raise ProtocolError(f"unknown control call {call[:40]!r}")

    def _forwarded(self, messages: Any) -> int:
        """Messages that were published at a downstream hub; how many of them were new here."""
        if not isinstance(messages, list):
            raise ProtocolError("forward: `messages` is not an array")
        new = 0
        for entry in messages:
            match entry:
                case [bytes() as kind, bytes() as name, bytes() as payload, *numbers] if kind in (
                    CHANNEL,
                    SHARD,
                ):
                    if len(numbers) != 4 or not all(type(n) is int and 0 <= n < _U64 for n in numbers):
                        raise ProtocolError("forward: malformed numbers")
                case _:
                    raise ProtocolError("forward: malformed message")
            origin, number, hops, unix_ms = numbers
            try:
                check_name(name)
            except (BadChannel, LimitExceeded) as error:
                raise ProtocolError(f"forward: {error}") from None
            if is_local(name) or len(payload) > self._message_bytes_max or hops > 255:
                self._core.counts["cut"] += 1
                continue
            if self._core.take(kind, name, payload, origin, number, hops, unix_ms) is not None:
                new += 1
                if self.forwards:
                    self._forward((kind, name, payload, origin, number, hops + 1, unix_ms))
        return new


def _bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode()
    if type(value) in (int, float):
        return repr(value).encode()
    raise ProtocolError("an argument is neither bytes, str nor a number")


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _number(arguments: dict[str, Any], name: str) -> int:
    value = arguments.get(name, 0)
    if type(value) is not int or not 0 <= value < _U64:
        raise ProtocolError(f"`{name}` is not a number")
    return value
