"""Waiting for a key: who is served, in which order, and when nobody is."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import redis

from shmcache.errors import CommandFailed
from shmcache.server.gateway.blocking import timeout_of
from shmcache.server.gateway.rows import Row
from tests.support.instance import wait_until

from .conftest import Wire


def word(*parts) -> bytes:
    texts = [str(part).encode() for part in parts]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)


def blocked(client) -> int:
    return client.info("clients")["blocked_clients"]


@pytest.fixture
def waits(client, wire) -> Callable[..., Wire]:
    """Send a blocking command on a connection of its own, and see that it waits."""

    def wait(*parts):
        before = blocked(client)
        one = wire()
        one.send(word(*parts))
        wait_until(lambda: blocked(client) == before + 1, what="it waits")
        return one

    wait_until(lambda: blocked(client) == 0)
    return wait


def reply(*parts) -> bytes:
    return word(*parts)


@pytest.mark.parametrize(("timeout", "text"), [(b"-1", "negative"), (b"x", "not a float"), (b"nan", "not a float"), (b"1e300", "negative"), (b"1_0", "not a float")])
def test_wrong_timeouts(timeout, text):
    with pytest.raises(CommandFailed, match=text):
        timeout_of(Row("BLPOP", -3), ["BLPOP", b"k", timeout])


def test_first_come_first_served(client, waits):
    waiting = [waits("BLPOP", "q", 0) for _ in range(5)]
    client.rpush("q", 0, 1, 2)
    client.rpush("q", 3, 4, 5)
    for number, one in enumerate(waiting):
        one.ask(b"", reply("q", number))
    assert client.lrange("q", 0, -1) == [b"5"] and blocked(client) == 0


def test_by_the_first_key_with_data(client, waits):
    """Keys of several shards; the order of writing decides, and in a transaction the waiter sees its end."""
    one = waits("BRPOP", "a", "b", "c", "d", 0)
    client.rpush("c", 1, 2)
    one.ask(b"", reply("c", 2))
    client.delete("c")
    one = waits("BLMPOP", 0, 2, "x", "y", "LEFT", "COUNT", 2)
    client.rpush("y", 1, 2, 3)
    one.ask(b"", b"*2\r\n$1\r\ny\r\n" + reply(1, 2))
    one = waits("BLPOP", "t", 0)
    with client.pipeline() as pipe:
        pipe.lpush("t", "a").lpush("t", "b").lpush("t", "c").execute()
    one.ask(b"", reply("t", "c"))
    one = waits("BLPOP", "u", 0)
    with client.pipeline() as pipe:
        pipe.lpush("u", "a").delete("u").set("u", "x").execute()
    time.sleep(0.1)
    assert blocked(client) == 1
    client.delete("u")
    client.rpush("u", 1)
    one.ask(b"", reply("u", 1))


def test_wrong_types(client, waits, wire):
    """One that appears later is as good as none; one that is there already, or where a move goes to, is an error."""
    one = waits("BLPOP", "k", 0)
    client.set("k", "text")
    time.sleep(0.05)
    assert blocked(client) == 1
    second = wire()
    second.send(word("BLPOP", "k", 0))
    assert second.read(10) == b"-WRONGTYPE"
    client.delete("k")
    client.rpush("k", 1)
    one.ask(b"", reply("k", 1))
    first, second = waits("BRPOPLPUSH", "{m}s", "{m}bad", 0), waits("BLMOVE", "{m}s", "{m}good", "LEFT", "LEFT", 0)
    client.set("{m}bad", "text")
    client.lpush("{m}s", "foo")
    assert first.read(10) == b"-WRONGTYPE"
    second.ask(b"", b"$3\r\nfoo\r\n")
    assert client.lrange("{m}good", 0, -1) == [b"foo"]
    assert wire().send(word("BLMPOP", 0, 1, "k", "SIDEWAYS")).read(4) == b"-ERR"
    with pytest.raises(redis.ResponseError, match="numkeys"):
        client.execute_command("BLMPOP", 0, 0, "k", "LEFT")


def test_sorted_sets(client, waits):
    """Waiters for a sorted set and for a list at one key: each is served by its own kind."""
    as_list = waits("BLPOP", "s", 0)
    low, high = waits("BZPOPMIN", "s", 0), waits("BZMPOP", 0, 2, "other", "s", "MAX")
    client.zadd("s", {"a": 1, "b": 2, "c": 3})
    low.ask(b"", reply("s", "a", 1))
    high.ask(b"", b"*2\r\n$1\r\ns\r\n*1\r\n" + reply("c", 3))
    client.delete("s")
    client.rpush("s", "x")
    as_list.ask(b"", reply("s", "x"))


def test_chains(client, waits):
    last = waits("BLPOP", "{c}3", 0)
    second = waits("BLMOVE", "{c}2", "{c}3", "LEFT", "RIGHT", 0)
    first = waits("BLMOVE", "{c}1", "{c}2", "RIGHT", "LEFT", 0)
    client.rpush("{c}1", "foo")
    for one in (first, second):
        one.ask(b"", b"$3\r\nfoo\r\n")
    last.ask(b"", reply("{c}3", "foo"))
    one = waits("BRPOPLPUSH", "{c}4", "{c}4", 0)
    client.rpush("{c}4", "bar")
    one.ask(b"", b"$3\r\nbar\r\n")
    assert client.lrange("{c}4", 0, -1) == [b"bar"]


def test_who_is_gone_is_not_served(client, waits, wire):
    waits("BLPOP", "g", 0).close()
    wait_until(lambda: blocked(client) == 0)
    half = waits("BLPOP", "g", 0)
    half.socket.shutdown(1)
    assert half.rest() == b""
    wait_until(lambda: blocked(client) == 0)
    killed = waits("BLPOP", "g", 0)
    assert client.client_kill_filter(_id=next(one["id"] for one in client.client_list() if "b" in one["flags"])) == 1
    assert killed.rest() == b""
    wait_until(lambda: blocked(client) == 0)
    client.rpush("g", 1)
    assert client.lrange("g", 0, -1) == [b"1"]


def test_time_and_unblock(client, waits):
    before = time.monotonic()
    assert client.blpop("none", 0.2) is None and 0.19 < time.monotonic() - before < 5
    for how, answer in ((("TIMEOUT",), b"*-1\r\n"), ((), b"*-1\r\n"), (("ERROR",), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")):
        one = waits("BLMOVE", "{n}a", "{n}b", "LEFT", "LEFT", 0)
        found = [other for other in client.client_list() if other["cmd"] == "blmove"][-1]
        assert found["flags"] == "b"
        assert client.execute_command("CLIENT", "UNBLOCK", found["id"], *how) == 1
        one.ask(b"", answer)
        assert client.client_unblock(found["id"]) == 0
    with client.pipeline() as pipe:
        assert pipe.blpop("none", 0).rpush("none", 1).blpop("none", 0).execute()[:2] == [None, 1]


def test_shown_as_waiting_after_reads(client, wire):
    """CLIENT LIST names what a client waits with, not what it read before."""
    one = wire()
    one.ask(word("CLIENT", "SETNAME", "waiting"), b"+OK\r\n")
    one.ask(word("GET", "nothing"), b"$-1\r\n")
    one.send(word("BLPOP", "nothing", 0))
    wait_until(lambda: blocked(client) == 1, what="it waits")
    assert [other["cmd"] for other in client.client_list() if other["name"] == "waiting"] == ["blpop"]


def test_pipelined_behind(client, waits):
    """What the client sends while it waits is done when it has been served."""
    one = waits("BLPOP", "p", 0)
    one.send(word("SET", "after", 1) + word("GET", "after"))
    time.sleep(0.05)
    assert client.get("after") is None
    client.rpush("p", 1)
    one.ask(b"", reply("p", 1) + b"+OK\r\n$1\r\n1\r\n")


def test_waiters_of_a_killed_worker(instance, client, waits):
    one = waits("BLPOP", "w", 0)
    shard = client.cluster("KEYSLOT", "w") * 2 // 16384
    generation = instance.kill_worker(shard)
    instance.wait_healed(shard, generation)
    wait_until(lambda: _pushed(client))
    one.ask(b"", reply("w", 1))


def _pushed(client) -> bool:
    with contextlib.suppress(redis.ResponseError):
        return bool(client.rpush("w", 1))
    return False


def test_nothing_is_lost_among_many(single):
    """Producers and consumers over two gateways, one of which is killed and comes back: each element comes once at most, and none is left behind."""
    port, total, taken, lock = single.resp_port, 400, [], threading.Lock()
    stop = threading.Event()

    def take() -> None:
        while not stop.is_set():
            with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as mine:
                while not stop.is_set():
                    found = mine.blpop(["many", "more"], 0.5)
                    if found is not None:
                        with lock:
                            taken.append(int(found[1]))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    with redis.Redis(port=port) as producer:
        for number in range(total):
            if number == total // 2:
                os.kill(single.child_pid("gateway"), signal.SIGKILL)
            while True:
                try:
                    producer.rpush(("many", "more")[number % 2], number)
                    break
                except redis.ConnectionError:
                    time.sleep(0.02)
        wait_until(lambda: not producer.exists("many", "more"))
    stop.set()
    for thread in threads:
        thread.join()
    # A killed gateway takes with it what was popped for its clients, and a push that it had sent may be sent again.
    assert len(set(taken)) >= total - 8 and len(taken) <= total + 1


def test_keys_of_different_slots_in_one_shard(single):
    """As for commands that do not wait: what counts with one worker is the shard."""
    with redis.Redis(port=single.resp_port) as client:
        client.flushall()
        client.rpush("from", "a", "b", "c")
        assert client.blmove("from", "to", 1) == b"a"
        assert client.brpoplpush("from", "to", 1) == b"c"
        assert client.blpop(["nothing", "to"], 1) == (b"to", b"c")
        assert client.brpoplpush("nothing", "to", 0.05) is None
        wire = Wire(single.resp_port)
        wire.send(word("BLMOVE", "later", "to", "LEFT", "RIGHT", "0"))
        # Maybe at the other gateway, which counts its own only.
        time.sleep(0.2)
        client.rpush("later", "d")
        assert wire.read(7) == b"$1\r\nd\r\n"
        wire.close()
        assert client.lrange("to", 0, -1) == [b"a", b"d"]
