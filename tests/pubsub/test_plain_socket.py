"""The documented frame: a plain pyzmq SUB socket reads it without any code of ours."""

import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

import shmcache
from tests.support.instance import RunningInstance


@pytest.fixture
def plain(with_channels: RunningInstance) -> Iterator[Any]:
    """A SUB socket at the hub, as found in the directory; a receive that takes too long raises."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvtimeo = 5000
        socket.connect(with_channels.snapshot().hub_endpoints[3])
        yield socket


def in_force(socket: Any, topic: bytes) -> int:
    """Subscribe and wait for the hub's answer to a probe, as docs/pubsub.md describes; the topic's number."""
    socket.subscribe(topic)
    probe = b"?" + b"\x00\x01nonce\x07" + topic
    socket.subscribe(probe)
    frame = socket.recv()
    assert frame.startswith(probe)
    socket.unsubscribe(probe)
    return int(struct.unpack_from("<Q", frame, len(probe) + 16)[0])


def test_frame_byte_by_byte(plain: Any, with_channels: RunningInstance) -> None:
    """Topic, header, channel, payload stand where the document says."""
    assert in_force(plain, b"cplain.frame\0") == 0
    before_ms = int(time.time() * 1000)
    with shmcache.connect(with_channels.url) as client:
        client.publish("plain.framework", "no")
        client.publish("plain.frame", b"pay\0load")
    topic, separator, rest = plain.recv().partition(b"\0")
    assert (topic, separator) == (b"cplain.frame", b"\0")
    assert rest[0] == 1  # version
    assert rest[1:2] == b"c"  # kind
    assert rest[2:4] == b"\0\0"  # hops, flags
    assert struct.unpack_from("<HHII", rest, 4) == (len("plain.frame"), 0, len(b"pay\0load"), 0)
    seq, topic_seq, generation, origin, number, unix_ms = struct.unpack_from("<6Q", rest, 16)
    assert (seq, topic_seq) == (1, 1)
    assert generation == origin == with_channels.snapshot().hub_generation
    assert number > 0
    assert before_ms <= unix_ms <= time.time() * 1000
    assert rest[64:75] == b"plain.frame"
    assert rest[75:] == b"pay\0load"


def test_pattern_topic_has_numbers_of_its_own(plain: Any, with_channels: RunningInstance) -> None:
    """Under a pattern's topic: the channel's number, and a dense one of the pattern."""
    in_force(plain, b"pplain.pattern.*\0")
    with shmcache.connect(with_channels.url) as client:
        client.publish_many([("plain.pattern.a", "1"), ("plain.pattern.b", "2"), ("plain.pattern.a", "3")])
    numbers = []
    # One request, one topic: one frame.
    topic, _, rest = plain.recv().partition(b"\0")
    assert topic == b"pplain.pattern.*"
    while rest:
        assert rest[1:2] == b"p"
        length, _, payload_length = struct.unpack_from("<HHI", rest, 4)
        numbers.append((rest[64:79], *struct.unpack_from("<QQ", rest, 16)))
        rest = rest[64 + length + payload_length :]
    assert numbers == [(b"plain.pattern.a", 1, 1), (b"plain.pattern.b", 1, 2), (b"plain.pattern.a", 2, 3)]


def test_prefix_subscription_sees_all(plain: Any, with_channels: RunningInstance) -> None:
    """A plain socket may subscribe to a beginning of names: then these are sent although nobody names
    them.
    """
    plain.subscribe(b"cplain.prefix.")
    in_force(plain, b"cplain.other\0")
    with shmcache.connect(with_channels.url) as client:
        assert client.publish("plain.prefix.anything", "x") == 0
    assert plain.recv().startswith(b"cplain.prefix.anything\0")
