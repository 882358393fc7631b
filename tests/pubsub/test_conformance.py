"""The methods mean what redis-py's mean, over every way in."""

import threading
import uuid
from typing import Any

import pytest

import shmcache
from shmcache.errors import BadChannel, LimitExceeded, ResponseError, Unavailable
from tests.support.instance import RunningInstance, running_instance, wait_until

from .conftest import messages, nothing


@pytest.fixture
def name() -> str:
    """A channel that no other test uses."""
    return f"ch-{uuid.uuid4().hex[:8]}"


def data(found: list[dict[str, Any]]) -> list[Any]:
    return [message["data"] for message in found]


def test_subscribe_publish_unsubscribe(client: Any, name: str) -> None:
    """Confirmation, message, confirmation: the dicts of redis-py, with a sequence number."""
    subscriber = client.pubsub()
    subscriber.subscribe(name)
    channel = name.encode()
    confirmed = subscriber.get_message(timeout=1)
    assert (confirmed["type"], confirmed["channel"], confirmed["data"]) == ("subscribe", channel, 1)
    assert client.publish(name, "one") == 1
    assert messages(subscriber, 1) == [
        {"type": "message", "pattern": None, "channel": channel, "data": b"one", "seq": 1}
    ]
    subscriber.unsubscribe(name)
    assert subscriber.get_message(timeout=1)["type"] == "unsubscribe"
    assert not subscriber.subscribed
    wait_until(lambda: client.publish(name, b"\x00two") == 0)
    assert nothing(subscriber)
    subscriber.close()


def test_nothing_is_lost_between_subscribe_and_publish(client: Any, name: str) -> None:
    """subscribe() returns when the subscription is in force: the very next message comes, each time."""
    for turn in range(30):
        subscriber = client.pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(f"{name}-{turn}")
        assert client.publish(f"{name}-{turn}", str(turn)) == 1
        assert data(messages(subscriber, 1)) == [str(turn).encode()]
        subscriber.close()


def test_exact_names_do_not_leak(client: Any, name: str) -> None:
    """A channel whose name begins with another's is another channel; shard channels are others again."""
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(name)
    assert client.publish(name + "room", "no") == 0
    assert client.publish(name[:-1], "no") == 0
    assert client.spublish(name, "no") == 0
    client.publish(name, "yes")
    assert data(messages(subscriber, 1)) == [b"yes"]
    assert nothing(subscriber)
    subscriber.close()


def test_patterns(client: Any, name: str) -> None:
    """A pattern's messages name pattern and channel; a message comes once per subscription that it meets."""
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.psubscribe(f"{name}.?[ab]*", f"{name}.*")
    subscriber.subscribe(f"{name}.xa")
    assert client.publish(f"{name}.xa", "m") == 3
    found = sorted((m["type"], m["pattern"]) for m in messages(subscriber, 3) if m["pattern"])
    assert found == [("pmessage", f"{name}.*".encode()), ("pmessage", f"{name}.?[ab]*".encode())]
    assert client.publish(f"{name}.xc", "m") == 1
    assert messages(subscriber, 1)[0]["channel"] == f"{name}.xc".encode()
    subscriber.punsubscribe()
    wait_until(lambda: client.publish(f"{name}.xa", "m") == 1)
    subscriber.close()


def test_shard_channels(client: Any, name: str) -> None:
    """SPUBLISH reaches SSUBSCRIBE alone."""
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.ssubscribe(name)
    assert client.publish(name, "no") == 0
    assert client.spublish(name, "yes") == 1
    (message,) = messages(subscriber, 1)
    assert (message["type"], message["data"]) == ("smessage", b"yes")
    assert client.pubsub_shardnumsub(name) == [(name.encode(), 1)]
    assert name.encode() in client.pubsub_shardchannels(f"{name}*")
    subscriber.sunsubscribe()
    wait_until(lambda: client.spublish(name, "no") == 0)
    subscriber.close()


def test_introspection(client: Any, name: str) -> None:
    """Channels, numbers of subscriptions, number of patterns."""
    one, two = client.pubsub(), client.pubsub()
    # The test before may have just closed its subscriber, of which the hub hears a moment later.
    wait_until(lambda: client.pubsub_numpat() == 0)
    one.subscribe(name, name + "x")
    two.subscribe(name)
    two.psubscribe(name + "*")
    assert sorted(client.pubsub_channels(name + "*")) == sorted([name.encode(), f"{name}x".encode()])
    assert client.pubsub_numsub(name, "none") == [(name.encode(), 2), (b"none", 0)]
    assert client.pubsub_numpat() == 1
    one.close()
    two.unsubscribe()
    two.punsubscribe()
    wait_until(lambda: client.pubsub_numsub(name) == [(name.encode(), 0)])
    wait_until(lambda: client.pubsub_numpat() == 0)
    two.close()


