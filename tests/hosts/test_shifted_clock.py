"""A clock jump reaches every process of an instance, and no timeout."""

import os
import subprocess
import sys
import time

import pytest

import shmcache
from tests.support.instance import running_instance
from tests.support.shifted_clock import ShiftedClock
from tests.support.wire import Wire, wire

PROGRAM = """
import datetime, os, subprocess, sys, time
for line in sys.stdin:
    date = float(subprocess.check_output(["date", "+%s.%N"]))
    print(time.time(), datetime.datetime.now().timestamp(), date, time.monotonic(), flush=True)
"""


def server_time(connection: Wire) -> float:
    seconds, microseconds = connection.ask(["TIME"])[0]
    return int(seconds) + int(microseconds) / 1e6


def test_jump_reaches_running_processes():
    """Forward and back, in a Python process and its child; the monotonic clock stays."""
    with ShiftedClock() as clock:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | clock.environment,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            for jump, shift in ((0, 0), (3600.5, 3600.5), (-7200.5, -3600), (3600, 0)):
                clock.jump(jump)
                assert clock.shift_s == shift
                process.stdin.write("\n")
                process.stdin.flush()
                *wall, monotonic = map(float, process.stdout.readline().split())
                assert all(abs(seconds - time.time() - shift) < 1 for seconds in wall)
                assert abs(monotonic - time.monotonic()) < 1


def test_instance_follows_its_clock():
    """TIME shows the jump without a restart; keys live on, one with a deadline expires with the clock."""
    with (
        ShiftedClock() as clock,
        running_instance(environment=clock.environment) as instance,
        wire(instance.tcp) as connection,
    ):
        assert abs(server_time(connection) - time.time()) < 1
        connection.ask(["SET", "stays", b"1"], ["SET", "goes", b"1", "EX", 600])
        clock.jump(-3600)
        assert abs(server_time(connection) - time.time() + 3600) < 1
        assert connection.ask(["GET", "goes"]) == [b"1"]
        clock.jump(3600 + 700)
        assert abs(server_time(connection) - time.time() - 700) < 1
        assert connection.ask(["GET", "goes"], ["GET", "stays"]) == [None, b"1"]


CLIENT = """
import asyncio, sys, time
import shmcache, shmcache.aio
url, true_time, shift = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
assert abs(time.time() - true_time - shift) < 60

async def ask():
    async with shmcache.aio.connect(url, timeout=2) as client:
        await client.set("async", b"2")
        assert await client.get("async") == b"2"

with shmcache.connect(url, timeout=2) as client:
    client.set("sync", b"1")
    assert client.get("sync") == b"1"
    client.mset({"several": b"1", "of": b"2", "them": b"3"})
asyncio.run(ask())
"""


@pytest.mark.parametrize("shift_s", [-3600, 3600], ids=["behind", "ahead"])
@pytest.mark.parametrize("way", ["url", "tcp"])
def test_client_whose_clock_is_wrong(shift_s: int, way: str):
    """It is served in time: its deadline compares no clocks, by ipc as by tcp."""
    with ShiftedClock() as clock, running_instance(workers=2) as instance:
        clock.jump(shift_s)
        subprocess.run(
            [sys.executable, "-c", CLIENT, getattr(instance, way), str(time.time()), str(shift_s)],
            env=os.environ | clock.environment,
            check=True,
            timeout=30,
        )
        with shmcache.connect(instance.url) as client:
            assert client.mget("sync", "async") == [b"1", b"2"]


def test_two_instances_have_two_clocks():
    """Hosts whose clocks disagree."""
    with ShiftedClock() as ahead, running_instance(environment=ahead.environment) as one:
        ahead.jump(60)
        with running_instance() as other, wire(one.tcp) as first, wire(other.tcp) as second:
            assert 59 < server_time(first) - server_time(second) < 61
