"""A replica holds what its primary holds: whatever their numbers of workers, whatever dies meanwhile."""

import os
import signal
import time

import pytest

import shmcache
from shmcache.errors import ReadOnly
from tests.replication.pairs import pair, primary, relay_pid, replica, status, wait_caught_up, wait_equal
from tests.support.instance import running_instance, wait_until


def write_all_kinds(client: shmcache.Client, rounds: int = 300) -> None:
    """Every kind of effect: values, deletions, deadlines, transactions, renames, numbers, large values."""
    for n in range(rounds):
        client.set(f"k{n}", f"v{n}" * 5)
        client.set(f"t{n}", "x", px=60_000 + n)
        client.incr("counter")
        if n % 3 == 0:
            client.delete(f"k{n}")
        if n % 5 == 0:
            client.expire(f"t{n}", 1000)
        if n % 7 == 0:
            with client.pipeline(transaction=True) as both:
                both.set(f"{{g{n}}}a", n).set(f"{{g{n}}}b", n).execute()
        if n % 50 == 0:
            client.set(f"large{n}", bytes(1 << 20))
        client.set(f"short{n}", "gone soon", px=30)


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (2, 1), (1, 3)])
def test_a_replica_gets_everything_with_any_number_of_workers(ours: int, theirs: int):
    """What was there before, what is written during the copy, and what comes after it."""
    with primary(workers=ours) as one, shmcache.connect(one.url) as client:
        write_all_kinds(client)
        with running_instance(workers=theirs, replica_of=one.tcp) as two:
            write_all_kinds(client, 100)
            wait_caught_up(two)
            write_all_kinds(client, 50)
            time.sleep(0.3)
            wait_caught_up(two)
            wait_equal(one, two)
            with shmcache.connect(two.url) as reader:
                assert reader.get("k1") == b"v1" * 5
                assert reader.get("counter") == b"450"
                assert reader.dbsize() == client.dbsize()


def test_a_flush_spares_what_other_shards_wrote_after_theirs():
    with primary(workers=2) as one, replica(one, workers=3) as two, shmcache.connect(one.url) as client:
        for n in range(200):
            client.set(f"k{n}", n)
        client.flushall()
        for n in range(100):
            client.set(f"n{n}", n)
        wait_caught_up(two)
        wait_equal(one, two)
        with shmcache.connect(two.url) as reader:
            assert reader.dbsize() == 100


def test_writes_to_a_replica_are_refused_with_the_primarys_address():
    with pair() as (one, two), shmcache.connect(two.url) as client:
        with pytest.raises(ReadOnly, match=one.tcp):
            client.set("k", "v")
        with pytest.raises(ReadOnly):
            client.delete("k")
        with shmcache.connect(two.tcp) as remote, pytest.raises(ReadOnly, match=one.tcp):
            remote.incr("k")
        assert client.get("k") is None


def test_chained_replicas():
    """A replica of a replica gets everything, also after the one in the middle had to copy anew."""
    with (
        primary() as one,
        replica(one, relay_listen="tcp://127.0.0.1:0") as two,
        replica(two, workers=2) as three,
        shmcache.connect(one.url) as client,
    ):
        write_all_kinds(client, 100)
        wait_equal(one, two, three)
        assert status(three)["upstream"] == two.tcp


@pytest.mark.parametrize("who", ["relay of the primary", "relay of the replica", "worker of the primary", "worker of the replica"])
def test_a_killed_process_costs_a_pause_and_nothing_else(who: str):
    """kill -9 in the middle of a stream of writes."""
    with pair({"workers": 2}, {"workers": 2}) as (one, two), shmcache.connect(one.url) as client:
        victim = one if who.endswith("primary") else two
        for number in range(3):
            for n in range(2000):
                client.set(f"k{n}", f"{number}:{n}")
                if n == 1000:
                    pid = relay_pid(victim) if who.startswith("relay") else victim.worker_pid(0)
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: victim.worker_pid(0) > 0, what="the worker is back")
        wait_equal(one, two)
        assert victim.log().count("child died") >= 3


def test_a_restarted_replica_goes_on_where_it_was():
    """A warm restart needs no full copy as long as the ring has what it missed."""
    with pair(second={"ephemeral": False}) as (one, two), shmcache.connect(one.url) as client:
        write_all_kinds(client, 100)
        wait_caught_up(two)
        two.stop()
        write_all_kinds(client, 50)
        before = len(two.log())
        two.start()
        wait_caught_up(two)
        wait_equal(one, two)
        assert "full copy" not in two.log()[before:]


def test_a_restarted_primary_goes_on_with_its_replicas():
    with pair({"ephemeral": False}) as (one, two), shmcache.connect(one.url) as client:
        write_all_kinds(client, 100)
        one.kill()
        one.start()
        write_all_kinds(client, 20)
        wait_caught_up(two)
        wait_equal(one, two)
        assert two.log().count("full copy begins") == 1, "the first one"


def test_a_replica_that_was_paused_too_long_copies_anew_and_loses_what_was_deleted():
    """The ring has overtaken it: a full copy, with deletions, and old values are readable until then."""
    with pair({"log_size": "1MB"}) as (one, two), shmcache.connect(one.url) as client, shmcache.connect(two.url) as reader:
        for n in range(1000):
            client.set(f"old{n}", "x" * 100)
        wait_equal(one, two)
        paused = relay_pid(two)
        os.kill(paused, signal.SIGSTOP)
        for n in range(900):
            client.delete(f"old{n}")
        # More than the ring, ZeroMQ's queues and the sockets' buffers hold together.
        for n in range(4000):
            client.set(f"new{n % 1000}", "y" * 10_000)
        assert reader.get("old5") == b"x" * 100
        os.kill(paused, signal.SIGCONT)
        wait_equal(one, two)
        assert reader.get("old5") is None
        assert two.log().count("full copy begins") == 2


def test_channels_reach_the_replicas():
    """What is published on either side of a replication reaches subscribers on both."""
    with pair({"channels": True}, {"channels": True}) as (one, two), shmcache.connect(one.url) as first, shmcache.connect(two.url) as second:
        wait_until(lambda: "channels joined" in two.log(), 10)
        with first.pubsub(ignore_subscribe_messages=True) as at_primary, second.pubsub(ignore_subscribe_messages=True) as at_replica:
            at_primary.subscribe("news")
            at_replica.subscribe("news")
            wait_until(lambda: first.publish("news", "down") and _heard(at_replica, b"down"), 10)
            wait_until(lambda: second.publish("news", "up") and _heard(at_primary, b"up"), 10)


def _heard(subscriber: object, data: bytes) -> bool:
    while (message := subscriber.get_message(timeout=0.2)) is not None:  # type: ignore[attr-defined]
        if message["data"] == data:
            return True
    return False


def test_replication_is_begun_live():
    """An instance that was started without any of it becomes a replica by a command."""
    from cli.replication import relay_call

    with primary() as one, running_instance() as two, shmcache.connect(one.url) as client, shmcache.connect(two.url) as other:
        other.set("mine", "dropped by the copy")
        client.set("k", "v")
        relay_call(two.name, "replicate", {"primary": one.tcp}, 30, start=True)
        wait_caught_up(two)
        wait_equal(one, two)
        assert other.get("mine") is None
        assert other.get("k") == b"v"