def test_order_and_numbers(client: Any, name: str) -> None:
    """Messages come in the order of the hub, numbered without gap."""
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(name)
    assert client.publish_many((name, str(n)) for n in range(3000)) == [1] * 3000
    found = messages(subscriber, 3000)
    assert data(found) == [str(n).encode() for n in range(3000)]
    assert [m["seq"] for m in found] == list(range(1, 3001))
    subscriber.close()


def test_listen(client: Any, name: str) -> None:
    """The iterator gives messages as they come, and ends with the last subscription."""
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(name)
    client.publish_many([(name, "a"), (name, "b")])
    take = (
        getattr(subscriber, "take", None)
        if not isinstance(subscriber, shmcache.client.pubsub.PubSub)
        else None
    )
    if take is not None:
        assert data(take(2)) == [b"a", b"b"]
    else:
        listener = subscriber.listen()
        assert data([next(listener), next(listener)]) == [b"a", b"b"]
        subscriber.unsubscribe()
        assert list(listener) == []
    subscriber.close()


def test_replay_joins_the_live_stream(client: Any, name: str) -> None:
    """The last N messages, then the live ones: no gap, nothing twice, also while others publish."""
    client.publish_many((name, str(n)) for n in range(20))
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(name, replay=5)
    client.publish(name, "live")
    found = messages(subscriber, 6)
    assert data(found) == [b"15", b"16", b"17", b"18", b"19", b"live"]
    assert [m["seq"] for m in found] == [16, 17, 18, 19, 20, 21]
    late = client.pubsub(ignore_subscribe_messages=True)
    late.subscribe(name, replay_seconds=60)
    assert len(messages(late, 21)) == 21
    subscriber.close()
    late.close()


def test_names_that_cannot_be(client: Any, with_channels: RunningInstance) -> None:
    """Empty, with a zero byte, too long, or the hub's own: a typed error, nothing sent."""
    subscriber = client.pubsub()
    with pytest.raises(BadChannel):
        client.publish("a\0b", "m")
    with pytest.raises(BadChannel):
        client.publish("", "m")
    with pytest.raises(BadChannel):
        subscriber.subscribe("a\0b")
    with pytest.raises(LimitExceeded, match="CHANNEL_NAME_BYTES_MAX"):
        client.publish("a" * 4097, "m")
    with pytest.raises(LimitExceeded, match="channel_message_size"):
        client.publish("a", b"x" * ((1 << 20) + 1))
    with pytest.raises(ResponseError, match="hub's own"):
        client.publish("__shmcache__:events", "m")
    with pytest.raises(LimitExceeded, match="at most"):
        subscriber.subscribe(*(str(n) for n in range(10_001)))
    assert not subscriber.channels
    assert client.publish("a", b"x" * (1 << 20)) == 0


def test_handlers_and_thread(with_channels: RunningInstance, name: str) -> None:
    """Messages of a channel with a handler go there, others to the thread's callback."""
    handled: list[Any] = []
    called: list[Any] = []
    done = threading.Event()
    with shmcache.connect(with_channels.url, decode_responses=True) as client:
        subscriber = client.pubsub()
        subscriber.subscribe("plain-" + name, **{name: handled.append})
        assert subscriber.channels[name] is not None

        def callback(message: dict[str, Any]) -> None:
            called.append(message["data"])
            done.set()

        thread = subscriber.run_in_thread(callback, sleep_time=0.01)
        client.publish(name, "to the handler")
        client.publish("plain-" + name, "to the callback")
        assert done.wait(5)
        thread.stop()
        thread.join(5)
        assert not thread.is_alive()
    assert [m["data"] for m in handled] == ["to the handler"]
    assert called == ["to the callback"]


def test_many_channels_of_one_subscriber(with_channels: RunningInstance, name: str) -> None:
    """Thousands of subscriptions are confirmed, each with its number, and each delivers."""
    with (
        shmcache.connect(with_channels.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as subscriber,
    ):
        subscriber.subscribe(*(f"{name}-{n}" for n in range(3000)))
        assert client.publish(f"{name}-2999", "x") == 1
        assert data(messages(subscriber, 1)) == [b"x"]


def test_without_channels_there_is_an_error() -> None:
    """An instance started with --no-channels says so, over both ways in."""
    with running_instance() as instance:
        for url in (instance.url, instance.tcp):
            with shmcache.connect(url) as client, pytest.raises(Unavailable, match="no channels"):
                client.publish("a", "b", timeout=2)
