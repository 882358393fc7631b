"""Slow subscribers, a killed hub, full buffers: what is lost is counted and said."""

import json
import os
import signal
import socket
import time
from typing import Any

import pytest
import zmq

import shmcache
from shmcache.client.subscriber import Missed
from shmcache.protocol import frames
from shmcache.protocol.channels import pack_message, unpack_messages
from shmcache.protocol.codec import encode_commands
from shmcache.protocol.streams import REQUEST, SUBSCRIBE, Records, record, stream_path
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.wire import wire

from .conftest import messages, nothing


def hub_stats(instance: RunningInstance) -> dict[str, Any]:
    with wire(instance.snapshot().hub_endpoints[0]) as connection:
        return connection.control("stats")["hub"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["stream", "zmq"])
def test_slow_subscriber_loses_is_told_and_slows_nobody(way: str) -> None:
    """One that does not read loses what its queue cannot hold, learns how many, and the hub counts and
    warns.
    """
    payload = b"x" * 10_000
    total = 6_000
    with (
        running_instance(channels=True, channel_queue=100) as instance,
        shmcache.connect(instance.url) as client,
    ):
        slow = client.pubsub(ignore_subscribe_messages=True)
        slow.subscribe("flood")
        if way == "zmq":
            # As if it had a small queue of its own: the other end shall fill up.
            slow._socket.close(linger=0)
            context = zmq.Context.instance()
            slow._socket = context.socket(zmq.SUB)
            slow._socket.linger = 0
            slow._socket.rcvhwm = 10
            slow._socket.rcvbuf = 10_000
            slow._socket.connect(instance.snapshot().hub_endpoints[1])
            slow._socket.subscribe(b"cflood\0")
        quick = client.pubsub(ignore_subscribe_messages=True)
        quick.subscribe("flood")
        watcher = client.pubsub(ignore_subscribe_messages=True)
        watcher.subscribe("__shmcache__:events")
        wait_until(lambda: client.pubsub_numsub("flood") == [(b"flood", 2)])
        for at in range(0, total, 50):
            client.publish_many(("flood", payload) for _ in range(50))
            assert [m["seq"] for m in messages(quick, 50)] == list(range(at + 1, at + 51))
        came = missed = 0
        while came + missed < total:
            message = slow.get_message(timeout=5)
            assert message is not None, (came, missed)
            if isinstance(message, Missed):
                assert message.count
                missed += message.count
            else:
                came += 1
        assert missed > 0
        assert came + missed == total
        wait_until(lambda: hub_stats(instance)["dropped"] == missed)
        (flood,) = [c for c in hub_stats(instance)["by_channel"] if c["channel"] == b"flood"]
        assert (flood["messages"], flood["dropped"], flood["subscribers"]) == (total, missed, 2)
        warned = 0
        while warned < missed:
            (event,) = messages(watcher, 1)
            event = json.loads(event["data"])
            assert (event["event"], event["channel"]) == ("dropped", "flood")
            warned += event["count"]
        assert warned == missed
        for subscriber in (slow, quick, watcher):
            subscriber.close()
        assert "too slow" in instance.log()


def test_killed_hub_comes_back_with_its_subscriptions() -> None:
    """kill -9: publish works again within seconds, subscribers are told that they may have missed
    something.
    """
    with running_instance(channels=True) as instance:
        for url in (instance.url, instance.tcp):
            with shmcache.connect(url) as client, client.pubsub(ignore_subscribe_messages=True) as subscriber:
                subscriber.subscribe("c")
                subscriber.psubscribe("c*")
                client.publish("c", "before")
                assert len(messages(subscriber, 2)) == 2
                generation = instance.snapshot().hub_generation
                os.kill(instance.hub_pid(), signal.SIGKILL)
                wait_until(
                    lambda g=generation: instance.snapshot().hub_generation != g and instance.hub_pid()
                )
                gaps = messages(subscriber, 2, seconds=10)
                assert [(type(m), m["data"]) for m in gaps] == [(Missed, None)] * 2
                wait_until(lambda c=client: c.publish("c", "after", timeout=2) == 2)
                assert {m["type"] for m in messages(subscriber, 2)} == {"message", "pmessage"}
                client.set("key", "value")


