"""The corrupting proxy damages what it is told to, and says how often."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.hosts import echo
from tests.support.corrupt import Corrupter, CorruptingProxy, Damage


def different(one: bytes, other: bytes) -> list[int]:
    assert len(one) == len(other)
    return [position for position in range(len(one)) if one[position] != other[position]]


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """An echo server in a thread."""

    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[:2]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part
        data += part
    return data


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 7, 1000])
def test_marker_is_found_in_any_chunking(chunk_bytes):
    """Exactly one byte of the second occurrence is flipped, however the stream is cut."""
    stream = b"..MARKERxxMARK..MARKERzz" + b"MARKER" * 3
    corrupter = Corrupter(Damage(marker=b"MARKER", occurrence=2), 1)
    chunks = [stream[at : at + chunk_bytes] for at in range(0, len(stream), chunk_bytes)]
    passed = b"".join(corrupter.pass_on(chunk) for chunk in chunks)
    second = stream.index(b"MARKER", 5)
    assert len(changed := different(stream, passed)) == 1
    assert second <= changed[0] < second + 6
    assert corrupter.flips == 1


def test_random_damage_spares_short_payloads():
    """Only payloads over the bound are damaged, about the asked share of them."""
    corrupter = Corrupter(Damage(share=0.5, longer_than=100), 1)
    assert all(corrupter.pass_on(bytes(100)) == bytes(100) for _ in range(100))
    damaged = sum(corrupter.pass_on(bytes(101)) != bytes(101) for _ in range(400))
    assert 150 < damaged < 250
    assert corrupter.flips == damaged


def test_proxy_forwards_and_damages_one_direction(server):
    """What goes to the server is damaged once; the way back and other traffic are not."""
    with CorruptingProxy(server, Damage(marker=b"key-7"), direction="to_server") as proxy:
        with socket.create_connection(proxy.address, 5) as connection:
            echo.round_trip(connection, b"key-6 and more")
            connection.sendall(b"a key-7 b")
            assert len(different(b"a key-7 b", receive(connection, 9))) == 1
            echo.round_trip(connection, b"a key-7 b")
        assert proxy.flips == 1


def test_proxy_without_damage_is_transparent(server):
    """Much data in both directions, unchanged; a closed end closes the other."""
    with CorruptingProxy(server, Damage()) as proxy:
        with socket.create_connection(proxy.address, 5) as connection:
            sent = os.urandom(3_000_000)
            sender = threading.Thread(target=connection.sendall, args=(sent,))
            sender.start()
            assert receive(connection, len(sent)) == sent
            sender.join()
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert proxy.flips == 0


def test_proxy_to_nobody_closes():
    """A target that refuses closes the connection, and the proxy goes on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = unused.getsockname()[:2]
    with CorruptingProxy(nobody, Damage()) as proxy:
        for _ in range(2):
            with socket.create_connection(proxy.address, 5) as connection:
                assert connection.recv(1) == b""
