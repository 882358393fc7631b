"""A worker that stays down: what the host's processes still can do."""

import os
import signal
import time

import pytest

import shmcache
from shmcache.errors import ShmcacheError
from tests.support.instance import RunningInstance, running_instance, wait_until

KEYS = 1000
DOWN_S = 2.0
GAP_S_MAX = 0.5
"""Longest time between two answers that a busy machine is granted; it is printed."""


def value_of(number: int) -> bytes:
    return b"%d" % number * 8


def kill_for_good(instance: RunningInstance, shard: int) -> None:
    """`kill -9` a worker whose supervisor is stopped, so that no other comes."""
    pid = instance.worker_pid(shard)
    os.kill(pid, signal.SIGKILL)
    with open(f"/proc/{pid}/stat", "rb") as stat:
        wait_until(lambda: (stat.seek(0), b") Z " in stat.read())[1], what="dead")


def longest_gap(cache: shmcache.Client, seconds: float) -> tuple[int, float]:
    """Read all keys over and over; returns the number of reads and the longest time between two answers."""
    reads, gap_s = 0, 0.0
    answered = started = time.perf_counter()
    while answered - started < seconds:
        for number in range(KEYS):
            assert cache.get(b"k%d" % number) == value_of(number)
            now = time.perf_counter()
            gap_s, answered = max(gap_s, now - answered), now
        reads += KEYS
    return reads, gap_s


def test_local_reads_go_on_while_workers_are_down() -> None:
    """With all workers dead for seconds, every key is read as before; a write fails within its timeout, and
    succeeds once the supervisor goes on.
    """
    with running_instance(workers=2) as instance, shmcache.connect(instance.url) as cache:
        cache.mset({b"k%d" % number: value_of(number) for number in range(KEYS)})
        os.kill(instance.pid, signal.SIGSTOP)
        try:
            for shard in range(2):
                kill_for_good(instance, shard)
            reads, gap_s = longest_gap(cache, DOWN_S)
            with pytest.raises(ShmcacheError):
                cache.set(b"k0", b"new", timeout=0.2)
        finally:
            os.kill(instance.pid, signal.SIGCONT)
        assert cache.set(b"k1", b"new") is True
        assert cache.get(b"k1") == b"new"
    print(f"{reads:,} reads in {DOWN_S:g} s without workers, longest gap {gap_s * 1000:.2f} ms")
    assert reads > 10_000
    assert gap_s < GAP_S_MAX


def test_reader_that_starts_while_workers_are_down() -> None:
    """A client that connects when there is no worker reads all the same."""
    with running_instance(workers=1) as instance:
        with shmcache.connect(instance.url) as cache:
            cache.set(b"k", b"v")
        os.kill(instance.pid, signal.SIGSTOP)
        try:
            kill_for_good(instance, 0)
            with shmcache.connect(instance.url) as cache:
                assert cache.get(b"k") == b"v"
                assert cache.get(b"nosuch") is None
        finally:
            os.kill(instance.pid, signal.SIGCONT)
