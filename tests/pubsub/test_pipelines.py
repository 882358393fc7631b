"""Messages among other commands: in pipelines and by `execute_command`, from every kind of client."""

import asyncio
import uuid
from typing import Any

import pytest

import shmcache
from shmcache.errors import CommandFailed, DataError, LimitExceeded, ShmcacheError
from tests.pubsub.conftest import messages
from tests.support.instance import RunningInstance, running_instance


def refused(error: type[Exception], text: str, call: Any, *args: Any) -> None:
    with pytest.raises(error, match=text):
        call(*args)


def piped(client: Any, fill: Any, transaction: bool = False, **arguments: Any) -> list[Any]:
    """What a pipeline returns that `fill` has filled; of an asyncio client too."""
    inner = getattr(client, "_wrapped", client)
    pipeline = inner.pipeline(transaction)
    fill(pipeline)
    result = pipeline.execute(**arguments)
    return client._loop.run_until_complete(result) if asyncio.iscoroutine(result) else result


def test_execute_command_publishes(client: Any) -> None:
    name = uuid.uuid4().hex
    subscriber = client.pubsub()
    subscriber.subscribe(name)
    assert client.execute_command("PUBLISH", name, "one") == 1
    assert client.execute_command(b"publish", name, 2) == 1
    assert client.execute_command("SPUBLISH", name, "elsewhere") == 0
    assert [m["data"] for m in messages(subscriber, 2)] == [b"one", b"2"]
    refused(CommandFailed, "wrong number of arguments", client.execute_command, "PUBLISH", name)
    subscriber.close()


def test_a_pipeline_carries_messages_in_order_beside_its_other_commands(client: Any) -> None:
    name = uuid.uuid4().hex
    subscriber = client.pubsub()
    subscriber.subscribe(name)

    def fill(pipeline: Any) -> None:
        pipeline.publish(name, "first").set(name, "v").get(name).publish("nobody:" + name, "x").spublish(name, "y")
        pipeline.execute_command("publish", name, b"second").incr(name + ":n")

    assert piped(client, fill) == [1, True, b"v", 0, 0, 1, 1]
    assert [m["data"] for m in messages(subscriber, 2)] == [b"first", b"second"]
    assert piped(client, lambda p: [p.publish(name, str(n)) for n in range(2500)]) == [1] * 2500
    assert [m["data"] for m in messages(subscriber, 2500)] == [b"%d" % n for n in range(2500)]
    subscriber.close()


def test_who_receives_a_message_finds_done_what_came_with_it(client: Any) -> None:
    name = uuid.uuid4().hex
    subscriber = client.pubsub()
    subscriber.subscribe(name)
    for n in range(50):
        piped(client, lambda p, n=n: p.publish(name, str(n)).set(name, n))
        (message,) = messages(subscriber, 1)
        assert client.get(name) == message["data"]
    subscriber.close()


def test_what_goes_wrong_stands_in_its_place(client: Any) -> None:
    name = uuid.uuid4().hex
    found = piped(client, lambda p: p.set(name, "x").publish(name, b"x" * ((1 << 20) + 1)).incr(name), raise_on_error=False)
    assert found[0] is True
    assert isinstance(found[1], ShmcacheError)
    assert isinstance(found[2], ShmcacheError)
    found = piped(client, lambda p: p.publish(name, "a").publish(name, b"x" * ((1 << 20) + 1)).publish(name, "b"), raise_on_error=False)
    assert (found[0], isinstance(found[1], ShmcacheError), found[2]) == (0, True, 0)
    refused(ShmcacheError, "channel_message_size|bytes", lambda: piped(client, lambda p: p.publish(name, b"x" * ((1 << 20) + 1))))
    refused(DataError, "transaction", lambda: piped(client, lambda p: p.set(name, 1).publish(name, 2), True))
    assert client.get(name) == b"x", "nothing of it was executed"
    refused(LimitExceeded, "over every limit", lambda: piped(client, lambda p: p.publish(name, bytes((64 << 20) + 1))))


def test_without_channels_the_other_commands_are_executed() -> None:
    """Each message is refused as `publish` is."""
    instance: RunningInstance
    with running_instance(channels=False) as instance, shmcache.connect(instance.url, timeout=2) as client:
        found = client.pipeline().set("k", 1).publish("c", "m").execute(raise_on_error=False)
        assert found[0] is True
        assert isinstance(found[1], ShmcacheError)
        with pytest.raises(type(found[1])):
            client.publish("c", "m")
        assert client.get("k") == b"1"
