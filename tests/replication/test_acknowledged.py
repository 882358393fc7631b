"""What an acknowledged write is worth, and what is said of one that is not."""

import os
import signal
import threading
import time

import pytest

import shmcache
from cli.replication import relay_call
from shmcache.errors import NotEnoughReplicas, NotReplicated, ReadOnly, TooStale
from shmcache.protocol import codec, frames
from tests.replication.pairs import pair, primary, relay_pid, replica, wait_caught_up
from tests.support.instance import running_instance, wait_until
from tests.support.wire import wire


def test_an_acknowledged_write_is_on_the_replica_when_it_returns():
    with pair({"workers": 2}, {"workers": 1}) as (one, two), shmcache.connect(one.url, ack=1, ack_timeout=5) as client, shmcache.connect(two.url) as reader:
        for n in range(300):
            client.set(f"k{n}", n)
            assert reader.get(f"k{n}") == b"%d" % n
        with client.pipeline() as batch:
            for n in range(500):
                batch.set(f"b{n}", n)
            batch.execute()
        assert [reader.get(f"b{n}") for n in range(500)] == [b"%d" % n for n in range(500)]


def test_too_few_acknowledgements_are_a_typed_error_and_the_write_is_there():
    with pair() as (one, _), shmcache.connect(one.url) as client, shmcache.connect(one.tcp) as remote:
        for each in (client, remote):
            with pytest.raises(NotReplicated) as caught:
                each.with_options(ack=2, ack_timeout=0.1).set("k", "v")
            assert (caught.value.acknowledged, caught.value.needed) == (1, 2)
            assert client.get("k") == b"v"
        assert client.with_options(ack="quorum", ack_timeout=5).set("k", "w")
        assert client.with_options(ack="all", ack_timeout=5).set("k", "w")
        assert client.set("k", "no one asked")


def test_a_replica_that_stopped_does_not_hold_reads_or_other_writes():
    with pair() as (one, two), shmcache.connect(one.url) as client:
        os.kill(relay_pid(two), signal.SIGSTOP)
        held: list[object] = []

        def hold() -> None:
            with shmcache.connect(one.url, ack=1, ack_timeout=1.5) as patient:
                try:
                    held.append(patient.set("held", 1))
                except NotReplicated as error:
                    held.append(error)

        thread = threading.Thread(target=hold)
        begun = time.monotonic()
        thread.start()
        for n in range(100):
            client.set(f"k{n}", n)
        assert time.monotonic() - begun < 1.4
        thread.join()
        assert isinstance(held[0], NotReplicated)


def test_the_instances_own_default_holds_for_those_who_say_nothing():
    with primary(ack="1", ack_timeout=200) as one, shmcache.connect(one.url) as client:
        with pytest.raises(NotReplicated):
            client.set("k", "v")
        assert client.get("k") == b"v"
        with wire(one.tcp) as plain:
            assert isinstance(plain.ask(["SET", "k", "w"]), NotReplicated)
        with replica(one):
            assert client.set("k", "x")
            assert client.setnx("k", "nothing is written, nobody is waited for") is False


def test_wait_counts_the_replicas_that_have_everything():
    with pair({"workers": 2}) as (one, two), shmcache.connect(one.url) as client:
        for n in range(1000):
            client.set(f"k{n}", n)
        assert client.wait(1, 5000) == 1
        begun = time.monotonic()
        assert client.wait(2, 200) == 1
        assert 0.15 < time.monotonic() - begun < 3
        assert client.execute_command("WAIT", 0, 100) == 1
        os.kill(relay_pid(two), signal.SIGSTOP)
        client.set("more", 1)
        assert client.wait(1, 100) == 0


def test_writes_are_refused_without_enough_replicas():
    with primary(min_replicas_to_write=1) as one, shmcache.connect(one.url) as client:
        with pytest.raises(NotEnoughReplicas):
            client.set("k", "v")
        assert client.get("k") is None
        with replica(one):
            assert wait_until(lambda: _set(client), 5)


def _set(client: shmcache.Client) -> bool:
    try:
        return bool(client.set("k", "v"))
    except NotEnoughReplicas:
        return False


