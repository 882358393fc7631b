"""One message to one shard: what is not its plain reply is still dealt with."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from shmcache.client.channels import Channels
from shmcache.client.exchange import Request
from shmcache.client.routes import RouterRoute
from shmcache.errors import CacheTimeout, OutcomeUnknown, ProtocolError, ShmcacheError
from shmcache.protocol import codec, frames

Answer = list[bytes]
REPLY = codec.encode_results(["OK"])


def head(number: int, flags: int = 0) -> bytes:
    return frames.pack_header(flags, 0, 0, number, 0)


class Peer:
    """A ROUTER that gives scripted answers: for each request the messages that follow from its number."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.script: list[Callable[[int], list[Answer]]] = []
        self.numbers: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(10):
                identity, header, _ = self._socket.recv_multipart()
                number = frames.request_id_of(header)
                self.numbers.append(number)
                for message in self.script.pop(0)(number) if self.script else []:
                    self._socket.send_multipart([identity, *message])

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self._context.term()


@pytest.fixture
def peer() -> Iterator[Peer]:
    running = Peer()
    yield running
    running.close()


def ask(peer: Peer, name: str = "SET", timeout: float = 5.0) -> bytes | ShmcacheError | None:
    command = (name, "k", 1)
    request = Request(0, 0, 0, codec.encode_commands([command]), (command,))
    channels = Channels()
    try:
        channels.ask(RouterRoute(peer.endpoint), request, timeout)
    finally:
        channels.close()
    return request.outcome


def late(number: int) -> list[Answer]:
    time.sleep(0.15)
    return [[head(number), REPLY]]


@pytest.mark.parametrize(
    "first",
    [
        lambda number: [[head(number), REPLY]],
        lambda number: [[head(number + 1), b""], [head(number), REPLY]],
        lambda number: [[b"", b""], [head(number), REPLY]],
        lambda number: [[head(number), REPLY, b"more"], [head(number), REPLY]],
        late,
    ],
    ids=["plain", "foreign first", "empty first", "three frames first", "late"],
)
def test_reply_is_found(peer: Peer, first: Callable[[int], list[Answer]]) -> None:
    """Whatever comes before the reply, and however late it comes, it is the outcome of the one request."""
    peer.script = [first]
    assert ask(peer, "INCR") == REPLY
    assert len(peer.numbers) == 1


def test_refused_and_asked_again(peer: Peer) -> None:
    """A message that was refused because the shard is away was not executed: also INCR is sent again."""
    away = codec.encode_error("UNAVAILABLE", "no worker")
    peer.script = [
        lambda number: [[head(number, frames.ERROR), away]],
        lambda number: [[head(number), REPLY]],
    ]
    assert ask(peer, "INCR") == REPLY
    assert len(set(peer.numbers)) == 2


def test_refused_for_good(peer: Peer) -> None:
    """Another refusal is the outcome at once."""
    wrong = codec.encode_error("PROTOCOL", "what?")
    peer.script = [lambda number: [[head(number, frames.ERROR), wrong]]]
    assert isinstance(ask(peer), ProtocolError)


@pytest.mark.parametrize(
    ("timeout", "name", "error"),
    [
        (0.2, "SET", CacheTimeout),
        (0.2, "INCR", OutcomeUnknown),
        (0.01, "SET", CacheTimeout),
    ],
)
def test_silence(peer: Peer, timeout: float, name: str, error: type[Exception]) -> None:
    """Without a reply the call ends at its timeout, also at one below the polling interval."""
    began = time.monotonic()
    assert type(ask(peer, name, timeout)) is error
    assert timeout * 0.9 < time.monotonic() - began < timeout + 0.3
    assert len(peer.numbers) == 1
