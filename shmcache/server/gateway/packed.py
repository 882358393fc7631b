"""The short way to the shards: whole packets of plain commands, packed and answered by the engine. No I/O.

One packet is one entry in its connection's queue, and one item in the lane of each shard that it concerns. The entry is a `Run`: as soon as
anything but a plain reply comes its commands are taken apart, and it goes on as if it had come the long way.
"""

import array
from typing import TYPE_CHECKING, Any, Final

from ..._engine import Packer, cut_results, weave_results
from ...client.session import BATCH_COMMANDS_MAX
from ...limits import (
    REQUEST_BYTES_SOFT_MAX,
    RESP_OUTPUT_HIGH_BYTES,
    RESP_PENDING_BYTES_MAX,
    RESP_PENDING_COMMANDS_MAX,
)
from ...protocol.codec import decode_commands, decode_results, encode_commands
from ...protocol.commands import SlotMap
from .entries import Places, Run
from .replies import ENCODERS, ERRORS
from .rows import ROWS, Row
from .shapes import NIL_ARRAYS, NIL_ARRAYS_COUNTED, SHAPED3

if TYPE_CHECKING:
    from .connection import Connection

_RAW: Final = 0


def _most(row: Row) -> int | None:
    """With how many arguments at most a command is taken (0: any number); None: it is not."""
    if row.handler is not None or row.blocking or row.numkeys or row.first_key != 1 or row.name in NIL_ARRAYS:
        return None
    return 2 if row.name in NIL_ARRAYS_COUNTED else 0


def packer_for(slots: SlotMap) -> Packer:
    """One for that map. All modules that answer commands must have been imported."""
    taken = [(row.name, most) for row in ROWS.values() if (most := _most(row)) is not None]
    # Commands that look different in RESP3 only with some options are left out there whole.
    same = [(name, most) for name, most in taken if name not in SHAPED3]
    return Packer(array.array("H", slots.shard_of).tobytes(), slots.shards, taken, same)


class PackedRun(Run):
    """Commands of one packet, all for one shard. It is its own item in the lane."""

    __slots__ = ("body", "count", "form", "slot", "writes")

    def __init__(self, connection: "Connection", slot: int, count: int, writes: bool, body: bytes) -> None:
        self.connection, self.slot, self.count, self.writes, self.body = connection, slot, count, writes, body
        self.data: bytes | None = None
        self.form = connection.resp

    def take_cut(self, data: bytes) -> None:
        """The replies, ready to be sent."""
        self.data = data
        self.connection.gateway.touched.add(self.connection)

    def apart(self) -> tuple[list[Any], Run, int]:
        """The item as the long way has it."""
        self.begin_apart(self.count)
        return commands_in(self.body, self.count), self, self.slot

    def begin_apart(self, count: int) -> None:
        self.encoders = [ENCODERS[self.form]] * count
        self.left, self.replies = count, []


