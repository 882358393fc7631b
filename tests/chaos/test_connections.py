"""Connections that do nothing, and clients that stop in the middle of a message."""

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmcache
from shmcache._engine import key_slot
from shmcache.protocol import codec, frames
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.wire import wire

IDLE_CONNECTIONS = 10_000
SPARE_DESCRIPTORS = 500
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
"""ZMTP 3.0, with which every ZeroMQ peer must get along (rfc.zeromq.org/spec/23)."""

HALF = next(key for key in (b"half%d" % number for number in range(100)) if key_slot(key) < 8192)
"""A key of the first of two workers."""


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance(workers=2) as found:
        yield found


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process open that many; skips where the host does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"needs {count} open files, the host allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect_raw(endpoint: str) -> socket.socket:
    """A bare stream to a router's or worker's endpoint."""
    kind, _, address = endpoint.partition("://")
    if kind == "ipc":
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(address)
    else:
        host, _, port = address.rpartition(":")
        raw = socket.create_connection((host, int(port)), timeout=10)
    raw.settimeout(10)
    return raw


def shake_hands(raw: socket.socket) -> None:
    """Become a DEALER in the eyes of the other side."""
    raw.sendall(GREETING + READY)
    received = b""
    while b"READY" not in received:
        part = raw.recv(4096)
        assert part, "the other side closed"
        received += part


def framed(body: bytes, *, more: bool) -> bytes:
    """A long ZMTP frame."""
    return bytes([2 | more]) + struct.pack(">Q", len(body)) + body


def works(instance: RunningInstance) -> None:
    """Both shards serve over both ways in."""
    for url in (instance.url, instance.tcp):
        with shmcache.connect(url) as cache:
            assert cache.mset({b"k%d" % number: number for number in range(20)}) is True
            assert cache.mget([b"k%d" % number for number in range(20)]) == [b"%d" % n for n in range(20)]


def router_clients(instance: RunningInstance) -> int:
    with wire(instance.tcp) as connection:
        return int(connection.control("stats", router=True)["router"]["clients"])


def test_connections_are_counted(instance: RunningInstance) -> None:
    """The statistics tell how many peers there are now; who is gone or never was one does not count."""
    with contextlib.ExitStack() as stack, wire(instance.tcp) as connection:

        def clients() -> int:
            return int(connection.control("stats", router=True)["router"]["clients"])

        wait_until(lambda: clients() == 1, 5, "only this one")
        for _ in range(5):
            shake_hands(stack.enter_context(connect_raw(instance.tcp)))
        with connect_raw(instance.tcp) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(100))
        wait_until(lambda: clients() == 6, 5, "five more")
        stack.pop_all().close()
        wait_until(lambda: clients() == 1, 5, "only this one again")


def test_ten_thousand_idle_connections() -> None:
    """Peers that have shaken hands and say nothing cost descriptors only: others are served, and go
    on being served when they all leave together; everything is given back.
    """
    with descriptors(IDLE_CONNECTIONS + SPARE_DESCRIPTORS), running_instance(workers=2) as instance:
        with contextlib.ExitStack() as stack:
            for _ in range(IDLE_CONNECTIONS):
                raw = stack.enter_context(connect_raw(instance.tcp))
                raw.sendall(GREETING + READY)
            wait_until(
                lambda: router_clients(instance) > IDLE_CONNECTIONS, 20, f"{IDLE_CONNECTIONS} handshakes"
            )
            works(instance)
            with wire(instance.tcp) as connection:
                started = time.perf_counter()
                for _ in range(500):
                    assert connection.ask(["SET", b"k", b"v"]) == ["OK"]
                print(f"SET beside {IDLE_CONNECTIONS} idle: {(time.perf_counter() - started) * 2000:.0f} us")
            started = time.perf_counter()
        works(instance)
        print(f"served again {time.perf_counter() - started:.2f} s after they began to leave")
        wait_until(lambda: router_clients(instance) < 10, 20, "connections are given back")


@pytest.mark.parametrize("where", ["router", "worker"])
@pytest.mark.parametrize(
    "part", ["greeting", "handshake", "frame length", "header", "payload", "between frames"]
)
def test_client_that_stops_in_the_middle(instance: RunningInstance, where: str, part: str) -> None:
    """Whatever is only half there is not executed and holds up nobody, while the connection stays and when
    it breaks.
    """
    endpoint = instance.tcp if where == "router" else instance.snapshot().shards[0].endpoints[0]
    header = framed(frames.pack_header(slot=key_slot(HALF), request_id=1), more=True)
    payload = framed(codec.encode_commands([["SET", HALF, b"x" * 5000]]), more=False)
    with connect_raw(endpoint) as raw:
        if part == "greeting":
            raw.sendall(GREETING[:20])
        elif part == "handshake":
            raw.sendall(GREETING + READY[:9])
        else:
            shake_hands(raw)
            halves = {
                "frame length": header[:5],
                "header": header[:20],
                "payload": header + payload[:2000],
                "between frames": header,
            }
            raw.sendall(halves[part])
        works(instance)
    works(instance)
    with shmcache.connect(instance.url) as cache:
        assert cache.get(HALF) is None


def test_whole_message_over_a_raw_socket(instance: RunningInstance) -> None:
    """The bytes that the tests above send halves of are a request that is executed."""
    with connect_raw(instance.tcp) as raw:
        shake_hands(raw)
        header = frames.pack_header(slot=key_slot(b"whole"), request_id=1)
        payload = codec.encode_commands([["SET", b"whole", b"x"]])
        raw.sendall(framed(header, more=True) + framed(payload, more=False))
        assert b"OK" in raw.recv(4096)
    with shmcache.connect(instance.url) as cache:
        assert cache.get(b"whole") == b"x"


def test_client_killed_while_it_sends(instance: RunningInstance) -> None:
    """`kill -9` in the middle of a large value: the key holds the old or the new value, never a part."""
    program = (
        "import sys, shmcache\n"
        "with shmcache.connect(sys.argv[1]) as cache:\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        cache.set('large', b'1' * 4_000_000); cache.set('large', b'2' * 4_000_000)\n"
    )
    root = Path(__file__).resolve().parents[2]
    for url in (instance.url, instance.tcp) * 3:
        with subprocess.Popen(
            [sys.executable, "-c", program, url], cwd=root, stdout=subprocess.PIPE
        ) as client:
            assert client.stdout is not None
            client.stdout.readline()
            time.sleep(0.1 + int.from_bytes(os.urandom(1), "big") / 5000)
            client.send_signal(signal.SIGKILL)
        with shmcache.connect(instance.url) as cache:
            assert cache.get("large") in (None, b"1" * 4_000_000, b"2" * 4_000_000)
        works(instance)
