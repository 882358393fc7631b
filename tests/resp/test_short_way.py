"""Packed packets (the short way) and single commands (the long way) answer the same."""

import os
import random
import signal
import threading
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.resp.conftest import Wire

KEYS = [b"a", b"b", b"{a}2", b"list", b"hash", b"n"]
ENDS = b"*2\r\n$4\r\nECHO\r\n$8\r\nthe-end!\r\n"
LAST = b"$8\r\nthe-end!\r\n"


def request(*words: bytes | str | int) -> bytes:
    """One command as clients send it."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def random_command(rng: random.Random) -> bytes:
    """Of all kinds: plain, wrong, answered by the gateway, over several shards."""
    key, other = rng.choice(KEYS), rng.choice(KEYS)
    value = rng.choice([b"1", b"text", b"", b"\r\n*1\r\n", b"x" * 300])
    return request(
        *rng.choice(
            [
                ("SET", key, value),
                ("set", key, value, "NX"),
                ("GET", key),
                ("INCR", key),
                ("APPEND", key, value),
                ("LPUSH", "list", value, key),
                ("LPOP", "list"),
                ("LPOP", "list", 2),
                ("LRANGE", "list", 0, 3),
                ("HSET", "hash", key, value),
                ("HGETALL", "hash"),
                ("HGET", key, "field"),
                ("MSET", key, value, other, value),
                ("MSET", key),
                ("MGET", key, other),
                ("DEL", key, other),
                ("RENAME", key, other),
                ("EXPIRE", key, "x"),
                ("TTL", key),
                ("NOSUCH", key),
                ("PING",),
                ("DBSIZE",),
                ("MULTI",),
                ("EXEC",),
                ("DISCARD",),
                ("STRLEN",),
            ]
        )
    )


def replies(port: int, protocol: int, pieces: list[bytes]) -> bytes:
    """What comes for a stream in such pieces, up to the reply of the last command."""
    wire = Wire(port)
    try:
        wire.send(request("HELLO", protocol)).socket.recv(65536)
        wire.send(request("FLUSHALL")).read(5)
        for piece in pieces:
            wire.send(piece)
        found = wire.send(request("DISCARD") + ENDS).read(0)
        while not found.endswith(LAST):
            data = wire.socket.recv(1 << 20)
            assert data
            found += data
        return found
    finally:
        wire.close()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("shards", ["single", "instance"])
def test_both_ways_answer_the_same(request: pytest.FixtureRequest, shards: str, protocol: int) -> None:
    port = request.getfixturevalue(shards).resp_port
    rng = random.Random(f"{shards} {protocol}")
    for _ in range(12):
        commands = [random_command(rng) for _ in range(rng.randint(1, 60))]
        stream = b"".join(commands)
        cuts = sorted(rng.choices(range(len(stream) + 1), k=3))
        # An unfinished command keeps a connection on the long way: its first byte comes with the one before.
        long_way = [stream[:1], *(command[1:] + following[:1] for command, following in zip(commands, [*commands[1:], b""], strict=True))]
        expected = replies(port, protocol, long_way)
        assert replies(port, protocol, [stream]) == expected
        assert replies(port, protocol, [stream[at:to] for at, to in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == expected


def test_cut_at_every_byte(wire):
    stream = request("SET", "a", "1") + request("MSET", "b", "2", "a", "3") + request("INCR", "a") + request("HSET", "a", "f", "v") + request("GET", "b")
    expected = b"+OK\r\n+OK\r\n:4\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n$1\r\n2\r\n"
    connection = wire()
    for at in range(len(stream) + 1):
        connection.send(stream[:at])
        if at % 7 == 0:
            time.sleep(0.002)
        connection.send(stream[at:])
        assert connection.read(len(expected)) == expected, at


def test_packets_that_wait_keep_their_order(single) -> None:
    """Plain packets and others of many connections at once, one on the heels of the other."""
    failures: list[str] = []

    def talk(name: str) -> None:
        rng = random.Random(name)
        wire = Wire(single.resp_port)
        value, expected = 0, b""
        try:
            for _ in range(300):
                packet = b""
                for _ in range(rng.choice([1, 1, 1, 3])):
                    match rng.randrange(8):
                        case 0:
                            packet += request("GET", name)
                            expected += b"$%d\r\n%d\r\n" % (len(str(value)), value) if value else b"$-1\r\n"
                        case 1:
                            packet += b"PING\r\n"
                            expected += b"+PONG\r\n"
                        case 2:
                            packet += request("MULTI") + request("INCR", name) + request("EXEC")
                            value += 1
                            expected += b"+OK\r\n+QUEUED\r\n*1\r\n:%d\r\n" % value
                        case _:
                            packet += request("INCR", name)
                            value += 1
                            expected += b":%d\r\n" % value
                cut = rng.choice([len(packet), rng.randrange(len(packet))])
                for piece in (packet[:cut], packet[cut:]):
                    if piece:
                        wire.send(piece)
                    time.sleep(rng.choice([0, 0, 0.0005]))
            found = wire.read(len(expected))
            if found != expected:
                at = next(n for n, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
                failures.append(f"{name}: {found[at - 40 : at + 20]!r} for {expected[at - 40 : at + 20]!r}")
        except OSError as error:
            failures.append(f"{name}: {error}")
        finally:
            wire.close()

    with redis.Redis(port=single.resp_port) as client:
        client.flushall()
    threads = [threading.Thread(target=talk, args=(f"order{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_transaction_in_the_middle_of_a_packet(wire):
    connection = wire()
    connection.send(
        request("SET", "t", "1") + request("MULTI") + request("INCR", "t") + request("GET", "t") + request("EXEC") + request("INCR", "t") + ENDS
    )
    expected = b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:2\r\n$1\r\n2\r\n:3\r\n" + LAST
    assert connection.read(len(expected)) == expected


def test_reads_see_the_writes_before_them(wire):
    connection = wire()
    for n in range(200):
        connection.send(request("SET", f"k{n}", n) + request("GET", f"k{n}"))
        connection.send(request("MGET", f"k{n}", "none"))
        expected = b"+OK\r\n$%d\r\n%d\r\n*2\r\n$%d\r\n%d\r\n$-1\r\n" % (len(str(n)), n, len(str(n)), n)
        assert connection.read(len(expected)) == expected


def test_large_values(wire):
    connection = wire()
    value = b"v" * (3 << 20)
    for _ in range(3):
        connection.send(request("SET", "large", value) + request("APPEND", "large", "w") + request("GET", "large"))
        expected = b"+OK\r\n:%d\r\n$%d\r\n%bw\r\n" % (len(value) + 1, len(value) + 1, value)
        assert connection.read(len(expected)) == expected


def test_a_monitor_and_a_pause_see_packets_too(wire, instance):
    watcher, connection = wire(), wire()
    watcher.ask(b"MONITOR\r\n", b"+OK\r\n")
    connection.ask(request("SET", "seen", "1") + request("INCR", "seen"), b"+OK\r\n:2\r\n")
    shown = b""
    while shown.count(b"\r\n") < 2:
        shown += watcher.socket.recv(65536)
    assert b'"SET" "seen" "1"' in shown
    assert b'"INCR" "seen"' in shown
    watcher.ask(b"QUIT\r\n", b"+OK\r\n")
    begun = time.monotonic()
    connection.ask(request("CLIENT", "PAUSE", 300, "WRITE"), b"+OK\r\n")
    connection.ask(request("INCR", "seen") + request("INCR", "seen"), b":3\r\n:4\r\n")
    assert time.monotonic() - begun > 0.25


def test_errors_are_counted(wire, instance):
    with redis.Redis(port=instance.resp_port) as client:
        client.config_resetstat()
        connection = wire()
        connection.ask(request("SET", "word", "x") + request("INCR", "word") * 3, b"+OK\r\n" + b"-ERR value is not an integer or out of range\r\n" * 3)
        assert client.info("errorstats")["errorstat_ERR"]["count"] == 3


@pytest.mark.parametrize("shards", ["single", "instance"])
def test_a_killed_worker_in_the_middle(request: pytest.FixtureRequest, shards: str) -> None:
    """Packets of what may be repeated come through whole; what may not is counted, or nobody knows."""
    running = request.getfixturevalue(shards)
    errors: list[str] = []
    done = threading.Event()

    def work(name: str) -> None:
        with redis.Redis(port=running.resp_port, retry=Retry(NoBackoff(), 0), socket_timeout=20) as own:
            n = unknown = 0
            while not done.is_set():
                n += 1
                pipe = own.pipeline(transaction=False)
                for field in range(20):
                    pipe.set(f"{name}:{field}", n)
                pipe.incr(f"{name}:count")
                pipe.get(f"{name}:7")
                *sets, count, seen = pipe.execute(raise_on_error=False)
                if not all(result is True for result in sets) or seen != b"%d" % n:
                    errors.append(f"{name} {n}: {sets} {seen!r}")
                if isinstance(count, Exception):
                    if not str(count).startswith("OUTCOMEUNKNOWN"):
                        errors.append(str(count))
                    unknown += 1
            found = int(own.get(f"{name}:count"))
            if not n - unknown <= found <= n:
                errors.append(f"{name}: counted {found}, sent {n}, {unknown} unknown")

    with redis.Redis(port=running.resp_port) as client:
        client.flushall()
    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.3)
        running.wait_healed(0, running.kill_worker(0))
    time.sleep(0.2)
    done.set()
    for thread in threads:
        thread.join()
    assert not errors


def test_of_a_packet_only_what_cannot_be_repeated_is_unknown(single):
    pid = single.worker_pid(0)
    os.kill(pid, signal.SIGSTOP)
    wire = Wire(single.resp_port)
    wire.send(request("SET", "packet", "1") + request("INCR", "packet") + request("GET", "packet") + request("SET", "packet", "9"))
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    try:
        assert wire.read(5) == b"+OK\r\n"
        line = b""
        while not line.endswith(b"\r\n"):
            line += wire.read(1)
        assert line.startswith(b"-OUTCOMEUNKNOWN ")
        assert wire.read(12) == b"$1\r\n1\r\n+OK\r\n"
    finally:
        wire.close()
