"""A primary and its replica against a Redis pair, in the same run: what a replica follows, how far behind it is, what an acknowledgement
costs, how long a full copy takes and what it costs others. Between two network namespaces where that is possible (as root).
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .generator import BATCH, Generator, OurGenerator, RedisGenerator
from .peers import PeerMissing, redis_server
from .region import VALUE, key_of
from .suite import Row, missing
from .timing import Percentiles, percentiles
from .two_hosts import Host, two_hosts

SECONDS = 5.0
KEYS_FOR_FIGURES = 100_000
"""With fewer keys it is a try, and each part takes a tenth of the time."""
PACED_PER_S = 100_000
ACK_CALLS = 2_000
AHEAD_BATCHES = 1_000
"""So far may the writer be ahead of the replica: a rate that is followed for ever is one at which the replica does not fall back."""
MARK_EVERY = 50
COPY_S_MAX = 600.0


@dataclass
class Pair:
    """One system: a client of the primary, one of the replica, a generator, and how to write acknowledged and to begin to replicate."""

    primary: Any
    replica: Any
    generator: Generator
    write_acknowledged: Callable[[bytes], Any]
    begin: Callable[[], Any]
    keys: int

    @property
    def seconds(self) -> float:
        return SECONDS if self.keys >= KEYS_FOR_FIGURES else SECONDS / 10


@dataclass
class Measured:
    alone: float = 0.0
    followed: float = 0.0
    paced: float = 0.0
    copy_s: float = 0.0
    lag: Percentiles | None = None
    ack: Percentiles | None = None
    get: list[Percentiles] = field(default_factory=list)
    """Before and during a full copy."""
    set: list[Percentiles] = field(default_factory=list)


def run(keys: int) -> list[Row]:
    """`keys` different keys of 16 bytes with values of 64; each measurement takes some seconds."""
    with two_hosts() as (here, there, joined):
        with _our_pair(keys, here, there) as pair:
            ours = _measure(pair)
        try:
            with _redis_pair(keys, here, there) as pair:
                theirs = _measure(pair)
        except PeerMissing as reason:
            return [*_rows(ours, None, joined, keys), missing("replication", "Redis pair", str(reason))]
        return _rows(ours, theirs, joined, keys)


@contextlib.contextmanager
def _our_pair(keys: int, here: Host, there: Host) -> Iterator[Pair]:
    import shmcache
    from shmcache.protocol.directory import Directory

    from ..replication import relay_call
    from . import temporary

    options = {"memory": keys * 192 + (64 << 20), "workers": 1, "pin": "false", "channels": "false", "log_size": "64MB", "curve": "off"}

    def listening(host: Host) -> dict[str, Any]:
        return {"listen": f"tcp://{host.address}:0", "relay_listen": f"tcp://{host.address}:0", "prefix": host.prefix}

    with (
        temporary.instance(**options, **listening(here)) as name,
        temporary.instance(name=f"{name}-replica", **options, **listening(there)) as second,
        shmcache.connect(f"shm://{name}", timeout=30) as primary,
        shmcache.connect(f"shm://{second}", timeout=30) as replica,
    ):
        directory = Directory.open(name)
        snapshot = directory.snapshot()
        directory.close()
        router = next(endpoint for endpoint in snapshot.router_endpoints if endpoint.startswith("tcp:"))
        acked = primary.with_options(ack=1, ack_timeout=5)
        with contextlib.closing(OurGenerator(snapshot.shards[0].endpoints[0], keys)) as generator:
            yield Pair(
                primary,
                replica,
                generator,
                lambda key: acked.set(key, VALUE),
                lambda: relay_call(second, "replicate", {"primary": router}, 30, start=True),
                keys,
            )


@contextlib.contextmanager
def _redis_pair(keys: int, here: Host, there: Host) -> Iterator[Pair]:
    with redis_server(here.address, here.prefix) as (primary, path), redis_server(there.address, there.prefix) as (replica, _):

        def write(key: bytes) -> None:
            primary.set(key, VALUE)
            primary.wait(1, 5000)

        def begin() -> None:
            replica.replicaof(here.address, primary.info("server")["tcp_port"])

        with contextlib.closing(RedisGenerator(str(path), keys)) as generator:
            yield Pair(primary, replica, generator, write, begin, keys)


def _measure(pair: Pair) -> Measured:
    found = Measured()
    pair.generator.fill()
    found.alone = _rate(pair, pair.primary)
    for copying in (False, True):
        found.copy_s, get, set_ = _use(pair, copying=copying)
        found.get.append(get)
        found.set.append(set_)
    found.followed = _rate(pair, pair.replica)
    found.lag, found.paced = _lag(pair)
    acks = []
    for n in range(ACK_CALLS):
        start = time.perf_counter_ns()
        pair.write_acknowledged(key_of(n))
        acks.append(time.perf_counter_ns() - start)
    found.ack = percentiles(acks)
    return found


def _rate(pair: Pair, reader: Any) -> float:
    """SETs per second that can be read at `reader`, with a writer that never gets far ahead of it."""
    number, seen, begun = 0, 0, time.perf_counter()
    while time.perf_counter() - begun < pair.seconds:
        pair.generator.write(number)
        number += 1
        if number % MARK_EVERY == 0:
            pair.generator.settle()
            pair.primary.set("mark", number)
            while (seen := int(reader.get("mark") or 0)) < number - AHEAD_BATCHES:
                time.sleep(0.0005)
    pair.generator.settle()
    pair.primary.set("mark", number)
    while seen < number:
        seen = int(reader.get("mark") or 0)
        time.sleep(0.0002)
    rate = number * BATCH / (time.perf_counter() - begun)
    pair.primary.set("mark", 0)
    while int(reader.get("mark") or 0):
        time.sleep(0.0005)
    return rate


def _use(pair: Pair, *, copying: bool) -> tuple[float, Percentiles, Percentiles]:
    """GETs and SETs at the primary, one after another, for some seconds or while the replica gets its full copy: seconds, times."""
    gets, sets = [], []
    clock = time.perf_counter_ns
    started = time.perf_counter()
    if copying:
        pair.begin()
    number = 0
    while True:
        key = key_of(number % pair.keys)
        start = clock()
        pair.primary.get(key)
        between = clock()
        pair.primary.set(key, VALUE)
        sets.append(clock() - between)
        gets.append(between - start)
        number += 1
        if number % 50 == 0:
            elapsed = time.perf_counter() - started
            if elapsed > COPY_S_MAX:
                raise TimeoutError(f"the replica has not all keys after {COPY_S_MAX} s")
            if _has_all(pair) if copying else elapsed > pair.seconds:
                return elapsed, percentiles(gets), percentiles(sets)


def _has_all(pair: Pair) -> bool:
    try:
        return bool(pair.replica.dbsize() >= pair.keys)
    except Exception as error:
        # By name: redis-py is not a dependency of the package. A replica of Redis that has its copy, and reads it, says so.
        if type(error).__name__ != "BusyLoadingError":
            raise
        return False


def _lag(pair: Pair) -> tuple[Percentiles, float]:
    """From the answer to a write until it can be read at the replica, while writes come at PACED_PER_S; and the rate reached."""
    lags = []
    done, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < pair.seconds:
        while done * BATCH < elapsed * PACED_PER_S and time.perf_counter() - begun < pair.seconds:
            pair.generator.write(done)
            done += 1
        pair.generator.settle()
        mark = b"lag%d" % done
        pair.primary.set("mark", mark)
        written = time.perf_counter_ns()
        while pair.replica.get("mark") != mark:
            # Without a pause, yet without keeping a core from the replica: reads of shared memory never wait by themselves.
            os.sched_yield()
        lags.append(time.perf_counter_ns() - written)
    return percentiles(lags), done * BATCH / pair.seconds


def _rows(ours: Measured, redis: Measured | None, joined: str, keys: int) -> list[Row]:
    def row(work: str, unit: str, target: str, value: Callable[[Measured], float], *, more_is_better: bool, note: str = "") -> Row:
        mine = value(ours)
        theirs = value(redis) if redis else None
        ratio = None if not theirs or not mine else (mine / theirs if more_is_better else theirs / mine)
        return Row(work, round(mine, 3), unit, target, "Redis pair", theirs, ratio, note=note)

    def during(times: list[Percentiles]) -> float:
        return times[1].p99_us / times[0].p99_us

    paced = f"{ours.paced:,.0f} SET/s reached"
    calm = f"before it {ours.get[0].p99_us:.1f} and {ours.set[0].p99_us:.0f} us"
    return [
        row("effects/s that the replica follows", "per s", ">= 300,000, >= Redis", lambda m: m.followed, more_is_better=True, note=joined),
        row("primary with a replica / without", "ratio", ">= 0.9", lambda m: m.followed / m.alone, more_is_better=True, note="all on the same cores"),
        row(f"lag at {PACED_PER_S:,} SET/s, p50", "us", "", lambda m: m.lag.p50_us, more_is_better=False, note=paced),
        row(f"lag at {PACED_PER_S:,} SET/s, p99", "us", "<= 5,000", lambda m: m.lag.p99_us, more_is_better=False, note=paced),
        row("SET with ack=1, p50", "us", "<= 250, Redis SET + WAIT 1", lambda m: m.ack.p50_us, more_is_better=False),
        row("SET with ack=1, p99", "us", "", lambda m: m.ack.p99_us, more_is_better=False),
        row("full copy while the primary serves", "s", "<= Redis", lambda m: m.copy_s, more_is_better=False, note=f"{keys * 80 / 1e6:,.0f} MB of keys and values"),
        row("GET at the primary during it, p99", "us", "as before it", lambda m: m.get[1].p99_us, more_is_better=False, note=calm),
        row("the same, against before it", "ratio", "1", lambda m: during(m.get), more_is_better=False),
        row("SET during it against before, p99", "ratio", "<= 2", lambda m: during(m.set), more_is_better=False),
    ]  # fmt: skip
