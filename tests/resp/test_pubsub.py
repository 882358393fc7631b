"""Channels over RESP2 and RESP3."""

import time

import pytest
import redis


def messages(subscriber, count):
    found, until = [], time.monotonic() + 10
    while len(found) < count and time.monotonic() < until:
        message = subscriber.get_message(timeout=1)
        if message is not None:
            found.append((message["type"], message["channel"], message["data"]))
    return found


def test_channels_patterns_and_counts(client, instance):
    with redis.Redis(port=instance.resp_port) as other, client.pubsub() as subscriber:
        subscriber.subscribe("news", "sport")
        subscriber.psubscribe("n*")
        assert messages(subscriber, 3) == [("subscribe", b"news", 1), ("subscribe", b"sport", 2), ("psubscribe", b"n*", 3)]
        assert other.publish("news", "x") == 2 and other.publish("other", "x") == 0
        assert sorted(messages(subscriber, 2)) == [("message", b"news", b"x"), ("pmessage", b"news", b"x")]
        assert other.pubsub_numsub("news", "no") == [(b"news", 1), (b"no", 0)] and other.pubsub_numpat() == 1
        assert sorted(other.pubsub_channels()) == [b"news", b"sport"]
        subscriber.unsubscribe()
        assert sorted(messages(subscriber, 2)) in ([("unsubscribe", b"news", 2), ("unsubscribe", b"sport", 1)], [("unsubscribe", b"news", 1), ("unsubscribe", b"sport", 2)])
        assert other.publish("news", "y") == 1
        assert messages(subscriber, 1) == [("pmessage", b"news", b"y")]


def test_shard_channels(client, instance):
    with redis.Redis(port=instance.resp_port) as other, client.pubsub() as subscriber:
        subscriber.ssubscribe("s")
        assert messages(subscriber, 1) == [("ssubscribe", b"s", 1)]
        assert other.execute_command("SPUBLISH", "s", "x") == 1
        message = subscriber.get_sharded_message(timeout=5) if hasattr(subscriber, "get_sharded_message") else subscriber.get_message(timeout=5)
        assert message["data"] == b"x"


def test_many_messages_in_order(client, instance):
    with redis.Redis(port=instance.resp_port) as other, client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("burst")
        subscriber.get_message(timeout=1)
        pipe = other.pipeline(transaction=False)
        for n in range(1_000):
            pipe.publish("burst", n)
        assert set(pipe.execute()) == {1}
        assert [int(data) for _, _, data in messages(subscriber, 1_000)] == list(range(1_000))


def test_subscribe_mode_of_resp2(wire):
    one = wire()
    one.ask(b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
    text = b"only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
    one.ask(b"GET a\r\n", b"-ERR Can't execute 'get': " + text)
    one.ask(b"PING\r\nPING x\r\n", b"*2\r\n$4\r\npong\r\n$0\r\n\r\n*2\r\n$4\r\npong\r\n$1\r\nx\r\n")
    one.ask(b"UNSUBSCRIBE\r\nUNSUBSCRIBE\r\nPING\r\n", b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n+PONG\r\n")


def test_resp3_may_do_both(wire):
    one, other = wire(), wire()
    one.send(b"HELLO 3\r\n")
    time.sleep(0.1)
    assert one.socket.recv(4096).startswith(b"%7\r\n")
    one.ask(b"SUBSCRIBE c3\r\nSET c3 1\r\n", b">3\r\n$9\r\nsubscribe\r\n$2\r\nc3\r\n:1\r\n+OK\r\n")
    other.ask(b"PUBLISH c3 hi\r\n", b":1\r\n")
    message = b">3\r\n$7\r\nmessage\r\n$2\r\nc3\r\n$2\r\nhi\r\n"
    assert one.read(len(message)) == message


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_no_channel_has(client, name):
    with pytest.raises(redis.ResponseError):
        client.publish(name, "x")
