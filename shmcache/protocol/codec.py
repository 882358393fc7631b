"""Payloads: msgpack batches of commands, results and control calls (docs/protocol.md). No I/O.

A failed command is ext type 1 whose data is msgpack `[code, message]`; here it is a `ResponseError` in
the list of results. Malformed bytes raise `ProtocolError`, never anything else.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from ..errors import ProtocolError, ResponseError, ShmcacheError, from_refusal, from_reply
from ..limits import OPTIONS_BYTES_MAX, PACKER_BYTES_MAX

ERROR_EXT: Final = 1
SET_EXT: Final = 2
"""The result of a script that is a set: msgpack array of its members."""

_packb = msgpack.packb
_packer = msgpack.Packer()
"""Packs commands for all threads: packing builtin types runs no Python code, so no thread comes between."""
_unpackb = msgpack.unpackb
_MALFORMED = (ValueError, TypeError, OverflowError, RecursionError)
"""What msgpack raises for bad bytes: its own errors are ValueErrors, an unhashable map key is a TypeError."""


class SetReply(list[Any]):
    """A set as a script returns it, in the order in which it came."""


def encode_commands(commands: Sequence[Sequence[Any]]) -> bytes:
    """A batch of `(name, arg, ...)`. Ints beyond 64 bits become their decimal digits."""
    global _packer
    try:
        payload = _packer.pack(commands)
    except OverflowError:
        return _packb([[_digits(part) for part in command] for command in commands])
    if len(payload) > PACKER_BYTES_MAX:
        # It would hold on to a buffer of that size.
        _packer = msgpack.Packer()
    return payload


def _digits(part: Any) -> Any:
    return str(part) if type(part) is int and not -(2**63) <= part < 2**64 else part


def _decode_error_data(data: bytes) -> tuple[str, str, dict[str, Any]]:
    match _unpackb(data):
        case [str() as code, str() as message]:
            return code, message, {}
        case [str() as code, str() as message, dict() as fields]:
            return code, message, fields
    raise ProtocolError("an error is not [code, message] or [code, message, {fields}]")


def _result_ext(code: int, data: bytes) -> Any:
    if code == SET_EXT:
        return SetReply(_unpackb(data, ext_hook=_result_ext, strict_map_key=False))
    if code != ERROR_EXT:
        raise ProtocolError(f"unknown ext type {code}")
    return from_reply(*_decode_error_data(data)[:2])


def _unpack(data: bytes, what: str) -> Any:
    try:
        return _unpackb(data, ext_hook=_result_ext)
    except _MALFORMED as error:
        raise ProtocolError(f"malformed {what}: {error}") from error


def decode_results(data: bytes) -> list[Any]:
    """The results in order; failed commands are `ResponseError` instances."""
    try:
        results = _unpackb(data, ext_hook=_result_ext, strict_map_key=False)
    except _MALFORMED as error:
        raise ProtocolError(f"malformed reply: {error}") from error
    if type(results) is not list:
        raise ProtocolError("a reply is not an array")
    return results


def decode_commands(data: bytes) -> list[list[Any]]:
    """A batch as lists `[name, arg, ...]`, names as they came."""
    commands = _unpack(data, "batch")
    if type(commands) is not list or not all(type(command) is list and command for command in commands):
        raise ProtocolError("a batch is not an array of non-empty arrays")
    return commands


def encode_control(call: str, arguments: dict[str, Any]) -> bytes:
    return _packb([call, arguments])


def decode_control(data: bytes) -> tuple[str, dict[str, Any]]:
    """`(call, arguments)`."""
    match _unpack(data, "control call"):
        case [str() as call, dict() as arguments] if all(isinstance(name, str) for name in arguments):
            return call, arguments
    raise ProtocolError("a control call is not [call, {arguments}]")


def _error_ext(code: str, message: str) -> msgpack.ExtType:
    return msgpack.ExtType(ERROR_EXT, _packb([code, message]))


def _encode_result(result: Any) -> Any:
    if isinstance(result, ResponseError):
        return _error_ext(result.code, result.message)
    if isinstance(result, SetReply):
        return msgpack.ExtType(SET_EXT, _packb(list(result), default=_encode_result, strict_types=True))
    if isinstance(result, tuple):
        return list(result)
    raise TypeError(f"not a result: {result!r}")


def encode_results(results: Sequence[Any]) -> bytes:
    """Results in order; a `ResponseError` becomes its ext type."""
    return _packb(results, default=_encode_result, strict_types=True)


def encode_error(code: str, message: str, fields: dict[str, Any] | None = None) -> bytes:
    """The payload of a reply with the flag ERROR."""
    if fields:
        return _packb(msgpack.ExtType(ERROR_EXT, _packb([code, message, fields])))
    return _packb(_error_ext(code, message))


def encode_options(options: dict[str, Any]) -> bytes:
    """What stands before a batch in a payload with the flag OPTIONS."""
    return _packb(options)


def decode_options(data: bytes) -> tuple[dict[str, Any], int]:
    """Options at the start of a payload, and how many bytes they take. Raises `ProtocolError`."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(data[:OPTIONS_BYTES_MAX])
    try:
        options = unpacker.unpack()
    except (*_MALFORMED, msgpack.OutOfData) as error:
        raise ProtocolError(f"malformed options: {error}") from None
    if type(options) is not dict or not all(isinstance(name, str) for name in options):
        raise ProtocolError("options are not a map")
    return options, unpacker.tell()


def decode_error(data: bytes) -> ShmcacheError:
    """The exception that a reply with the flag ERROR stands for; a malformed one is a `ProtocolError` too."""
    try:
        error = _unpackb(data, ext_hook=lambda _code, inner: from_refusal(*_decode_error_data(inner)))
    except _MALFORMED as failure:
        return ProtocolError(f"malformed error reply: {failure}")
    except ProtocolError as failure:
        return failure
    return error if isinstance(error, ShmcacheError) else ProtocolError("an error reply carries no error")