def test_subscriber_follows_an_instance_that_is_restarted() -> None:
    """A new start of the whole instance: the subscriber finds it again by itself."""
    with running_instance(channels=True) as instance, shmcache.connect(instance.url) as client:
        with client.pubsub(ignore_subscribe_messages=True) as subscriber:
            subscriber.subscribe("c")
            instance.stop()
            instance.start()
            (gap,) = messages(subscriber, 1, seconds=20)
            assert gap == Missed(type="missed", pattern=None, channel=b"c", data=None, seq=None) | {
                "seq": gap["seq"]
            }
            wait_until(lambda: client.publish("c", "again") == 1)
            assert messages(subscriber, 1)[-1]["data"] == b"again"


def test_end_of_a_burst_that_was_dropped_is_noticed(with_channels: RunningInstance) -> None:
    """Also when no message follows: an idle subscriber asks how far its channels are."""
    with (
        shmcache.connect(with_channels.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as subscriber,
    ):
        subscriber.subscribe("tail-loss")
        client.publish("tail-loss", "1")
        messages(subscriber, 1)
        subscriber._socket.unsubscribe(b"ctail-loss\0")
        wait_until(lambda: client.pubsub_numsub("tail-loss") == [(b"tail-loss", 0)])
        assert client.publish("tail-loss", "never comes") == 0
        subscriber._socket.subscribe(b"ctail-loss\0")
        (gap,) = messages(subscriber, 1)
        assert isinstance(gap, Missed)
        assert gap.count >= 1
        assert nothing(subscriber)


HOSTILE = [
    [b""],
    [b"x"],
    [b"x" * 24, b""],
    [frames.pack_header(), b"\xc1"],
    [frames.pack_header(), b"\x91\x90"],
    [frames.pack_header(), b"\x91\x93\xa7PUBLISH\x90\x90"],
    [frames.pack_header(flags=frames.CONTROL), b"\x92\xa7forward\x81\xa8messages\x91\x90"],
    [frames.pack_header(flags=frames.CONTROL), b"\x92\xa6replay\x81\xa5topic\xc0"],
    [frames.pack_header(flags=frames.CONTROL), b"\x92\xa7dropped\x82\xa5topic\xc4\x00\xa5count\xff"],
    [frames.pack_header(flags=frames.CONTROL), b"\x92\xa8upstream\x81\xa9endpoints\x91\xa1x"],
    [frames.pack_header(flags=frames.CONTROL), b"\x92\xa4none\x80"],
    [b"a", b"b", b"c", b"d"],
]


GARBAGE = [b"", b"\x01", b"\x01?", b"\x01?short", b"\x01?nonceabcp\0", b"\x02hello", b"\x00never"]
GARBAGE += [b"\x01" + b"c" * 4000, b"\x01p[\0", b"\x01p" + b"*a" * 1000 + b"\0", b"\x01c\0", b"\xff" * 300]
"""What an XSUB socket can send to the hub's XPUB."""


@pytest.mark.parametrize("ways", [0, 2], ids=["ipc", "tcp"])
def test_hostile_input_leaves_the_hub_alive(with_channels: RunningInstance, ways: int) -> None:
    """Malformed requests and subscriptions are refused or ignored; everyone else goes on being served."""
    pid = with_channels.hub_pid()
    control, out = with_channels.snapshot().hub_endpoints[ways : ways + 2]
    with zmq.Context() as context:
        dealer, peer, sub = context.socket(zmq.DEALER), context.socket(zmq.XSUB), context.socket(zmq.SUB)
        for socket, endpoint in ((dealer, control), (peer, out), (sub, out)):
            socket.linger = 500
            socket.connect(endpoint)
        for message in HOSTILE:
            dealer.send_multipart(message)
        for data in GARBAGE:
            peer.send(data)
        # Larger than any topic: the connection is closed, not the hub.
        sub.subscribe(b"c" + b"x" * 100_000 + b"\0")
        with shmcache.connect(with_channels.url) as client, client.pubsub(True) as subscriber:
            subscriber.subscribe("still-there")
            assert client.publish("still-there", "yes") >= 1
            assert messages(subscriber, 1)[0]["data"] == b"yes"
            for socket in (dealer, peer, sub):
                socket.close()
            wait_until(lambda: client.publish("still-there", "yes") == 1)
    assert with_channels.hub_pid() == pid


def test_hostile_streams_leave_the_hub_alive(with_channels: RunningInstance) -> None:
    """Malformed, cut and oversized records end their connection, and what it was subscribed to, alone."""
    pid = with_channels.hub_pid()
    path = stream_path(with_channels.snapshot().hub_endpoints[1])
    hostile = [b"\0\0\0\0+", b"\xff\xff\xff\xffr", b"\x01\0\0\0x", record(SUBSCRIBE, b"c" + b"x" * 9_000 + b"\0")]
    hostile += [record(SUBSCRIBE, topic) for topic in (b"", b"c", b"news", b"c\0c\0")]
    with shmcache.connect(with_channels.url) as client, client.pubsub(True) as subscriber:
        subscriber.subscribe("streams")
        for data in hostile:
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(5)
                stranger.connect(path)
                stranger.sendall(record(SUBSCRIBE, b"cstreams\0"))
                wait_until(lambda: client.publish("streams", "x") == 2)
                stranger.sendall(data)
                while stranger.recv(65536):
                    pass
            wait_until(lambda: client.publish("streams", "x") == 1)
        for message in HOSTILE[2:-1]:
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(5)
                stranger.connect(path)
                stranger.sendall(record(REQUEST, b"".join(message)))
                assert stranger.recv(65536)[4:5] == b"r"
        with socket.socket(socket.AF_UNIX) as stranger:
            # A record that is cut is not executed.
            stranger.connect(path)
            stranger.sendall(record(REQUEST, frames.pack_header() + encode_commands([("PUBLISH", "cut", "x")]))[:-1])
        assert client.publish("streams", "last") == 1
    assert with_channels.hub_pid() == pid
    assert all(c["channel"] != b"cut" for c in hub_stats(with_channels)["by_channel"])


def test_records_come_whole_however_they_are_cut() -> None:
    """Any cut of a stream gives the same records."""
    wanted = [(SUBSCRIBE, b"topic"), (REQUEST, b""), (SUBSCRIBE, b"x" * 300)]
    data = b"".join(record(kind, body) for kind, body in wanted)
    for step in (1, 2, 3, 4, 5, 7, 64, 299, len(data)):
        records = Records(1_000)
        got = [found for at in range(0, len(data), step) for found in records.feed(data[at : at + step])]
        assert got == wanted, step
    with pytest.raises(shmcache.errors.ProtocolError):
        Records(10).feed(record(SUBSCRIBE, b"x" * 10))


def test_flood_of_requests_is_answered_by_errors_not_by_death(with_channels: RunningInstance) -> None:
    """Patterns over the limit are refused with a typed error; those in use go on."""
    with shmcache.connect(with_channels.url) as client, client.pubsub(True) as subscriber:
        with pytest.raises(shmcache.errors.LimitExceeded, match="no more subscriptions"):
            subscriber.psubscribe(*(f"limit-{n}-*" for n in range(2_000)))
        assert not subscriber.patterns
        wait_until(lambda: client.pubsub_numpat() == 0)
        subscriber.psubscribe("limit-*")
        client.publish("limit-1", "x")
        assert messages(subscriber, 1)


def test_malformed_frames_do_not_reach_the_caller(with_channels: RunningInstance) -> None:
    """A subscriber survives whatever a hub of another kind might send."""
    with shmcache.connect(with_channels.url) as client, client.pubsub(True) as subscriber:
        subscriber.subscribe("frames")
        client.publish("frames", "x")
        time.sleep(0.1)
        good = subscriber._socket.recv()
        state = subscriber._state
        for cut in range(len(good) - 2):
            state.feed(good[:cut])
        state.feed(good[:8] + b"\xff" + good[8:])
        assert state.malformed > 50
        assert not state.events
        state.feed(good)
        (message,) = unpack_messages(good)
        assert pack_message(message.topic, message) == good
        assert state.events.popleft()[0]["data"] == b"x"
