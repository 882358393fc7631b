"""Libraries of functions on replicas: those of the primary, also later, after a change of roles and through a chain."""

import os
import signal
from typing import Any

import pytest

import shmcache
from cli.replication import relay_call
from shmcache.errors import ReadOnly
from tests.replication.pairs import pair, primary, relay_pid, replica, role
from tests.replication.test_forwarding import wait_forwarding
from tests.support.instance import RunningInstance, wait_until


def text(name: str, number: int) -> str:
    return f"#!lua name={name}\nredis.register_function{{function_name='{name}', callback=function() return {number} end, flags={{'no-writes'}}}}"


def names(cache: Any) -> list[bytes]:
    return sorted(library[b"library_name"] for library in cache.execute_command("FUNCTION", "LIST"))


def wait_names(instance: RunningInstance, *wanted: bytes) -> None:
    with shmcache.connect(instance.url) as cache:
        wait_until(lambda: names(cache) == sorted(wanted), 10, f"libraries {wanted}")


def test_at_the_greeting_and_later():
    with primary(workers=2) as one, shmcache.connect(one.url) as cache:
        cache.function_load(text("early", 1))
        with replica(one, workers=1) as two, shmcache.connect(two.url) as copy:
            wait_names(two, b"early")
            assert copy.fcall_ro("early", 0) == 1
            cache.function_load(text("late", 2))
            cache.function_load(text("early", 11), replace=True)
            wait_names(two, b"early", b"late")
            wait_until(lambda: copy.fcall_ro("early", 0) == 11, 10, "the new one")
            for words in (("LOAD", text("own", 3)), ("FLUSH",), ("DELETE", "late"), ("RESTORE", b"x")):
                with pytest.raises(ReadOnly, match=r"primary|replica"):
                    copy.execute_command("FUNCTION", *words)
            cache.execute_command("FUNCTION", "DELETE", "early")
            wait_names(two, b"late")
            # A relay that was killed goes on asking.
            os.kill(relay_pid(two), signal.SIGKILL)
            cache.execute_command("FUNCTION", "FLUSH")
            wait_names(two)


def test_a_replica_gives_up_its_own():
    """What it had before it was a replica belongs to data that are gone, too."""
    with primary() as one, primary() as two, shmcache.connect(one.url) as cache, shmcache.connect(two.url) as other:
        cache.function_load(text("theirs", 1))
        other.function_load(text("own", 2))
        relay_call(two.name, "replicate", {"primary": one.tcp})
        wait_names(two, b"theirs")
        assert names(cache) == [b"theirs"]


def test_changes_of_role():
    with pair({"workers": 2}) as (one, two), shmcache.connect(one.url) as cache, shmcache.connect(two.url) as copy:
        cache.function_load(text("kept", 1))
        wait_names(two, b"kept")
        relay_call(one.name, "switchover", {"to": two.name}, 10)
        wait_until(lambda: role(one) == "replica" and role(two) == "primary", 20, "the switch-over")
        wait_until(lambda: two.snapshot().shards[0].state == "serving", 5)
        copy.function_load(text("new", 2))
        wait_names(one, b"kept", b"new")


def test_through_a_chain():
    with primary() as one, replica(one, relay_listen="tcp://127.0.0.1:0") as two, replica(two) as three, shmcache.connect(one.url) as cache:
        cache.function_load(text("far", 7))
        wait_names(three, b"far")
        with shmcache.connect(three.url) as copy:
            assert copy.fcall_ro("far", 0) == 7


def test_a_forwarding_replica():
    """FUNCTION is carried out by the primary, and what it loads comes back."""
    with primary(workers=2) as one, replica(one, forward_writes=True) as two, shmcache.connect(two.url) as copy:
        wait_forwarding(two)
        copy.function_load(text("sent", 5))
        assert names(copy) == [b"sent"]
        wait_until(lambda: (two.folder / f"{two.name}.functions").exists(), 10, "it comes back")
        wait_until(lambda: copy.fcall_ro("sent", 0) == 5, 10, "the function is there")


def test_two_way_peers_keep_their_own():
    with primary(node=1) as one, primary(node=2, peers=one.tcp) as two:
        with shmcache.connect(one.url) as cache, shmcache.connect(two.url) as other:
            cache.function_load(text("ones", 1))
            other.function_load(text("twos", 2))
            wait_until(lambda: cache.set("a", "1") and other.get("a") == b"1", 20, "the data go across")
            assert names(cache) == [b"ones"]
            assert names(other) == [b"twos"]
