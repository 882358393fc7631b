"""A relay that dies comes back as a process that has forgotten its followers."""

import os
import signal

import shmcache
from cli.replication import relay_call
from shmcache.errors import ShmcacheError
from tests.replication.pairs import pair, relay_pid, status, wait_caught_up, wait_equal
from tests.support.instance import RunningInstance, wait_until


def relay_pid_or_none(instance: RunningInstance) -> int | None:
    try:
        return relay_pid(instance)
    except ShmcacheError:
        return None


def test_acknowledgements_count_again_after_the_primarys_relay_was_killed():
    """The replica goes on hearing the logs of the same history: nothing but the answer to its acknowledgement tells it."""
    with pair() as (one, two), shmcache.connect(one.url, ack=1, ack_timeout=5, timeout=10) as client:
        client.set("k", 1)
        old = relay_pid(one)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: relay_pid_or_none(one) not in (None, old), 10, "a new relay")
        client.set("k", 2)
        (row,) = status(one)["replicas"]
        assert row["connected"], row
        assert status(two)["links"][0]["caught_up"]


def test_a_former_primary_that_lost_nothing_does_not_count_losses_when_its_relay_begins_anew():
    """What it applied since the hand-over lies behind the fork in its own log: that is no write of its own."""
    with pair({"ephemeral": False}, {"relay_listen": "tcp://127.0.0.1:0"}) as (one, two), shmcache.connect(one.url) as client:
        client.set("k", 1)
        wait_caught_up(two)
        relay_call(one.name, "switchover", {"to": two.name}, 20)
        wait_caught_up(one)
        with shmcache.connect(two.url, ack=1, ack_timeout=5) as at_primary:
            for n in range(50):
                at_primary.set(f"k{n}", n)
            # At once: the relay notes now and then only how far it has come.
            old = relay_pid(one)
            os.kill(old, signal.SIGKILL)
            wait_until(lambda: relay_pid_or_none(one) not in (None, old), 10, "a new relay")
            wait_caught_up(one)
        wait_equal(one, two)
        assert status(one)["lost_writes"] == 0
        assert "never replicated" not in one.log()
        assert "full copy" not in one.log()
