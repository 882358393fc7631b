"""A primary and its replica on this host against a Redis pair, in the same run: what a replica follows, how far behind it is, what an
acknowledgement costs, how long a full copy takes.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from .peers import PeerMissing, redis_server
from .region import VALUE, key_of
from .suite import Row, missing
from .timing import percentiles

BATCH = 100
SECONDS = 5.0
KEYS_FOR_FIGURES = 100_000
"""With fewer keys it is a try, and each part takes a tenth of the time."""
PACED_PER_S = 100_000
ACK_CALLS = 1_000


class Pair:
    """One system: a client of the primary, one of the replica, how to wait for the replica, and how to write acknowledged."""

    def __init__(self, name: str, primary: Any, replica: Any, write_acknowledged: Callable[[bytes], Any]) -> None:
        self.name, self.primary, self.replica, self.write_acknowledged = name, primary, replica, write_acknowledged

    def batch(self, start: int, keys: int) -> None:
        pipe = self.primary.pipeline(transaction=False)
        for n in range(start, start + BATCH):
            pipe.set(key_of(n % keys), VALUE)
        pipe.execute()

    def wait_for(self, mark: bytes) -> None:
        """Until the replica has the mark, which was written after everything else."""
        while self.replica.get("mark") != mark:
            time.sleep(0.0005)


def run(keys: int) -> list[Row]:
    """`keys` different keys; each measurement takes some seconds."""
    import shmcache

    from . import temporary

    measured: dict[str, dict[str, Any]] = {}
    options = {"memory": "1GB", "workers": 1, "pin": "false", "channels": "false"}
    with temporary.instance(listen="tcp://127.0.0.1:0", relay_listen="tcp://127.0.0.1:0", log_size="64MB", **options) as name:
        with shmcache.connect(f"shm://{name}") as primary:
            alone = _rate(Pair("alone", primary, primary, primary.get), keys)
            router = next(e for e in _snapshot(name).router_endpoints if e.startswith("tcp:"))
            begun = time.perf_counter()
            with (
                temporary.instance(name=f"{name}-replica", replica_of=router, log_size="64MB", **options) as second,
                shmcache.connect(f"shm://{second}") as replica,
            ):
                while replica.dbsize() < primary.dbsize():
                    time.sleep(0.005)
                copied_s = time.perf_counter() - begun
                acked = primary.with_options(ack=1, ack_timeout=5)
                measured["ours"] = _measure(Pair("ours", primary, replica, lambda key: acked.set(key, VALUE)), keys)
                measured["ours"] |= {"alone": alone, "copy_s": copied_s}
    try:
        with redis_pair(keys) as (pair, theirs_alone, theirs_copied_s):
            measured["redis"] = _measure(pair, keys) | {"alone": theirs_alone, "copy_s": theirs_copied_s}
    except PeerMissing as reason:
        return [*_rows(measured["ours"], None), missing("replication", "Redis pair", str(reason))]
    return _rows(measured["ours"], measured["redis"])


def _snapshot(name: str) -> Any:
    from shmcache.protocol.directory import Directory

    directory = Directory.open(name)
    try:
        return directory.snapshot()
    finally:
        directory.close()


@contextlib.contextmanager
def redis_pair(keys: int) -> Iterator[tuple[Pair, float, float]]:
    """Two redis-servers, the second a replica of the first once that has been filled: the pair, the first one's rate alone, and the time of the copy."""
    with redis_server("127.0.0.1") as (primary, _), redis_server("127.0.0.1") as (replica, _):
        alone = _rate(Pair("alone", primary, primary, primary.get), keys)
        begun = time.perf_counter()
        replica.replicaof("127.0.0.1", primary.info("server")["tcp_port"])
        while replica.dbsize() < primary.dbsize():
            time.sleep(0.005)
        copied_s = time.perf_counter() - begun

        def write(key: bytes) -> None:
            primary.set(key, VALUE)
            primary.wait(1, 5000)

        yield Pair("redis", primary, replica, write), alone, copied_s


def _seconds(keys: int) -> float:
    return SECONDS if keys >= KEYS_FOR_FIGURES else SECONDS / 10


def _rate(pair: Pair, keys: int) -> float:
    """SETs per second of one client in batches, the replica's last one included."""
    done, begun, seconds = 0, time.perf_counter(), _seconds(keys)
    while time.perf_counter() - begun < seconds:
        pair.batch(done, keys)
        done += BATCH
    mark = b"rate%d" % done
    pair.primary.set("mark", mark)
    pair.wait_for(mark)
    return done / (time.perf_counter() - begun)


def _measure(pair: Pair, keys: int) -> dict[str, Any]:
    followed = _rate(pair, keys)
    lags = []
    begun = time.perf_counter()
    done, seconds = 0, _seconds(keys)
    while (elapsed := time.perf_counter() - begun) < seconds:
        while done < elapsed * PACED_PER_S and time.perf_counter() - begun < seconds:
            pair.batch(done, keys)
            done += BATCH
        mark = b"lag%d" % done
        pair.primary.set("mark", mark)
        written = time.perf_counter_ns()
        while pair.replica.get("mark") != mark:
            pass
        lags.append(time.perf_counter_ns() - written)
    acks = []
    for n in range(ACK_CALLS):
        start = time.perf_counter_ns()
        pair.write_acknowledged(key_of(n))
        acks.append(time.perf_counter_ns() - start)
    return {"followed": followed, "lag": percentiles(lags), "paced": done / seconds, "ack": percentiles(acks)}


def _rows(ours: dict[str, Any], redis: dict[str, Any] | None) -> list[Row]:
    def row(work: str, unit: str, target: str, value: Callable[[dict[str, Any]], float], *, more_is_better: bool, note: str = "") -> Row:
        mine = value(ours)
        theirs = value(redis) if redis else None
        ratio = None if theirs is None else (mine / theirs if more_is_better else theirs / mine)
        return Row(work, round(mine, 3), unit, target, "Redis pair", theirs, ratio, note=note)

    paced = f"{ours['paced']:,.0f} SET/s reached"
    return [
        row("effects/s that the replica follows", "per s", ">= 300,000, >= Redis", lambda m: m["followed"], more_is_better=True, note="one client, batches of 100"),
        row("primary with a replica / without", "ratio", ">= 0.9", lambda m: m["followed"] / m["alone"], more_is_better=True, note="all on the same cores"),
        row(f"lag at {PACED_PER_S:,} SET/s, p50", "us", "", lambda m: m["lag"].p50_us, more_is_better=False, note=paced),
        row(f"lag at {PACED_PER_S:,} SET/s, p99", "us", "<= 5,000", lambda m: m["lag"].p99_us, more_is_better=False, note=paced),
        row("SET with ack=1, p50", "us", "<= 250, Redis SET + WAIT 1", lambda m: m["ack"].p50_us, more_is_better=False),
        row("SET with ack=1, p99", "us", "", lambda m: m["ack"].p99_us, more_is_better=False),
        row("start of the replica and full copy", "s", "Redis: REPLICAOF", lambda m: m["copy_s"], more_is_better=False, note="ours includes starting the instance"),
    ]