class WovenRun(PackedRun):
    """Commands of one packet for several shards."""

    __slots__ = ("is_apart", "order", "parts")

    def __init__(self, connection: "Connection", order: bytes) -> None:
        super().__init__(connection, 0, len(order) // 2, False, b"")
        self.order = order
        self.parts: list[WovenPart] = []
        self.left = 0
        self.is_apart = False

    def part_came(self) -> None:
        """The last one makes it whole."""
        self.left -= 1
        if self.left:
            return
        woven = weave_results(self.order, [part.results for part in self.parts], self.form == 3)
        if woven is None:
            return self.come_apart()
        ERRORS.update(woven[1])
        self.take_cut(woven[0])

    def come_apart(self) -> None:
        """Go on by single commands: what has come already is handed in."""
        if self.is_apart:
            return
        self.is_apart = True
        self.begin_apart(self.count)
        for part in self.parts:
            if part.results:
                part.places.take(decode_results(part.results))


class WovenPart:
    """Those for one of the shards."""

    __slots__ = ("body", "count", "number", "results", "run", "slot", "writes")
    form = _RAW

    def __init__(self, run: WovenRun, number: int, slot: int, count: int, writes: bool, body: bytes) -> None:
        self.run, self.number, self.slot, self.count, self.writes, self.body = run, number, slot, count, writes, body
        self.results = b""
        run.parts.append(self)
        run.left += 1

    @property
    def places(self) -> Places:
        """Where its results go among those of the run."""
        return Places(self.run, [place for place, other in enumerate(memoryview(self.run.order).cast("H")) if other == self.number])

    def take_cut(self, data: bytes) -> None:
        """Results as msgpack."""
        if self.run.is_apart:
            return self.places.take(decode_results(data))
        self.results = data
        self.run.part_came()

    def apart(self) -> tuple[list[Any], Places, int]:
        self.run.come_apart()
        return commands_in(self.body, self.count), self.places, self.slot


PackedItem = PackedRun | WovenPart


def add_packed(connection: "Connection", parts: list[Any], order: bytes | None) -> None:
    """Queue what `Packer.pack` made of a packet."""
    add = connection.gateway.lanes.add_packed
    if order is None:
        shard, *rest = parts[0]
        run = PackedRun(connection, *rest)
        connection.pending.append(run)
        return add(shard, run)
    woven = WovenRun(connection, order)
    connection.pending.append(woven)
    for number, (shard, *rest) in enumerate(parts):
        add(shard, WovenPart(woven, number, *rest))


def go_short(connection: "Connection", data: bytes) -> bytes:
    """Have the engine answer the reads at the front, and pack what follows for the shards; what is left."""
    gateway = connection.gateway
    attachment = gateway.attachment_lately(connection.heard)
    if attachment is None:
        return data
    packer = gateway.packer
    assert packer is not None
    size, is_resp3 = len(data), connection.resp == 3
    end = begin = count = 0
    # What the last packet began with tells what is tried first.
    reads_next = not connection.wrote_last
    while end < size:
        may_read = not connection.pending
        if may_read and reads_next:
            replies, end, answered = attachment.reader.answer(data, begin, is_resp3, RESP_OUTPUT_HIGH_BYTES)
            if answered:
                connection.wrote_last = False
                count += answered
                connection.out.append(replies)
                connection.write()
                begin = end
                if end == size or connection.is_stalled:
                    break
            may_read = False
        end, parts, order = packer.pack(data, begin, is_resp3, may_read, BATCH_COMMANDS_MAX, REQUEST_BYTES_SOFT_MAX)
        if end > begin:
            connection.wrote_last = True
            add_packed(connection, parts, order)
            count += len(order) // 2 if order is not None else parts[0][2]
            connection.owed_bytes += end - begin
            begin = end
        elif not may_read:
            break
        else:
            reads_next = True
    if not count:
        return data
    connection.commands += count
    gateway.commands += count
    connection.last_read = data[:64]
    if end < len(data):
        return data[end:]
    if connection.owed_bytes > RESP_PENDING_BYTES_MAX or len(connection.pending) >= RESP_PENDING_COMMANDS_MAX:
        connection.flush()
    return b""


def array_head(count: int) -> bytes:
    """What stands before the items of a msgpack array."""
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 65_536 else b"\xdd" + count.to_bytes(4, "big")


def commands_in(body: bytes, count: int) -> list[Any]:
    """The commands of an item."""
    return decode_commands(array_head(count) + body)


def payload_of(items: list[Any]) -> bytes:
    """One batch of packed items and others."""
    bodies, total = [b""], 0
    for item in items:
        if type(item) is tuple:
            commands = item[0]
            total += len(commands)
            bodies.append(encode_commands(commands)[len(array_head(len(commands))) :])
        else:
            total += item.count
            bodies.append(item.body)
    bodies[0] = array_head(total)
    return b"".join(bodies)


def distribute(items: list[Any], payload: bytes) -> int:
    """Give a batch's results to the items; how many there were. 0: it is no plain reply, and nothing was given to anybody."""
    runs = [(len(item[0]), _RAW) if type(item) is tuple else (item.count, item.form) for item in items]
    found = cut_results(payload, runs)
    if found is None:
        return 0
    cut, codes = found
    if codes:
        ERRORS.update(codes)
    total = 0
    for item, data, run in zip(items, cut, runs, strict=True):
        total += run[0]
        if type(item) is tuple:
            item[1].take(decode_results(data))
        else:
            item.take_cut(data)
    return total


def apart(items: list[Any]) -> list[Any]:
    """All items as the long way has them. Raises ProtocolError if what was packed cannot be unpacked, which would be our bug."""
    return [item if type(item) is tuple else item.apart() for item in items]

