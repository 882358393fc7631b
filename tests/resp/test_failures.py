"""Processes that are killed, clients that do not read, connections beyond the limit."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.resp.conftest import Wire
from tests.support.instance import running_instance, wait_until


def test_a_killed_worker_delays_but_loses_nothing_repeatable(single):
    client = redis.Redis(port=single.resp_port, retry=Retry(NoBackoff(), 0))
    for _ in range(3):
        errors: list[str] = []
        done = threading.Event()
        acknowledged: dict[str, int] = {}

        def write(name: str, done: threading.Event = done, acknowledged: dict[str, int] = acknowledged, errors: list[str] = errors) -> None:
            with redis.Redis(port=single.resp_port, retry=Retry(NoBackoff(), 0)) as own:
                n = 0
                while not done.is_set():
                    n += 1
                    try:
                        own.set(name, n)
                        acknowledged[name] = n
                        assert own.get(name) == b"%d" % n
                    except redis.RedisError as error:
                        errors.append(str(error))

        threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        single.wait_healed(0, single.kill_worker(0))
        time.sleep(0.2)
        done.set()
        for thread in threads:
            thread.join()
        assert not errors
        assert {name: int(client.get(name)) for name in acknowledged} == acknowledged
    client.close()


def test_what_cannot_be_repeated_says_that_nobody_knows(single):
    pid = single.worker_pid(0)
    os.kill(pid, signal.SIGSTOP)
    one, other = Wire(single.resp_port), Wire(single.resp_port)
    one.send(b"INCR unknown\r\n")
    time.sleep(0.1)
    other.send(b"SET known 1\r\n")
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    assert one.read(16) == b"-OUTCOMEUNKNOWN "
    assert other.read(5) == b"+OK\r\n"
    one.close()
    other.close()


def test_a_killed_gateway_comes_back_at_its_port(single):
    client = redis.Redis(port=single.resp_port)
    client.set("kept", 1)
    pids = [pid for pid in single.child_pids() if b"shmcache.server.gateway" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        try:
            with redis.Redis(port=single.resp_port, retry=Retry(NoBackoff(), 0)) as own:
                return own.get("kept") == b"1"
        except redis.ConnectionError:
            return False

    wait_until(back, 10, "the port answers again")
    client.close()


def test_connections_are_divided_among_the_processes(single):
    numbers = set()

    def both() -> bool:
        one = Wire(single.resp_port)
        one.send(b"CLIENT ID\r\n")
        numbers.add(int(one.socket.recv(100)[1:]) >> 48)
        one.close()
        return numbers == {0, 1}

    wait_until(both, 10, "both processes take connections")


def test_half_closed_connections_get_their_replies(instance):
    one = Wire(instance.resp_port)
    one.send(b"SET half 1\r\nDEBUG SLEEP 0.1\r\nGET half\r\n")
    one.socket.shutdown(socket.SHUT_WR)
    assert one.rest() == b"+OK\r\n+OK\r\n$1\r\n1\r\n"
    one.close()


def test_who_does_not_read_is_not_read_from_and_others_are_served(instance):
    with redis.Redis(port=instance.resp_port) as client:
        client.set("v", bytes(100_000))
        slow = Wire(instance.resp_port)
        slow.socket.setblocking(False)
        sent = 0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            try:
                sent += slow.socket.send(b"GET v\r\n" * 1000)
            except BlockingIOError:
                time.sleep(0.01)
        started = time.monotonic()
        assert client.incr("others") == 1 and time.monotonic() - started < 1
        assert "omem" in client.client_list()[0]
        assert max(int(one["omem"]) for one in client.client_list()) < 4_000_000
        # It gets all of it in the end.
        slow.socket.settimeout(10)
        assert slow.read(1_000_000).count(b"$100000\r\n") in (9, 10)
        slow.close()


def test_many_connections_and_one_too_many():
    with running_instance(resp="127.0.0.1:0", resp_clients=300) as instance:
        wires = [Wire(instance.resp_port) for _ in range(300)]
        for one in wires:
            one.send(b"PING\r\n")
        assert all(one.read(7) == b"+PONG\r\n" for one in wires)
        extra = Wire(instance.resp_port)
        assert extra.rest() == b"-ERR max number of clients reached\r\n"
        extra.close()
        for one in wires:
            one.close()

        def free() -> bool:
            found = Wire(instance.resp_port)
            found.send(b"PING\r\n")
            reply = found.read(7)
            found.close()
            return reply == b"+PONG\r\n"

        wait_until(free, 5, "a place is free")


def test_idle_connections_end():
    with running_instance(resp="127.0.0.1:0", resp_timeout=1) as instance:
        started = time.monotonic()
        one = Wire(instance.resp_port)
        assert one.rest() == b"" and 0.9 < time.monotonic() - started < 5
        one.close()


def test_a_subscriber_that_does_not_read_is_closed(instance):
    slow = Wire(instance.resp_port)
    slow.ask(b"SUBSCRIBE flood\r\n", b"*3\r\n$9\r\nsubscribe\r\n$5\r\nflood\r\n:1\r\n")
    with redis.Redis(port=instance.resp_port) as client:
        for _ in range(100):
            client.publish("flood", bytes(900_000))
        assert wait_until(lambda: client.publish("flood", "x") == 0, 10, "it is closed")
    slow.close()


def test_an_instance_that_is_shut_down_by_a_client():
    with running_instance(resp="127.0.0.1:0") as instance:
        wire = Wire(instance.resp_port)
        wire.send(b"SHUTDOWN NOSAVE\r\n")
        assert wire.rest() == b""
        wire.close()
        assert instance.process.wait(20) == 0
        instance._forget()


def test_two_instances_do_not_share_a_port(instance):
    with pytest.raises(AssertionError, match="cannot listen"), running_instance(resp=f"127.0.0.1:{instance.resp_port}"):
        pass
    with socket.create_connection(("127.0.0.1", instance.resp_port)):
        pass


def test_subscribers_who_want_no_replies_get_their_messages(instance):
    """As Redis: that a subscription is in force is told like a message."""
    one = Wire(instance.resp_port)
    one.ask(b"CLIENT REPLY OFF\r\nSUBSCRIBE quiet\r\n", b"*3\r\n$9\r\nsubscribe\r\n$5\r\nquiet\r\n:1\r\n")
    with redis.Redis(port=instance.resp_port) as other:
        assert other.publish("quiet", "hello") == 1
    message = b"*3\r\n$7\r\nmessage\r\n$5\r\nquiet\r\n$5\r\nhello\r\n"
    assert one.read(len(message)) == message
    one.close()


def test_reply_off_and_skip(instance):
    one = Wire(instance.resp_port)
    one.ask(b"CLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n", b"$1\r\na\r\n")
    one.ask(b"CLIENT REPLY OFF\r\nSET off 1\r\nNOSUCH\r\nMGET off b\r\nCLIENT REPLY ON\r\nGET off\r\n", b"+OK\r\n$1\r\n1\r\n")
    one.ask(b"CLIENT REPLY SKIP\r\nSET off 2\r\nGET off\r\n", b"$1\r\n2\r\n")
    one.ask(b"CLIENT PAUSE 200 WRITE\r\nGET off\r\n", b"+OK\r\n$1\r\n2\r\n")
    started = time.monotonic()
    one.ask(b"SET off 3\r\nGET off\r\n", b"+OK\r\n$1\r\n3\r\n")
    assert 0.1 < time.monotonic() - started < 2
    assert one.send(b"QUIT\r\nPING\r\n").rest() == b"+OK\r\n"
    one.close()


def test_addresses_that_others_reach_are_refused():
    with pytest.raises(AssertionError, match="loopback only"), running_instance(resp="0.0.0.0:0"):
        pass
