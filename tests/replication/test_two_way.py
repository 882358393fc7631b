"""Instances that replicate each other: last write wins, deletions stay deleted, and after a partition all end the same."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

import shmcache
from tests.replication.pairs import status, wait_equal
from tests.support.hosts import hosts
from tests.support.instance import RunningInstance, running_instance, wait_until


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def mesh(count: int, **options: object) -> Iterator[list[RunningInstance]]:
    """Instances with a link to every other one."""
    addresses = [f"tcp://127.0.0.1:{port}" for port in free_ports(count)]
    with contextlib.ExitStack() as stack:
        instances = []
        for number, address in enumerate(addresses):
            peers = ",".join(other for other in addresses if other != address)
            settings = {"listen": address, "peers": peers, "node": number + 1, "workers": 1 + number % 2} | options
            instances.append(stack.enter_context(running_instance(**settings)))
        for instance in instances:
            wait_until(lambda instance=instance: all(link["caught_up"] for link in status(instance)["links"]), 20)
        yield instances


def test_everyone_writes_and_everyone_gets_it():
    with mesh(3) as instances, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(shmcache.connect(instance.url)) for instance in instances]
        for n in range(300):
            for number, client in enumerate(clients):
                client.set(f"own{number}:{n}", n)
                client.set(f"shared{n % 50}", f"{number}:{n}")
            if n % 3 == 0:
                clients[n % 3].delete(f"own0:{n - 3}")
        wait_equal(*instances)
        assert clients[2].get("own0:1") == b"1"
        assert clients[1].get("own0:0") is None
        assert len({client.dbsize() for client in clients}) == 1
        clients[0].flushall()
        wait_equal(*instances)
        wait_until(lambda: all(client.dbsize() == 0 for client in clients), 5)


def test_one_that_starts_anew_gets_everything_back():
    with mesh(2, ephemeral=True) as (one, two), shmcache.connect(one.url) as client:
        for n in range(500):
            client.set(f"k{n}", n)
        client.delete("k7")
        wait_equal(one, two)
        one.stop()
        one.start()
        wait_equal(one, two)
        with shmcache.connect(one.url) as again:
            assert again.get("k8") == b"8"
            assert again.get("k7") is None


@pytest.mark.timeout(240)
def test_a_partition_heals_to_the_same_state_and_no_deletion_comes_back():
    """Both sides go on while they cannot hear each other."""
    with hosts(2, wire="veth") as group, contextlib.ExitStack() as stack:
        addresses = [f"tcp://{host.address}:7400" for host in group]
        instances = []
        for number, host in enumerate(group):
            settings = {"listen": addresses[number], "peers": addresses[1 - number], "node": number + 1, "workers": 2}
            instances.append(stack.enter_context(host.running_instance(**settings)))
        a, b = (stack.enter_context(shmcache.connect(instance.url)) for instance in instances)
        for n in range(200):
            a.set(f"k{n}", "before")
        wait_equal(*instances)
        group.wire().partition("both")
        a.set("k0", "a")
        b.set("k1", "b")
        # Stamps of different hosts are as good as their clocks: milliseconds.
        time.sleep(0.05)
        b.set("k0", "b, later")
        a.set("k1", "a, later")
        for n in range(10, 60):
            a.delete(f"k{n}")
            b.delete(f"k{n + 100}")
        time.sleep(0.05)
        b.set("k150", "written after the deletion on that side")
        a.incr("counter", 5)
        b.incr("counter", 7)
        for n in range(2000):
            a.set(f"a{n}", "x" * 100)
            b.set(f"b{n}", "y" * 100)
        wait_until(lambda: all(link["state"] == "down" for i in instances for link in status(i)["links"]), 20)
        group.wire().heal()
        wait_equal(*instances, seconds=60)
        assert a.get("k0") == b"b, later"
        assert b.get("k1") == b"a, later"
        assert a.get("k115") is None
        assert b.get("k15") is None
        assert a.get("k150") == b"written after the deletion on that side"
        assert a.get("counter") in (b"5", b"7"), "numbers are values: the last write wins, they are not added"
        assert a.dbsize() == b.dbsize() == len(list(b.scan_iter()))


@pytest.mark.timeout(240)
def test_a_flush_that_the_log_no_longer_has_is_part_of_the_copy():
    """Flushed during a partition, and then so much written that the ring has lost the flush: what was older goes, what was written since stays."""
    with hosts(2, wire="veth") as group, contextlib.ExitStack() as stack:
        addresses = [f"tcp://{host.address}:7400" for host in group]
        instances = []
        for number, host in enumerate(group):
            settings = {"listen": addresses[number], "peers": addresses[1 - number], "node": number + 1, "workers": 2 - number}
            instances.append(stack.enter_context(host.running_instance(log_size="64KB", **settings)))
        a, b = (stack.enter_context(shmcache.connect(instance.url)) for instance in instances)
        for n in range(200):
            a.set(f"old{n}", "before")
        wait_equal(*instances)
        group.wire().partition("both")
        wait_until(lambda: all(link["state"] == "down" for i in instances for link in status(i)["links"]), 20)
        b.set("b0", "written before the flush")
        # Stamps of different hosts are as good as their clocks: milliseconds.
        time.sleep(0.05)
        a.flushall()
        time.sleep(0.05)
        b.set("old1", "written after the flush")
        for n in range(3000):
            a.set(f"a{n % 100}", "x" * 100)
        group.wire().heal()
        wait_equal(*instances, seconds=60)
        assert "full copy of a shard is complete" in instances[1].log().partition("link down")[2], "the ring was to be overrun"
        assert b.get("old0") is None
        assert a.get("b0") is None
        assert a.get("old1") == b"written after the flush"
        assert a.dbsize() == b.dbsize() == 101
