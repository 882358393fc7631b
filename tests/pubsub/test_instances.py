"""Channels over several instances: up to the primary, down to the replicas, no loops."""

from collections.abc import Iterator

import pytest

import shmcache
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.wire import wire

from .conftest import messages, nothing
from .test_failures import hub_stats


def joined(instance: RunningInstance) -> None:
    wait_until(lambda: hub_stats(instance)["upstream"]["up"], what="the hub joins its upstream")


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[RunningInstance, RunningInstance]]:
    """A primary and a replica whose hub is joined to it."""
    with (
        running_instance(channels=True) as primary,
        running_instance(channels=True, channels_upstream=primary.tcp) as replica,
    ):
        joined(replica)
        yield primary, replica


def test_messages_reach_both_instances(pair: tuple[RunningInstance, RunningInstance]) -> None:
    """Published on either, a message comes once to subscribers of both, whether by name or by pattern."""
    primary, replica = pair
    with shmcache.connect(primary.url) as above, shmcache.connect(replica.url) as below:
        subscribers = [client.pubsub(True) for client in (above, below)]
        for subscriber in subscribers:
            subscriber.subscribe("both")
            subscriber.psubscribe("bo*")
        for turn, client in enumerate((above, below, above, below)):
            client.publish("both", str(turn))
            for subscriber in subscribers:
                got = messages(subscriber, 2)
                assert {m["type"] for m in got} == {"message", "pmessage"}
                assert {m["data"] for m in got} == {str(turn).encode()}
        assert all(nothing(subscriber) for subscriber in subscribers)
        for subscriber in subscribers:
            subscriber.close()


def test_subscription_at_the_replica_is_in_force_at_the_primary(
    pair: tuple[RunningInstance, RunningInstance],
) -> None:
    """subscribe() at the replica returns when the primary's next message would come, each time."""
    primary, replica = pair
    with shmcache.connect(primary.url) as above, shmcache.connect(replica.url) as below:
        for turn in range(20):
            with below.pubsub(True) as subscriber:
                subscriber.subscribe(f"force-{turn}")
                assert above.publish(f"force-{turn}", "x") == 1
                assert messages(subscriber, 1)[0]["data"] == b"x"
        wait_until(lambda: above.pubsub_channels("force-*") == [])


def test_order_of_one_publisher_holds_across_instances(pair: tuple[RunningInstance, RunningInstance]) -> None:
    """What one client publishes at the replica comes at the primary in that order."""
    primary, replica = pair
    with (
        shmcache.connect(primary.url) as above,
        shmcache.connect(replica.url) as below,
        above.pubsub(True) as subscriber,
    ):
        subscriber.subscribe("order")
        below.publish_many(("order", str(n)) for n in range(2000))
        assert [m["data"] for m in messages(subscriber, 2000)] == [str(n).encode() for n in range(2000)]


def test_two_way_links_make_no_loop() -> None:
    """Each the other's upstream: every message comes once on both sides."""
    with (
        running_instance(channels=True) as one,
        running_instance(channels=True, channels_upstream=one.tcp) as two,
    ):
        with wire(one.snapshot().hub_endpoints[0]) as connection:
            assert connection.control("upstream", endpoints=[two.tcp])["endpoints"] == [two.tcp]
        joined(one)
        joined(two)
        with shmcache.connect(one.url) as first, shmcache.connect(two.url) as second:
            subscribers = [client.pubsub(True) for client in (first, second)]
            for subscriber in subscribers:
                subscriber.subscribe("loop")
            for n in range(50):
                (first, second)[n % 2].publish("loop", str(n))
            for subscriber in subscribers:
                assert {m["data"] for m in messages(subscriber, 50)} == {str(n).encode() for n in range(50)}
                assert nothing(subscriber)
                subscriber.close()
        assert hub_stats(one)["cut"] > 0


def test_lost_upstream_does_not_stop_the_replica() -> None:
    """Without its upstream a replica's channels go on at home; when it is back, it is joined again."""
    with running_instance(channels=True) as primary:
        with running_instance(channels=True, channels_upstream=primary.tcp) as replica:
            joined(replica)
            primary.stop()
            wait_until(lambda: not hub_stats(replica)["upstream"]["up"], what="the loss is noticed")
            with shmcache.connect(replica.url) as below, below.pubsub(True) as subscriber:
                subscriber.subscribe("home")
                assert below.publish("home", "alone") == 1
                assert messages(subscriber, 1)[0]["data"] == b"alone"
                assert hub_stats(replica)["upstream"]["unforwarded"] >= 1
                primary.start()
                joined(replica)
                with shmcache.connect(primary.url) as above:
                    wait_until(lambda: above.publish("home", "back") == 1)
                assert messages(subscriber, 1)[-1]["data"] == b"back"
