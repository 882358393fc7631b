"""A request that the wire held back until long after its sender had given up is not executed any more."""

import contextlib
import time
from collections.abc import Iterator

import pytest

import shmcache
from shmcache.errors import ShmcacheError
from tests.support.instance import running_instance, wait_until
from tests.support.valve import Valve


@contextlib.contextmanager
def valve_before(tcp: str) -> Iterator[Valve]:
    valve = Valve(int(tcp.rpartition(":")[2]))
    try:
        yield valve
    finally:
        valve.close()


def test_a_write_that_was_held_back_does_not_undo_a_later_one() -> None:
    with running_instance() as instance, valve_before(instance.tcp) as valve, shmcache.connect(instance.url) as local:
        with shmcache.connect(f"tcp://127.0.0.1:{valve.port}", timeout=0.5) as remote:
            remote.set("key", b"before")
            valve.set(0)
            with pytest.raises(ShmcacheError):
                remote.set("key", b"late")
            local.set("key", b"after")
            valve.set(None)
            wait_until(lambda: _set(remote, "mark"), 5)
            _assert_stays(local, b"after")


def test_a_forwarded_write_that_was_held_back() -> None:
    """Between a replica's router and its primary likewise."""
    with running_instance() as one, valve_before(one.tcp) as valve:
        through = f"tcp://127.0.0.1:{valve.port}"
        with running_instance(replica_of=through, forward_writes=True) as two, shmcache.connect(one.url) as local:
            with shmcache.connect(two.url, timeout=0.5) as client:
                wait_until(lambda: _set(client, "key"), 10)
                valve.set(0)
                with pytest.raises(ShmcacheError):
                    client.set("key", b"late")
                local.set("key", b"after")
                valve.set(None)
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
