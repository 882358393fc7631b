"""A relay that dies comes back as a process that has forgotten its followers."""

import os
import signal

import shmcache
from shmcache.errors import ShmcacheError
from tests.replication.pairs import pair, relay_pid, status
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
