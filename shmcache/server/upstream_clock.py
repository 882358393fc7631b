"""The primary's monotonic clock, as far as the router of a replica that forwards writes knows it. Pure decisions, no I/O, no clock of its own.

A write that is forwarded can be on its way for a long time: through a partition, in the buffers of a connection that was closed long ago. Its client
has given up by then, and may have written something newer by another way; so it must not be executed when it arrives at last. No time that is left
can say so. The deadline is told as a moment of the clock of the host that it goes to.

What is known of that clock comes from questions: it was read after the question was sent and before the answer came, so its offset (theirs minus
ours) lies between two bounds. With the lower one no request is executed late; it may be refused early by the time that the question took.
"""

import os
from typing import Any

from ..errors import ProtocolError
from ..limits import CLOCK_ASK_MS, CLOCK_RETRY_MS
from ..protocol import codec, frames


class UpstreamClock:
    """Of one connection. All times are microseconds of this host's monotonic clock."""

    def __init__(self) -> None:
        self.route = os.urandom(16)
        """Stands where a client's identity does, so that the answer is told from those to clients."""
        self._offset: int | None = None
        self._number = 0
        self._asked_at = 0
        self._ask_at = 0

    @property
    def is_known(self) -> bool:
        return self._offset is not None

    def question(self, now_us: int) -> list[bytes] | None:
        """The message to send now, if one is due."""
        if now_us < self._ask_at:
            return None
        self._number += 1
        self._asked_at, self._ask_at = now_us, now_us + CLOCK_RETRY_MS * 1000
        head = frames.pack_header(frames.CONTROL, request_id=self._number)
        return [self.route, head, codec.encode_control("clock", {})]

    def answer(self, message: list[bytes], now_us: int) -> None:
        """Take an answer; one to an earlier question, or that is none, says nothing."""
        theirs = _read(message, self._number)
        if theirs is None:
            return
        least, most = theirs - now_us, theirs - self._asked_at
        if self._offset is None or not least <= self._offset <= most:
            # Also another clock than before: the host has started anew, or is another one.
            self._offset = least
        self._ask_at = now_us + CLOCK_ASK_MS * 1000

    def translated(self, header: frames.Header) -> frames.Header:
        """The header with its deadline by the primary's clock. To be called when that is known."""
        assert self._offset is not None
        if not header.deadline_us:
            return header
        return header._replace(deadline_us=max(1, min(header.deadline_us + self._offset, (1 << 64) - 1)))


def _read(message: list[bytes], number: int) -> int | None:
    if len(message) != 3 or frames.request_id_of(message[1]) != number:
        return None
    try:
        if frames.unpack_header(message[1]).flags & frames.ERROR:
            return None
        results: list[Any] = codec.decode_results(message[2])
        return int(results[0]["us"])
    except (ProtocolError, LookupError, TypeError, ValueError):
        return None
