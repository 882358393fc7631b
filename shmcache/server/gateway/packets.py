"""The shortest way to the only shard: packets wait as they came until its lane sends, and all of them are packed by one native call. No I/O.

A packet goes this way if it is likely to be plain, which is what the last one of its connection was. It is the only thing that its connection
waits for. One that turns out to be something else goes the other ways, from its place in the queue.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ...client.session import BATCH_COMMANDS_MAX
from ...limits import REQUEST_BYTES_SOFT_MAX
from .packed import PackedRun, commands_in

if TYPE_CHECKING:
    from .connection import Connection
    from .gateway import Gateway

PACKET_BYTES_MAX: Final = 64 * 1024
"""Larger ones go the way on which bytes that wait are counted."""


class Packet(PackedRun):
    """A packet of one connection. `count` is 0 until it is packed."""

    __slots__ = ("is_settled", "packet")

    def __init__(self, connection: "Connection", packet: bytes) -> None:
        self.connection, self.packet, self.form = connection, packet, connection.resp
        self.data: bytes | None = None
        self.count = 0
        self.is_settled = False
        """It went another way."""

    def take_cut(self, data: bytes) -> None:
        """The replies, ready to be sent."""
        if not self.connection.answer_only(self, data):
            super().take_cut(data)

    def settle(self) -> None:
        """Go another way, at once: it is not plain, or its connection has more to say."""
        self.is_settled = True
        connection = self.connection
        if connection.pending and connection.pending[-1] is self:
            connection.pending.pop()
            connection.wrote_last = False
            connection.go_on(self.packet)

    def apart(self) -> tuple[list[Any], PackedRun, int]:
        """The item as the long way has it."""
        packer = self.connection.gateway.packer
        assert packer is not None
        _, parts, _ = packer.pack(self.packet, 0, self.form == 3, False, BATCH_COMMANDS_MAX, len(self.packet))
        _, slot, count, _, body = parts[0]
        self.begin_apart(count)
        return commands_in(body, count), self, slot


def pack(gateway: "Gateway", queue: deque[Any]) -> tuple[list[Packet], bytes, int, bool] | None:
    """Take what is plain from the packets at the front of the queue: (packets, payload, slot of the first, whether any writes).

    None if the queue does not begin with a packet any more; it may be empty then.
    """
    while queue and type(queue[0]) is Packet:
        packets: list[Packet] = []
        while queue and type(item := queue[0]) is Packet:
            queue.popleft()
            if not item.is_settled:
                packets.append(item)
        if not packets:
            continue
        packer = gateway.packer
        if gateway.attachment_lately(gateway.loop.time()) is None or packer is not gateway.packer or packer is None:
            # The map is another one, or gone.
            for packet in packets:
                packet.settle()
            continue
        given = [(packet.packet, packet.form) for packet in packets]
        payload, runs, slot, writes = packer.pack_packets(given, BATCH_COMMANDS_MAX, REQUEST_BYTES_SOFT_MAX)
        taken = len(runs)
        if not taken:
            queue.extendleft(reversed(packets[1:]))
            packets[0].settle()
            continue
        if taken < len(packets):
            queue.extendleft(reversed(packets[taken:]))
            del packets[taken:]
        for packet, run in zip(packets, runs, strict=True):
            packet.count = count = run[0]
            connection = packet.connection
            connection.commands += count
            connection.last_read = packet.packet[:64]
            gateway.commands += count
        return packets, payload, slot, writes
    return None
