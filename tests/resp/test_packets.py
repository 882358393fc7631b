"""Packets that wait for their lane: what is taken of a queue, without any process."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from shmcache.protocol.commands import SlotMap
from shmcache.protocol.directory import SLOTS
from shmcache.server.gateway import gateway as _all_commands  # noqa: F401
from shmcache.server.gateway.packed import packer_for
from shmcache.server.gateway.packets import Packet, pack

SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
PING = b"PING\r\n"


class Connection(SimpleNamespace):
    """What a packet needs of one; `went_on` has what was handed back to it."""

    def __init__(self, gateway: Any) -> None:
        super().__init__(gateway=gateway, resp=2, pending=deque(), wrote_last=True, commands=0, last_read=b"", went_on=[])

    def go_on(self, data: bytes) -> None:
        self.went_on.append(data)
        # As the long way does: what is not plain comes to the queue as something else.
        self.gateway.queue.append(("commands", self))


@pytest.fixture
def gateway() -> Any:
    slots = SlotMap((0,) * SLOTS, (0,))
    made = SimpleNamespace(commands=0, queue=deque(), packer=packer_for(slots), loop=SimpleNamespace(time=lambda: 0.0))
    made.attachment_lately = lambda now: made
    return made


def wait(gateway: Any, *packets: bytes) -> list[Packet]:
    """Each of a connection of its own."""
    found = []
    for data in packets:
        packet = Packet(Connection(gateway), data)
        packet.connection.pending.append(packet)
        gateway.queue.append(packet)
        found.append(packet)
    return found


def test_plain_ones_go_together(gateway: Any) -> None:
    waiting = wait(gateway, SET, SET * 3)
    packets, _, _, writes = pack(gateway, gateway.queue)
    assert (packets, writes, [packet.count for packet in packets]) == (waiting, True, [1, 3])
    assert (gateway.commands, waiting[1].connection.commands, len(gateway.queue)) == (4, 3, 0)


def test_others_go_another_way_and_hold_nobody_up(gateway: Any) -> None:
    waiting = wait(gateway, PING, SET, PING, SET + PING, SET)
    assert pack(gateway, gateway.queue)[0] == [waiting[1]]
    assert pack(gateway, gateway.queue)[0] == [waiting[4]]
    assert [packet.connection.went_on for packet in waiting] == [[PING], [], [PING], [SET + PING], []]
    assert [type(item) for item in gateway.queue] == [tuple] * 3
    assert not waiting[0].connection.pending


@pytest.mark.parametrize("then", [(), (SET,)])
def test_settled_ones_are_passed_over(gateway: Any, then: tuple[bytes, ...]) -> None:
    """Also if nothing but other items is behind them."""
    first = wait(gateway, SET)[0]
    first.settle()
    rest = wait(gateway, *then)
    assert list(gateway.queue)[1:2] == [("commands", first.connection)]
    assert pack(gateway, gateway.queue) is None
    assert gateway.queue.popleft() == ("commands", first.connection)
    taken = pack(gateway, gateway.queue)
    assert (taken[0] if taken else []) == rest


def test_a_connection_that_is_gone_is_not_spoken_to(gateway: Any) -> None:
    gone = wait(gateway, PING)[0]
    gone.connection.pending.clear()
    assert pack(gateway, gateway.queue) is None
    assert (gone.connection.went_on, len(gateway.queue)) == ([], 0)


def test_without_a_map_all_go_another_way(gateway: Any) -> None:
    waiting = wait(gateway, SET, SET)
    gateway.attachment_lately = lambda now: None
    assert pack(gateway, gateway.queue) is None
    assert [packet.connection.went_on for packet in waiting] == [[SET], [SET]]
