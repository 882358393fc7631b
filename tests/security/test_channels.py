"""Channels behind CURVE: who may publish and subscribe from other hosts, and hubs that join each other with keys."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import shmcache
from shmcache.errors import NotAuthorized, ProtocolError
from tests.pubsub.test_failures import hub_stats
from tests.replication.pairs import primary, replica
from tests.security.conftest import Keys, make_keys
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.wire import wire


@pytest.fixture(scope="module")
def carrying(keys: Keys) -> Iterator[RunningInstance]:
    """An instance with channels and CURVE at its loopback address."""
    with running_instance(curve="on", channels=True, channel_replay_messages=10, **keys.of_server) as found:
        yield found


def test_those_with_keys_publish_and_subscribe_by_tcp(carrying: RunningInstance, keys: Keys) -> None:
    """Sync and asyncio over CURVE, with replay, and together with those on the host."""
    with (
        shmcache.connect(carrying.tcp, **keys.of_client()) as remote,
        shmcache.connect(carrying.url) as local,
        remote.pubsub(True) as far,
        local.pubsub(True) as near,
    ):
        remote.publish("secret", "early")
        for subscriber in (far, near):
            subscriber.subscribe("secret", replay=5)
            assert subscriber.get_message(timeout=5)["data"] == b"early"
        assert remote.publish("secret", "one") == 2
        assert local.publish("secret", "two") == 2
        for subscriber in (far, near):
            assert [subscriber.get_message(timeout=5)["data"] for _ in range(2)] == [b"one", b"two"]

    async def by_asyncio() -> bytes:
        async with shmcache.aio.connect(carrying.tcp, **keys.of_client()) as cache, cache.pubsub(True) as subscriber:
            await subscriber.subscribe("secret")
            assert await cache.publish("secret", "three") == 1
            return (await subscriber.get_message(timeout=5))["data"]

    assert asyncio.run(by_asyncio()) == b"three"


@pytest.mark.parametrize("as_who", ["plain", "stranger"])
def test_others_get_no_message(carrying: RunningInstance, keys: Keys, as_who: str) -> None:
    """A SUB without keys, and one with keys that are not on the list, hear nothing of what is published."""
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        if as_who == "stranger":
            from shmcache.client.access import find_access

            access = find_access(carrying.tcp, {}, keys.of_client("stranger"), {})
            assert access is not None
            access.secure(socket)
        socket.connect(carrying.snapshot().hub_endpoints[3])
        socket.subscribe(b"")
        before = hub_stats(carrying)["handshakes_failed"]
        wait_until(lambda: hub_stats(carrying)["handshakes_failed"] > before, what="the handshake fails")
        with shmcache.connect(carrying.url) as local:
            assert local.publish("overheard", "x") == 0
        assert not socket.poll(300)
    finally:
        context.destroy(linger=0)
    if as_who == "stranger":
        assert hub_stats(carrying)["denied"] >= 1
        with pytest.raises(NotAuthorized):
            shmcache.connect(carrying.tcp, **keys.of_client("stranger")).publish("overheard", "x")


def test_upstreams_are_set_from_the_host_only() -> None:
    """By tcp the call tells, but changes nothing: else anyone could carry the channels off."""
    with running_instance(channels=True) as instance:
        control, _, remote, _ = instance.snapshot().hub_endpoints
        with wire(remote) as connection:
            assert connection.control("upstream")["endpoints"] == []
            refused = connection.control("upstream", endpoints=["tcp://127.0.0.1:1"])
            assert isinstance(refused, ProtocolError)
            assert "from this host only" in str(refused)
        assert hub_stats(instance)["upstream"]["endpoints"] == []
        with wire(control) as connection:
            assert connection.control("upstream", endpoints=["tcp://127.0.0.1:1"])["endpoints"] == ["tcp://127.0.0.1:1"]


def test_upstream_without_a_key_is_refused_and_told(carrying: RunningInstance) -> None:
    """An instance that has no key of that peer says so, and goes on as it was."""
    with wire(carrying.snapshot().hub_endpoints[0]) as connection:
        assert "peer_keys" in str(connection.control("upstream", endpoints=["tcp://10.9.8.7:1"]))
        assert connection.control("upstream")["endpoints"] == []


def test_replicas_hub_joins_its_primarys_with_keys(tmp_path: Path) -> None:
    """Every way in is secured; the replica's channels are its primary's, by the same keys as its data."""
    keys = make_keys(tmp_path / "keys")
    shmcache.protocol.curve.authorize(keys.authorized, keys.public("server").encode(), "server")
    options = {"curve": "on", "peer_keys": keys.public("server"), "channels": True, **keys.of_server}
    with primary(**options) as one, replica(one, **options) as two:
        wait_until(lambda: hub_stats(two)["upstream"]["up"], what="the hub joins its upstream")
        with (
            shmcache.connect(one.url) as above,
            shmcache.connect(two.url) as below,
            above.pubsub(True) as up,
            below.pubsub(True) as down,
        ):
            up.subscribe("news")
            down.subscribe("news")
            below.publish("news", "from below")
            above.publish("news", "from above")
            for subscriber in (up, down):
                got = {subscriber.get_message(timeout=5)["data"] for _ in range(2)}
                assert got == {b"from below", b"from above"}


def test_hub_and_router_are_secured_alike(keys: Keys) -> None:
    """A hub that its router's clients could not talk to is refused at the start."""
    options = {"channels": True, "channels_listen": "tcp://0.0.0.0:0", **keys.of_server}
    with pytest.raises(AssertionError, match="channels_listen: CURVE there"), running_instance(**options):
        pass
