"""Client-side caching: who is told that a key is invalid."""

import os
import signal
import time

import pytest
import redis
from redis.cache import CacheConfig

import shmcache

from .conftest import Wire


def invalid(*keys: str) -> bytes:
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n" % len(keys) + b"".join(b"$%d\r\n%b\r\n" % (len(key), key.encode()) for key in keys)


ALL = b">2\r\n$10\r\ninvalidate\r\n_\r\n"


@pytest.fixture
def tracked(wire, client):
    """A connection in RESP3 that sends lines and sees exact replies."""
    one = wire()
    one.send(b"hello 3\r\n")
    time.sleep(0.05)
    one.socket.recv(10_000)

    def ask(line: str, *answers: bytes) -> Wire:
        one.ask(line.encode() + b"\r\n" if line else b"", b"".join(answers))
        return one

    return ask


OK = b"+OK\r\n"


def test_default_mode(tracked, client):
    tracked("client tracking on", OK)
    client.set("k", 1)
    tracked("get k", b"$1\r\n1\r\n")
    client.set("k", 2)
    tracked("", invalid("k"))
    # Told once, until it is read again.
    client.set("k", 3)
    tracked("ping", b"+PONG\r\n")
    for change in (lambda: client.expire("k", 100), lambda: client.append("k", "x"), lambda: client.delete("k"), lambda: client.set("k", 1, px=30)):
        tracked("exists k", b":%d\r\n" % client.exists("k"))
        change()
        tracked("", invalid("k"))
    client.set("k", 1, px=50)
    tracked("strlen k", b":1\r\n")
    tracked("", invalid("k"))
    client.rpush("l", 1, 2)
    tracked("multi", OK)
    tracked("lrange l 0 0", b"+QUEUED\r\n")
    tracked("exec", b"*1\r\n*1\r\n$1\r\n1\r\n")
    client.lpop("l")
    tracked("", invalid("l"))
    tracked("get k", b"_\r\n")
    client.flushall()
    tracked("", ALL)
    tracked("client tracking off", OK)
    tracked("get k", b"_\r\n")
    client.set("k", 1)
    tracked("ping", b"+PONG\r\n")


def test_broadcast(tracked, client):
    tracked("client tracking on bcast prefix a: prefix b:", OK)
    client.set("c:1", 1)
    client.set("a:1", 1)
    tracked("", invalid("a:1"))
    client.set("b:1", 1)
    tracked("", invalid("b:1"))
    tracked("client tracking off", OK)
    client.set("a:1", 1)
    tracked("ping", b"+PONG\r\n")


def test_optin_and_optout(tracked, client):
    tracked("client tracking on optin", OK)
    tracked("get k", b"_\r\n")
    client.set("k", 1)
    tracked("client caching yes", OK)
    tracked("get k", b"$1\r\n1\r\n")
    tracked("get l", b"_\r\n")
    client.set("l", 1)
    client.set("k", 2)
    tracked("", invalid("k"))
    tracked("client tracking off", OK)
    tracked("client tracking on optout", OK)
    tracked("client caching no", OK)
    tracked("get k", b"$1\r\n2\r\n")
    tracked("get l", b"$1\r\n1\r\n")
    client.set("k", 3)
    client.set("l", 3)
    tracked("", invalid("l"))


@pytest.mark.parametrize("mode", ["", "bcast"])
def test_noloop(tracked, client, mode):
    """A client's own changes are not told, those of others in the same key are."""
    tracked(f"client tracking on {mode} noloop", OK)
    tracked("get {n}k", b"_\r\n")
    tracked("set {n}k 1", OK)
    tracked("del {n}k", b":1\r\n")
    tracked("mset {n}k 1 {n}l 2", OK)
    tracked("get {n}k", b"$1\r\n1\r\n")
    tracked("incr {n}k", b":2\r\n")
    tracked("ping", b"+PONG\r\n")
    client.set("{n}k", 5)
    tracked("", invalid("{n}k"))


def test_redirect(wire, client, instance):
    """RESP2: another connection is told, by a channel's message. When it is gone the client hears of that."""
    listener, reader = wire(), wire()
    listener.send(b"client id\r\n")
    number = listener.socket.recv(100)[1:-2]
    listener.ask(b"subscribe __redis__:invalidate\r\n", b"*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n")
    reader.ask(b"client tracking on redirect %b\r\n" % number, OK)
    reader.ask(b"client getredir\r\n", b":%b\r\n" % number)
    reader.ask(b"get k\r\n", b"$-1\r\n")
    client.set("k", 1)
    listener.ask(b"", b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n")
    reader.ask(b"get k\r\n", b"$1\r\n1\r\n")
    client.flushall()
    listener.ask(b"", b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n")
    listener.close()
    reader.ask(b"get k\r\n", b"$-1\r\n")
    time.sleep(0.1)
    client.set("k", 1)
    reader.ask(b"ping\r\n", b"+PONG\r\n")
    assert any("R" in other["flags"] and "t" in other["flags"] for other in client.client_list())


def test_table_is_bounded(tracked, client):
    client.config_set("tracking-table-max-keys", 2)
    try:
        tracked("client tracking on", OK)
        for key in "ab":
            tracked(f"get {key}", b"_\r\n")
        tracked("get c", invalid("a"), b"_\r\n")
        assert client.info("stats")["tracking_total_keys"] == 2
    finally:
        client.config_set("tracking-table-max-keys", 1_000_000)


def test_overtaken(instance, client, tracked):
    """Whoever cannot be told of every change is told that all may have changed: a flood of more than the log holds."""
    tracked("client tracking on", OK)
    tracked("get k", b"_\r\n")
    gateway = instance.child_pid("gateway")
    os.kill(gateway, signal.SIGSTOP)
    try:
        with shmcache.connect(instance.url) as local:
            for _ in range(100):
                local.set("{k}flood", "x" * 100_000)
    finally:
        os.kill(gateway, signal.SIGCONT)
    tracked("", ALL)


def test_redis_py(instance):
    with redis.Redis(port=instance.resp_port, protocol=3, cache_config=CacheConfig()) as cached, redis.Redis(port=instance.resp_port) as other:
        other.flushall()
        other.set("k", "1")
        assert cached.get("k") == b"1" and cached.get("k") == b"1"
        assert cached.get_cache().size == 1
        other.set("k", "2")
        time.sleep(0.1)
        assert cached.get("k") == b"2"
        other.hset("h", "a", "1")
        assert cached.hget("h", "a") == b"1"
        other.hset("h", "a", "2")
        time.sleep(0.1)
        assert cached.hget("h", "a") == b"2"


def test_never_missed_while_written(instance):
    """A cache that is filled and invalidated while others write: when all is quiet, it has the last value."""
    with redis.Redis(port=instance.resp_port, protocol=3, cache_config=CacheConfig()) as cached, redis.Redis(port=instance.resp_port) as other:
        for number in range(300):
            other.set(f"n{number % 7}", number)
            cached.get(f"n{number % 7}")
        time.sleep(0.2)
        assert [cached.get(f"n{n}") for n in range(7)] == [other.get(f"n{n}") for n in range(7)]
