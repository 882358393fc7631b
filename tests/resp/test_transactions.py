"""MULTI, EXEC, DISCARD, WATCH."""

import pytest
import redis

from tests.support.instance import wait_until


def test_all_or_in_order(client):
    pipe = client.pipeline()
    pipe.set("{t}a", 1).incr("{t}a").get("{t}a").mget("{t}a", "{t}b").ping().echo("x")
    assert pipe.execute() == [True, 2, b"2", [b"2", None], True, b"x"]


def test_keys_of_several_shards(client):
    """In order, split where a command can be, and merged; what the gateway answers is in its place."""
    pipe = client.pipeline()
    for n in range(20):
        pipe.set(f"k{n}", n)
    pipe.ping().mget([f"k{n}" for n in range(21)]).delete("k1", "k2", "no").exists("k1", "k3", "k4").dbsize()
    found = pipe.execute()
    assert found == [*[True] * 20, True, [*[b"%d" % n for n in range(20)], None], 2, 2, 0]
    assert client.dbsize() == 18


def test_what_cannot_be_split_refuses_all(client):
    pipe = client.pipeline()
    for n in range(20):
        pipe.set(f"k{n}", n)
    pipe.sinterstore("d", [f"k{n}" for n in range(20)])
    with pytest.raises(redis.ResponseError, match="different slots"):
        pipe.execute()
    assert client.dbsize() == 0


def test_an_error_in_one_of_several_shards(client):
    pipe = client.pipeline()
    for n in range(10):
        pipe.set(f"k{n}", n)
    pipe.lpush("k3", 1).flushall().incr("k4")
    found = pipe.execute(raise_on_error=False)
    assert found[:10] == [True] * 10
    assert found[12] == 5
    assert [isinstance(result, redis.ResponseError) for result in found[10:12]] == [True, True]
    assert client.dbsize() == 10


def test_watched_keys_of_several_shards(client, instance):
    """Compared in all their shards while these are held, whichever of them the transaction touches."""
    watched = {f"w{n}": n for n in range(8)}
    with redis.Redis(port=instance.resp_port) as other:
        for changed in (None, *watched):
            client.mset(watched)
            with client.pipeline() as pipe:
                pipe.watch(*watched)
                if changed:
                    other.set(changed, "x")
                pipe.multi()
                pipe.set("one", changed or "none").set("w0", 1).incr("two")
                if changed:
                    with pytest.raises(redis.WatchError):
                        pipe.execute()
                else:
                    assert pipe.execute() == [True, True, 1]
    assert client.get("one") == b"none"


def test_an_error_at_run_time_leaves_the_others(client):
    pipe = client.pipeline()
    pipe.set("{t}a", "x").incr("{t}a").set("{t}b", 1)
    found = pipe.execute(raise_on_error=False)
    assert found[0] is True and isinstance(found[1], redis.ResponseError) and found[2] is True


def test_watched_keys(client, instance):
    with redis.Redis(port=instance.resp_port) as other:
        for key, change in (("w", lambda: other.set("w", 2)), ("n", lambda: other.set("n", 1)), ("d", lambda: other.delete("d"))):
            client.set("w", 1)
            client.delete("n")
            client.set("d", 1)
            for is_changed in (True, False):
                with client.pipeline() as pipe:
                    pipe.watch(key)
                    pipe.get(key)
                    if is_changed:
                        change()
                    pipe.multi()
                    pipe.set(key, "mine")
                    if is_changed:
                        with pytest.raises(redis.WatchError):
                            pipe.execute()
                    else:
                        assert pipe.execute() == [True]
        with client.pipeline() as pipe:
            pipe.watch("w")
            other.set("w", 3)
            pipe.unwatch()
            pipe.multi()
            pipe.get("w")
            assert pipe.execute() == [b"3"]


def test_wire(wire):
    one = wire()
    one.ask(b"MULTI\r\nMULTI\r\n", b"+OK\r\n-ERR MULTI calls can not be nested\r\n")
    one.ask(b"WATCH a\r\nSET ta 1\r\nDISCARD\r\n", b"-ERR WATCH inside MULTI is not allowed\r\n+QUEUED\r\n+OK\r\n")
    one.ask(b"EXISTS ta\r\n", b":0\r\n")
    one.ask(b"MULTI\r\nSET ta\r\nSET ta 2\r\n", b"+OK\r\n-ERR wrong number of arguments for 'set' command\r\n+QUEUED\r\n")
    one.ask(b"EXEC\r\n", b"-EXECABORT Transaction discarded because of previous errors.\r\n")
    one.ask(b"MULTI\r\nNOSUCH\r\nEXEC\r\n", b"+OK\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n-EXECABORT Transaction discarded because of previous errors.\r\n")
    one.ask(b"MULTI\r\nEXEC\r\n", b"+OK\r\n*0\r\n")
    one.ask(b"MULTI\r\nEXEC x\r\n", b"+OK\r\n-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n")
    one.ask(b"EXEC\r\n", b"-ERR EXEC without MULTI\r\n")
    one.ask(b"SET ta 1\r\nMULTI\r\nGET ta\r\nEXEC\r\nGET ta\r\n", b"+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n$1\r\n1\r\n")
    # In one packet: WATCH, a change of one's own, EXEC -> nil array.
    one.ask(b"WATCH ta\r\nSET ta 5\r\nMULTI\r\nGET ta\r\nEXEC\r\n", b"+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n")
    one.ask(b"RESET\r\n", b"+RESET\r\n")


def test_watch_sees_what_stamps_do_not(client, instance):
    """A missing key that was there for a while; keys of other shards; but not a missing key that stays missing."""
    with redis.Redis(port=instance.resp_port) as other:

        def outcome(change, *watched):
            with client.pipeline() as pipe:
                pipe.watch(*watched)
                change()
                pipe.multi()
                pipe.set("{done}", 1)
                try:
                    return pipe.execute()
                except redis.WatchError:
                    return None

        assert outcome(lambda: (other.set("gone", 1), other.delete("gone")), "gone") is None
        assert outcome(lambda: other.delete("gone"), "gone") == [True]
        assert outcome(lambda: other.flushall(), "gone") == [True]
        other.mset({"w1": 1, "w2": 1, "w3": 1})
        assert outcome(lambda: other.set("w3", 1), "w1", "w2", "w3") is None
        assert outcome(lambda: other.set("w4", 1), "w1", "w2", "w3") == [True]
        assert outcome(lambda: other.flushall(), "w1", "w2", "w3") is None
        other.set("w1", 1, px=30)
        assert outcome(lambda: wait_until(lambda: not other.exists("w1")), "w1") is None


def test_slow_log(client):
    """By what the gateway waited for; with threshold 0 everything."""
    client.config_set("slowlog-log-slower-than", 0)
    try:
        client.slowlog_reset()
        client.set("slow", 1)
        client.get("slow")
        assert [entry["command"] for entry in client.slowlog_get(10)][:2] == [b"GET slow", b"SET slow 1"]
        pipe = client.pipeline()
        for n in range(10):
            pipe.set(f"k{n}", n)
        pipe.execute()
        assert {b"SET k%d %d" % (n, n) for n in range(10)} <= {entry["command"] for entry in client.slowlog_get(30)}
    finally:
        client.config_set("slowlog-log-slower-than", 10_000_000)
    client.slowlog_reset()
    client.set("quick", 1)
    assert client.slowlog_len() == 0
    client.config_set("slowlog-log-slower-than", 10_000)
