"""What a test commands of a wire happens on it, and nothing else."""

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.hosts import echo
from tests.support.hosts import Host, Hosts, hosts
from tests.support.links import WireError


@pytest.fixture(params=["veth", "user"])
def pair(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Two hosts, on either wire."""
    with hosts(2, wire=request.param) as made:
        yield made


@pytest.fixture
def user_pair() -> Iterator[Hosts]:
    with hosts(2, wire="user") as made:
        yield made


def program(host: Host, code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a program of echo.py that says when it is ready."""
    command = [sys.executable, "-c", code, host.address, *arguments]
    process = host.run(*command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def connection_to(server: Host, client: Host, timeout_s: float = 5.0) -> socket.socket:
    with client.inside():
        return socket.create_connection((server.address, echo.PORT), timeout_s)


def datagrams(pair: Hosts, count: int, gap_s: float = 0.0) -> list[int]:
    """Send numbered datagrams from host 0 to host 1; returns what arrived, in order."""
    receiver = program(pair[1], echo.COUNT, "1.0")
    with pair[0].inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for number in range(count):
            sender.sendto(str(number).encode(), (pair[1].address, echo.PORT))
            time.sleep(gap_s)
    assert receiver.stdout is not None
    lines = receiver.stdout.read().split()
    assert lines.pop() == "end"
    return [int(line) for line in lines]


def test_untouched_wire_passes_everything(pair: Hosts):
    """TCP data comes back whole, datagrams all and in order."""
    program(pair[1], echo.SERVE)
    with connection_to(pair[1], pair[0]) as connection:
        echo.round_trip(connection, os.urandom(2_000_000))
    assert datagrams(pair, 500) == list(range(500))


def test_hosts_have_their_own_network(pair: Hosts):
    """A port of one host is not open in the other, nor in a second group with the same addresses.

    (Never try those from the machine's own namespace: there the packets leave for the real network.)
    """
    program(pair[1], echo.SERVE)
    with pytest.raises(ConnectionRefusedError):
        connection_to(pair[0], pair[0])
    with hosts(2) as others, pytest.raises(ConnectionRefusedError):
        connection_to(others[1], others[0])


@pytest.mark.parametrize("direction", ["both", "ab", "ba"])
def test_partition_stops_tcp_and_heals(pair: Hosts, direction):
    """A connection hangs in the partition, whichever way is cut, and goes on after it."""
    program(pair[1], echo.SERVE)
    with connection_to(pair[1], pair[0]) as connection:
        echo.round_trip(connection, b"before")
        pair.wire().partition(direction)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            echo.round_trip(connection, b"within")
        pair.wire().heal()
        # Its retransmissions come later and later.
        connection.settimeout(10)
        assert connection.recv(100) == b"within"
        echo.round_trip(connection, b"after")


def test_partition_one_way_lets_the_other_pass(pair: Hosts):
    """Only the direction that was cut is silent."""
    pair.wire().partition("ba")
    assert datagrams(pair, 20) == list(range(20))
    pair.wire().heal()
    pair.wire().partition("ab")
    assert datagrams(pair, 20) == []


def test_plain_wire_refuses_what_it_cannot(pair: Hosts):
    """An impairment is done or refused, never ignored."""
    try:
        pair.wire().set(loss=1.0)
    except WireError:
        assert datagrams(pair, 5) == list(range(5))
    else:
        assert datagrams(pair, 5) == []
    pair.wire().heal()


def test_delay_is_what_was_asked(user_pair: Hosts):
    """30 ms each way are 60 ms there and back; healed, it is short again."""
    program(user_pair[1], echo.SERVE)
    with connection_to(user_pair[1], user_pair[0]) as connection:
        plain = statistics.median(echo.round_trip(connection, b"x") for _ in range(20))
        user_pair.wire().set(delay_ms=30, jitter_ms=2)
        slow = statistics.median(echo.round_trip(connection, b"x") for _ in range(10))
        user_pair.wire().heal()
        healed = statistics.median(echo.round_trip(connection, b"x") for _ in range(20))
    print(f"round trip in s: plain {plain:.5f}, with 2 x 30 ms {slow:.5f}, healed {healed:.5f}")
    assert plain < 0.02
    assert 0.055 < slow < 0.085
    assert healed < 0.02


def test_loss_is_counted(user_pair: Hosts):
    """Half of 1000 datagrams are lost, those that the counter says; TCP gets through a tenth."""
    user_pair.wire().set("ab", loss=0.5)
    arrived = datagrams(user_pair, 1000)
    assert 400 < len(arrived) < 600
    assert len(arrived) == 1000 - user_pair.wire().counts("ab")["lost"]
    assert arrived == sorted(arrived)
    user_pair.wire().set(loss=0.1)
    program(user_pair[1], echo.SERVE)
    with connection_to(user_pair[1], user_pair[0], 20) as connection:
        echo.round_trip(connection, os.urandom(50_000))


def test_reorder_and_duplicate(user_pair: Hosts):
    """Some datagrams come late, some twice; none is missing."""
    user_pair.wire().set("ab", reorder=0.1, duplicate=0.1)
    arrived = datagrams(user_pair, 500, gap_s=0.0005)
    assert set(arrived) == set(range(500))
    assert arrived != sorted(arrived)
    counts = user_pair.wire().counts("ab")
    assert counts["duplicated"] > 10
    assert len(arrived) == 500 + counts["duplicated"]
    assert counts["reordered"] > 10


def test_corruption_stays_on_the_wire(user_pair: Hosts):
    """The kernel's checksums drop a flipped frame: datagrams are missing or right, TCP data arrives right."""
    user_pair.wire().set(corrupt=0.2)
    arrived = datagrams(user_pair, 500)
    assert set(arrived) <= set(range(500))
    assert 300 < len(arrived) < 480
    assert user_pair.wire().counts("ab")["corrupted"] > 40
    user_pair.wire().set(corrupt=0.05)
    program(user_pair[1], echo.SERVE)
    with connection_to(user_pair[1], user_pair[0], 20) as connection:
        echo.round_trip(connection, os.urandom(100_000))


def test_rate_limits(user_pair: Hosts):
    """300 kB at 4 Mbit/s take 0.6 s, not less and not much more."""
    program(user_pair[1], echo.SERVE)
    with connection_to(user_pair[1], user_pair[0], 20) as connection:
        user_pair.wire().set("ab", rate_mbit=4)
        seconds = echo.round_trip(connection, os.urandom(300_000))
    assert 0.55 < seconds < 2.5


@pytest.mark.parametrize("wire", ["veth", "user"])
def test_three_hosts_have_three_wires(wire):
    """One host is isolated from two that still talk."""
    with hosts(3, wire=wire) as group:
        program(group[1], echo.SERVE)
        group.isolate(0)
        with connection_to(group[1], group[2]) as connection:
            echo.round_trip(connection, os.urandom(100_000))
        with pytest.raises(TimeoutError):
            connection_to(group[1], group[0], 0.5)
        group.heal()
        with connection_to(group[1], group[0]) as connection:
            echo.round_trip(connection, b"again")