def test_a_read_that_must_not_be_stale():
    """A replica that hears nothing refuses it, on the host and through its router; a plain read goes on."""
    with pair() as (one, two), shmcache.connect(one.url) as client:
        client.set("k", "v")
        wait_caught_up(two)
        for url in (two.url, two.tcp):
            with shmcache.connect(url, max_staleness=1.0) as strict, shmcache.connect(url) as plain:
                wait_until(lambda strict=strict: _get(strict) == b"v", 5)
                os.kill(relay_pid(one), signal.SIGSTOP)
                try:
                    wait_until(lambda strict=strict: _get(strict) is TooStale, 5)
                    assert plain.get("k") == b"v"
                    with pytest.raises(TooStale):
                        strict.mget("k", "l")
                finally:
                    os.kill(relay_pid_of(one), signal.SIGCONT)
                wait_until(lambda strict=strict: _get(strict) == b"v", 5)


def relay_pid_of(instance: object) -> int:
    """Without asking the relay, which is stopped."""
    from pathlib import Path

    for pid in instance.child_pids():  # type: ignore[attr-defined]
        if b"server.relay" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return int(pid)
    raise AssertionError("no relay")


def _get(client: shmcache.Client) -> object:
    try:
        return client.get("k")
    except TooStale:
        return TooStale


def test_a_forwarding_replica_takes_writes_and_reads_its_own():
    with primary(workers=2) as one, replica(one, workers=3, forward_writes=True) as two:
        with shmcache.connect(two.url) as local, shmcache.connect(two.tcp) as remote, shmcache.connect(one.url) as at_primary:
            wait_until(lambda: _forwarded(remote), 5)
            for n in range(200):
                local.set(f"k{n}", n)
                assert local.get(f"k{n}") == b"%d" % n, "its own write"
            assert at_primary.get("k5") == b"5"
            assert local.incr("counter") == 1
            assert remote.incr("counter") == 2
            assert at_primary.get("counter") == b"2"


def _forwarded(client: shmcache.Client) -> bool:
    """A router notes within a second that it forwards."""
    try:
        return bool(client.set("probe", 1))
    except ReadOnly:
        return False


def test_hostile_options():
    """What is no option is refused with the batch, and nothing else happens."""
    with running_instance() as one, wire(one.tcp) as plain:
        wrong = ({"ack": "most"}, {"ack_timeout_ms": "x", "ack": 1}, {"max_staleness_ms": b"1"}, {"after_stamp": float("nan")})
        for front in (b"", b"\x91\x01", b"\xc1", b"\x81\x01\x02", *map(codec.encode_options, wrong)):
            number = plain._request_id = plain._request_id + 1
            head = frames.pack_header(flags=frames.OPTIONS, request_id=number)
            plain.socket.send_multipart([head, front + b"\x91\x93\xa3SET\xa1k\xa1v"])
            header, answer = plain.receive()
            assert isinstance(answer, Exception), (front, answer)
        assert plain.ask(["PING"], ["GET", "k"]) == ["PONG", None]


def test_a_write_that_waits_for_acknowledgements_while_its_primary_hands_over_keeps_its_own_answer():
    """It was executed: its client neither asks the successor, nor is it told READONLY, but how many replicas have it."""
    options = {"relay_listen": "tcp://127.0.0.1:0", "forward_writes": True}
    with primary(**options) as one, replica(one, **options) as two, replica(one) as three:
        os.kill(relay_pid(three), signal.SIGSTOP)
        held: list[object] = []

        def hold() -> None:
            with shmcache.connect(one.url, ack=2, ack_timeout=3) as patient:
                try:
                    held.append(patient.incr("held"))
                except shmcache.ShmcacheError as error:
                    held.append(error)

        thread = threading.Thread(target=hold)
        thread.start()
        with shmcache.connect(two.url) as reader:
            wait_until(lambda: reader.get("held") == b"1", 5)
            relay_call(one.name, "switchover", {"to": two.name}, 10)
            assert not held
            thread.join()
            assert isinstance(held[0], NotReplicated), held
            assert held[0].acknowledged < held[0].needed == 2
            assert reader.get("held") == b"1"
