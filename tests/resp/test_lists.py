"""Lists by redis-py through the port: small and large, waiting, watched, in transactions."""

import threading
import time

import pytest
import redis

LARGE = 300
"""Elements that make a list large."""


@pytest.mark.parametrize("filler", [0, LARGE], ids=["small", "large"])
def test_commands(client, filler):
    assert client.rpush("l", "a", "b", "c", *range(filler)) == filler + 3
    assert client.lrange("l", 0, 2) == [b"a", b"b", b"c"]
    assert (client.llen("l"), client.lindex("l", 1), client.lpos("l", "c")) == (filler + 3, b"b", 2)
    assert client.linsert("l", "BEFORE", "b", "x") == filler + 4
    assert client.lset("l", 0, "A") and client.lrem("l", 1, "x") == 1
    assert client.lpop("l", 2) == [b"A", b"b"]
    assert client.object("ENCODING", "l") == (b"quicklist" if filler else b"listpack")
    assert client.memory_usage("l", samples=0) > 40
    assert client.ltrim("l", 0, 0) and client.lrange("l", 0, -1) == [b"c"]
    assert client.lmove("l", "l", "LEFT", "RIGHT") == b"c"
    assert client.lmpop(1, "l", direction="LEFT") == [b"l", [b"c"]]
    client.rpush("n", 3, 1, 2)
    assert client.sort("n", desc=True) == [b"3", b"2", b"1"]
    assert client.restore("m", 0, client.dump("n")) == b"OK"
    assert client.lrange("m", 0, -1) == [b"3", b"1", b"2"]


def test_waiting(client, instance):
    with redis.Redis(port=instance.resp_port) as other:
        timer = threading.Timer(0.1, other.rpush, ("q", "x"))
        timer.start()
        try:
            before = time.monotonic()
            found = client.blpop(["q"], 10)
            assert tuple(found) == (b"q", b"x") and time.monotonic() - before < 5
        finally:
            timer.join()
    assert client.brpop("q", 0.05) is None and client.blmove("q", "q", 0.05) is None
    # In a transaction nobody waits.
    pipe = client.pipeline()
    pipe.execute_command("BLPOP", "q", 0).rpush("q", 1).execute_command("BLPOP", "q", 0)
    found = pipe.execute()
    assert found[:2] == [None, 1] and list(found[2]) == [b"q", b"1"]


@pytest.mark.parametrize("filler", [1, LARGE], ids=["small", "large"])
def test_watched(client, instance, filler):
    client.rpush("{w}l", *range(filler))
    with redis.Redis(port=instance.resp_port) as other:
        for change in (None, lambda: other.rpush("{w}l", 1), lambda: other.lset("{w}l", 0, "x"), lambda: other.expire("{w}l", 100), lambda: other.delete("{w}l")):
            with client.pipeline() as pipe:
                pipe.watch("{w}l")
                if change is not None:
                    change()
                pipe.multi()
                pipe.set("{w}done", 1)
                if change is None:
                    assert pipe.execute() == [True]
                else:
                    with pytest.raises(redis.WatchError):
                        pipe.execute()
