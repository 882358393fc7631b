"""Requests as Redis clients send them: RESP arrays of bulk strings, and inline commands. No I/O.

hiredis parses replies: it takes types and nesting that a request must not have, and knows none of a server's limits. Whole and well-formed commands
are taken out by the engine's `split_requests`; what it leaves (inline commands, what is cut off, what is wrong) goes the careful way here.
"""

from typing import Final

from ..._engine import split_requests
from ...limits import (
    RESP_ARGUMENTS_MAX,
    RESP_BULK_BYTES_MAX,
    RESP_INLINE_BYTES_MAX,
    RESP_LOGIN_ARGUMENTS_MAX,
    RESP_LOGIN_BULK_BYTES_MAX,
)

Command = list[bytes]
_LOGINS: Final = (b"AUTH", b"HELLO")


class BadRequest(Exception):
    """What was read is no request: the client gets this text as an error and is disconnected."""


class Requests:
    """Takes what is read, as it is cut, and gives whole commands."""

    def __init__(self) -> None:
        self._rest = b""
        self._chunks: list[bytes] = []
        """What came behind `_rest` of an argument that is not whole yet."""
        self._lacking = 0
        self._args: Command = []
        """Arguments so far of a command that is not whole yet."""
        self._left = 0
        self._length = -1
        """Of the argument that comes next, if its length has been read."""
        self.is_strict = False
        """The client has not logged in: its requests must be small, up to the first that may change that."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing of a command is waiting for its rest."""
        return not (self._rest or self._chunks or self._left)

    @property
    def excess(self) -> str:
        """What is too large, for a client that has not logged in, in the command that is not whole yet ("": nothing)."""
        if self._left and self._left + len(self._args) > RESP_LOGIN_ARGUMENTS_MAX:
            return "unauthenticated multibulk length"
        return "unauthenticated bulk length" if self._length > RESP_LOGIN_BULK_BYTES_MAX else ""

    @property
    def waiting_bytes(self) -> int:
        """Of a command that is not whole yet."""
        return len(self._rest) + sum(map(len, self._chunks))

    def feed(self, data: bytes) -> tuple[list[Command], str]:
        """The commands that are whole now, and what is wrong with what follows them ("": nothing)."""
        if self._lacking > len(data):
            self._lacking -= len(data)
            self._chunks.append(data)
            return [], ""
        if self._rest or self._chunks:
            data = b"".join((self._rest, *self._chunks, data))
            self._rest, self._chunks, self._lacking = b"", [], 0
        commands: list[Command]
        commands, at = ([], 0) if self._left or self.is_strict else split_requests(data, 0)
        if at == len(data):
            return commands, ""
        try:
            self._rest = data[self._parse(data, at, commands) :]
        except BadRequest as error:
            return commands, str(error)
        return commands, ""

    def _parse(self, data: bytes, at: int, commands: list[Command]) -> int:
        """The careful way; returns where the part begins that is not whole."""
        size = len(data)
        args, left, length = self._args, self._left, self._length
        strict = self.is_strict
        try:
            while True:
                if not left:
                    if at >= size:
                        return at
                    end = data.find(b"\n", at, at + RESP_INLINE_BYTES_MAX + 2)
                    is_array = data[at] == 42
                    if end < 0:
                        if size - at > RESP_INLINE_BYTES_MAX:
                            raise BadRequest("too big mbulk count string" if is_array else "too big inline request")
                        return at
                    line = data[at + is_array : end - (data[end - 1 : end] == b"\r")]
                    at = end + 1
                    if not is_array:
                        if command := split_inline(line):
                            commands.append(command)
                            strict = strict and command[0].upper() not in _LOGINS
                        continue
                    left = _number(line, RESP_ARGUMENTS_MAX, "invalid multibulk length")
                    if left <= 0:
                        left = 0
                        continue
                    if strict and left > RESP_LOGIN_ARGUMENTS_MAX:
                        raise BadRequest("unauthenticated multibulk length")
                    args = []
                if length < 0:
                    if at >= size:
                        return at
                    if data[at] != 36:
                        raise BadRequest(f"expected '$', got '{_shown(data[at])}'")
                    end = data.find(b"\r\n", at, at + RESP_INLINE_BYTES_MAX + 2)
                    if end < 0:
                        if size - at > RESP_INLINE_BYTES_MAX:
                            raise BadRequest("too big bulk count string")
                        return at
                    length = _number(data[at + 1 : end], RESP_BULK_BYTES_MAX, "invalid bulk length")
                    if length < 0:
                        raise BadRequest("invalid bulk length")
                    if strict and length > RESP_LOGIN_BULK_BYTES_MAX:
                        raise BadRequest("unauthenticated bulk length")
                    at = end + 2
                if size - at < length + 2:
                    self._lacking = length + 2 - (size - at)
                    return at
                args.append(data[at : at + length])
                at += length + 2
                length = -1
                left -= 1
                if not left:
                    commands.append(args)
                    strict = strict and args[0].upper() not in _LOGINS
                    args = []
        finally:
            self._args, self._left, self._length = args, left, length


def _number(text: bytes, largest: int, complaint: str) -> int:
    """A decimal number as Redis takes it: no sign but a minus, no spaces, no leading zeros. Raises BadRequest."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > 18 or (digits[:1] == b"0" and (len(digits) > 1 or digits is not text)):
        raise BadRequest(complaint)
    number = int(text)
    if number > largest:
        raise BadRequest(complaint)
    return number


def _shown(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else " " if byte in b"\r\n" else "?"


_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_SPACE: Final = b" \t\n\r\v\f\0"
_HEX: Final = b"0123456789abcdefABCDEF"


def split_inline(line: bytes) -> Command:
    """The words of a line, quoted as in a shell ("..." with escapes, '...' without). Raises BadRequest."""
    if b'"' not in line and b"'" not in line:
        return line.split()
    words: Command = []
    at, size = 0, len(line)
    while True:
        while at < size and line[at] in _SPACE:
            at += 1
        if at >= size:
            return words
        word = bytearray()
        while at < size and line[at] not in _SPACE:
            quote = line[at : at + 1]
            at += 1
            if quote not in (b'"', b"'"):
                word += quote
                continue
            at = _quoted(line, at, quote, word)
            if at < size and line[at] not in _SPACE:
                raise BadRequest("unbalanced quotes in request")
        words.append(bytes(word))


def _quoted(line: bytes, at: int, quote: bytes, word: bytearray) -> int:
    """Take what stands in quotes; returns where it goes on."""
    while at < len(line):
        byte = line[at : at + 1]
        if byte == quote:
            return at + 1
        follower = line[at + 1 : at + 2]
        if byte == b"\\" and quote == b'"' and follower:
            code = line[at + 2 : at + 4]
            if follower == b"x" and len(code) == 2 and code[0] in _HEX and code[1] in _HEX:
                word.append(int(code, 16))
                at += 4
                continue
            word += _ESCAPES.get(follower, follower)
            at += 2
        elif byte == b"\\" and follower == b"'":
            word += b"'"
            at += 2
        else:
            word += byte
            at += 1
    raise BadRequest("unbalanced quotes in request")
