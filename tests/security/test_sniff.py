"""What someone on the way sees."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import shmcache
from tests.security.conftest import Keys
from tests.support.instance import running_instance

KEY, VALUE = "account:secret-name", b"the-value-that-nobody-shall-read" * 8


class Sniffer:
    """A TCP proxy that keeps all bytes of both directions."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen = bytearray()
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            open_sockets = []
            while not self._closing.is_set():
                for key, _ in selector.select(0.05):
                    if key.fileobj is self._listener:
                        near, far = self._listener.accept()[0], socket.create_connection(self._target)
                        selector.register(near, selectors.EVENT_READ, far)
                        selector.register(far, selectors.EVENT_READ, near)
                        open_sockets += [near, far]
                        continue
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    self.seen += data
                    if data:
                        key.data.sendall(data)
                    else:
                        selector.unregister(key.fileobj)
                        key.data.shutdown(socket.SHUT_WR)
            for found in open_sockets:
                found.close()

    @classmethod
    @contextmanager
    def at(cls, target: str) -> "Iterator[Sniffer]":
        proxy = cls(target)
        proxy._thread.start()
        try:
            yield proxy
        finally:
            proxy._closing.set()
            proxy._thread.join()
            proxy._listener.close()


def traffic(server: dict[str, Any], client: dict[str, Any]) -> bytes:
    """All bytes of a SET and a GET on the way."""
    with running_instance(**server) as instance, Sniffer.at(instance.tcp) as sniffer:
        with shmcache.connect(sniffer.endpoint, **client) as cache:
            assert cache.set(KEY, VALUE)
            assert cache.get(KEY) == VALUE
        return bytes(sniffer.seen)


@pytest.mark.parametrize("encrypted", [False, True])
def test_bytes_on_the_way(keys: Keys, encrypted: bool) -> None:
    """With CURVE neither key, value nor command is to be seen; without it all are: the test would notice."""
    seen = traffic(keys.of_server | {"curve": "on"}, keys.of_client()) if encrypted else traffic({}, {})
    assert len(seen) > 2 * len(VALUE)
    for secret in (KEY.encode(), VALUE, VALUE[:16], b"SET", b"topology"):
        assert (secret in seen) is not encrypted
