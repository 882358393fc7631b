"""A request that the wire held back until long after its sender had given up is not executed any more."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import shmcache
from shmcache.errors import ShmcacheError
from tests.support.instance import running_instance, wait_until


class HoldingProxy:
    """Passes bytes on, and those to the server only while `held` is not set: what a partition does, which TCP repairs when it heals."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.held = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, holds: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while holds and self.held.is_set():
                    time.sleep(0.01)
                sink.sendall(data)

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def holding_proxy(tcp: str) -> Iterator[HoldingProxy]:
    proxy = HoldingProxy(("127.0.0.1", int(tcp.rpartition(":")[2])))
    try:
        yield proxy
    finally:
        proxy.close()


def test_a_write_that_was_held_back_does_not_undo_a_later_one() -> None:
    with running_instance() as instance, holding_proxy(instance.tcp) as proxy, shmcache.connect(instance.url) as local:
        with shmcache.connect(f"tcp://127.0.0.1:{proxy.port}", timeout=0.5) as remote:
            remote.set("key", b"before")
            proxy.held.set()
            with pytest.raises(ShmcacheError):
                remote.set("key", b"late")
            local.set("key", b"after")
            proxy.held.clear()
            wait_until(lambda: _set(remote, "mark"), 5)
            _assert_stays(local, b"after")


def test_a_forwarded_write_that_was_held_back() -> None:
    """Between a replica's router and its primary likewise."""
    with running_instance() as one, holding_proxy(one.tcp) as proxy:
        through = f"tcp://127.0.0.1:{proxy.port}"
        with running_instance(replica_of=through, forward_writes=True) as two, shmcache.connect(one.url) as local:
            with shmcache.connect(two.url, timeout=0.5) as client:
                wait_until(lambda: _set(client, "key"), 10)
                proxy.held.set()
                with pytest.raises(ShmcacheError):
                    client.set("key", b"late")
                local.set("key", b"after")
                proxy.held.clear()
                wait_until(lambda: _set(client, "mark"), 10)
                _assert_stays(local, b"after")


def _assert_stays(client: shmcache.Client, value: bytes) -> None:
    """The late write may come by another connection than what was sent after it."""
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert client.get("key") == value
        time.sleep(0.01)


def _set(client: shmcache.Client, key: str) -> bool:
    try:
        client.set(key, b"1")
    except ShmcacheError:
        return False
    return True
