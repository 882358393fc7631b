"""Instances with a RESP port, shared by the tests of a module, and plain sockets to them."""

import socket
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.support.instance import RunningInstance, running_instance


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    """Two shards, so that commands split and merge."""
    with running_instance(workers=2, resp="127.0.0.1:0", memory="512MB") as found:
        yield found


@pytest.fixture(scope="module")
def single() -> Iterator[RunningInstance]:
    """One shard, two gateways."""
    with running_instance(workers=1, resp="127.0.0.1:0", resp_processes=2) as found:
        yield found


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(request: pytest.FixtureRequest, instance: RunningInstance) -> Iterator[redis.Redis]:
    with redis.Redis(port=instance.resp_port, protocol=request.param) as found:
        found.flushall()
        yield found


class Wire:
    """A plain TCP connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(10)

    def send(self, data: bytes) -> "Wire":
        self.socket.sendall(data)
        return self

    def read(self, count: int) -> bytes:
        """Exactly so many bytes, or what there is before the end."""
        found = b""
        while len(found) < count and (data := self.socket.recv(min(1 << 20, count - len(found)))):
            found += data
        return found

    def ask(self, data: bytes, reply: bytes) -> None:
        """Send, and see that exactly this comes."""
        assert self.send(data).read(len(reply)) == reply

    def rest(self) -> bytes:
        """What comes until the server closes."""
        found = b""
        try:
            while data := self.socket.recv(1 << 16):
                found += data
        except ConnectionResetError:
            pass
        return found

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def wire(instance: RunningInstance) -> Iterator[Callable[[], Wire]]:
    opened: list[Wire] = []

    def connect() -> Wire:
        opened.append(Wire(instance.resp_port))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()
