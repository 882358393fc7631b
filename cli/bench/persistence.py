"""Snapshots, restarts and the append-only file against Redis, in the same run and on the same disk: one worker against one Redis."""

import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from . import acked
from .durable_servers import OurServer, RedisServer
from .peers import PeerMissing, program
from .region import VALUE, key_of
from .suite import Row, missing
from .timing import Percentiles, percentiles

SECONDS = 5.0
KEYS_FOR_FIGURES = 100_000
"""With fewer keys it is a try, and each part takes a tenth of the time."""
CONNECTIONS = 50
ROUNDS = 3
"""Of what is compared in turns."""
LOOK_S = 0.02


def run(keys: int) -> list[Row]:
    """`keys` keys of 16 bytes with values of 64."""
    seconds = SECONDS if keys >= KEYS_FOR_FIGURES else SECONDS / 10
    return [*_snapshots(keys, seconds), *_throughput(min(keys, 100_000), seconds), *_acknowledged(seconds)]


# --- snapshots and restarts -----------------------------------------------------------------------------
class Measured:
    """Of one of the two."""

    save_s = restore_s = restore_all_s = warm_s = killed_s = 0.0
    calm: Percentiles
    during: Percentiles
    extra_bytes = region_bytes = 0


def _snapshots(keys: int, seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        mine = _our_snapshots(Path(folder), keys, seconds)
    try:
        with tempfile.TemporaryDirectory() as folder:
            theirs = _redis_snapshots(Path(folder), keys, seconds)
    except PeerMissing as reason:
        return [*_snapshot_rows(mine, None), missing("snapshot", "Redis", str(reason))]
    return _snapshot_rows(mine, theirs)


def _our_snapshots(folder: Path, keys: int, seconds: float) -> Measured:
    found = Measured()
    data = folder / "data"
    data.mkdir()
    with OurServer(data, keys) as server:
        server.start()
        with closing(server.generator(keys)) as generator:
            generator.fill()
        found.save_s = _seconds(server.save)
        found.calm = _sets(server.client, keys, lambda elapsed: elapsed > seconds)
        before, most = server.own_bytes(), 0
        saving = threading.Thread(target=server.save)
        looking = time.monotonic()

        def over(_elapsed: float) -> bool:
            nonlocal most, looking
            if time.monotonic() - looking > LOOK_S:
                looking, most = time.monotonic(), max(most, server.own_bytes())
            return not saving.is_alive()

        saving.start()
        found.during = _sets(server.client, keys, over)
        saving.join()
        found.extra_bytes = max(0, most - before)
        found.region_bytes = server.region_bytes()
        server.stop()
        found.warm_s = server.start()
        server.stop(kill=True)
        found.killed_s = server.start()
        server.stop()
        server.forget()
        found.restore_s = server.start()
        assert server.client.dbsize() == keys
        server.stop()
        server.forget()
        server.options["workers"] = len(os.sched_getaffinity(0))
        # DBSIZE is answered when all of them have everything.
        found.restore_all_s = _seconds(lambda: (server.start(), server.client.dbsize()))
        assert server.client.dbsize() == keys
    return found


def _redis_snapshots(folder: Path, keys: int, seconds: float) -> Measured:
    found = Measured()
    with RedisServer(folder) as server:
        server.start()
        with closing(server.generator(keys)) as generator:
            generator.fill()
        found.save_s = _seconds(server.save)
        found.calm = _sets(server.client, keys, lambda elapsed: elapsed > seconds)
        saving = threading.Thread(target=server.save)
        saving.start()
        found.during = _sets(server.client, keys, lambda _elapsed: not saving.is_alive())
        saving.join()
        found.extra_bytes = server.copied_bytes()
        server.stop()
        found.restore_s = found.restore_all_s = server.start()
        assert server.client.dbsize() == keys
    return found


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _sets(client: Any, keys: int, is_over: Callable[[float], bool]) -> Percentiles:
    """Single SETs of different keys, until `is_over(elapsed)`."""
    clock = time.perf_counter_ns
    began, number, times = time.perf_counter(), 0, []
    while number % 10 or not is_over(time.perf_counter() - began):
        key = key_of(number * 7919 % keys)
        start = clock()
        client.set(key, VALUE)
        times.append(clock() - start)
        number += 1
    return percentiles(times)


def _snapshot_rows(ours: Measured, redis: Measured | None) -> list[Row]:
    def row(work: str, unit: str, target: str, value: Callable[[Measured], float], note: str = "", peer: Callable[[Measured], float] | None = None) -> Row:
        mine, theirs = value(ours), (peer or value)(redis) if redis else None
        ratio = theirs / mine if theirs and mine else None
        return Row(work, round(mine, 3), unit, target, "Redis", theirs, ratio, note=note)

    def slower(found: Measured) -> float:
        return found.during.p99_us / found.calm.p99_us

    p99 = f"p99 {ours.calm.p99_us:.0f} -> {ours.during.p99_us:.0f} us" + (
        f"; Redis {redis.calm.p99_us:.0f} -> {redis.during.p99_us:.0f} us" if redis else ""
    )
    size = f"{ours.region_bytes / (1 << 30):.2f} GB of regions"
    loading = "Redis loads its RDB"
    return [
        row("snapshot", "s", "faster than BGSAVE", lambda m: m.save_s),
        row("p99 of SET during it / without", "ratio", "<= 2", slower, p99),
        row("extra memory during it, with writes", "MB", "<= 64", lambda m: m.extra_bytes / 1e6, "Redis: copied pages"),
        row("restore: process start to first answer", "s", "faster than Redis", lambda m: m.restore_s),
        row("the same with a worker for each core", "s", "faster than Redis", lambda m: m.restore_all_s, "from files of one worker, until all have all"),
        row("warm restart after a stop, to first GET and SET", "s", "<= 1", lambda m: m.warm_s, f"{size}; {loading}", lambda m: m.restore_s),
        row("warm restart after kill -9, to first GET and SET", "s", "<= 1", lambda m: m.killed_s, f"{size}; {loading}", lambda m: m.restore_s),
    ]  # fmt: skip


# --- the append-only file -------------------------------------------------------------------------------
def _throughput(keys: int, seconds: float) -> list[Row]:
    """Batches of SETs without and with `aof everysec`, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        servers = []
        for aof in ("off", "everysec"):
            data = Path(folder, aof)
            data.mkdir()
            servers.append(OurServer(data, keys, f"-{aof}", aof=aof))
        rates: dict[int, list[float]] = {0: [], 1: []}
        with servers[0], servers[1]:
            for server in servers:
                server.start()
            with closing(servers[0].generator(keys)) as off, closing(servers[1].generator(keys)) as on:
                for _ in range(ROUNDS):
                    for number, generator in enumerate((off, on)):
                        rates[number].append(_rate(generator, seconds))
            overtaken = servers[1].keeper("status")["overtaken"]
    ratio = median(with_log / without for without, with_log in zip(*rates.values(), strict=True))
    note = f"batches of 100; the log fell behind {overtaken} times"
    return [Row("SETs/s with aof everysec / off", round(ratio, 3), "ratio", ">= 0.9", "off", median(rates[0]), ratio, note=f"{median(rates[1]):,.0f}/s; {note}")]


def _rate(generator: Any, seconds: float) -> float:
    began, number = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        generator.write(number)
        number += 1
    generator.settle()
    return number * 100 / (time.perf_counter() - began)


def _acknowledged(seconds: float) -> list[Row]:
    """SETs that are answered when they are on the disk, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "ours")
        data.mkdir()
        mine: list[acked.Acked] = []
        theirs: list[acked.Acked] = []
        bench = 0.0
        with OurServer(data, 1000, "-always", aof="always") as server:
            server.start()
            try:
                with RedisServer(Path(folder), "--appendonly", "yes", "--appendfsync", "always") as redis:
                    redis.start()
                    for _ in range(ROUNDS):
                        mine.append(acked.ours(server.endpoint, CONNECTIONS, seconds))
                        theirs.append(acked.redis(redis.path, CONNECTIONS, seconds))
                    bench = _redis_benchmark(redis.path, int(theirs[0].per_s * seconds))
            except PeerMissing as reason:
                if not mine:
                    mine.append(acked.ours(server.endpoint, CONNECTIONS, seconds))
                return [_acked_row(mine, theirs, ""), missing("acknowledged SETs", "Redis", str(reason))]
    return [_acked_row(mine, theirs, f"redis-benchmark -c {CONNECTIONS}: {bench:,.0f}/s")]


def _acked_row(mine: list[acked.Acked], theirs: list[acked.Acked], note: str) -> Row:
    best = sorted(mine, key=lambda found: found.per_s)[len(mine) // 2]
    peer = median(found.per_s for found in theirs) if theirs else None
    ratio = median(a.per_s / b.per_s for a, b in zip(mine, theirs, strict=True)) if theirs else None
    times = best.times
    if theirs:
        note += f"; Redis p99 {median(found.times.p99_us for found in theirs):,.0f} us; ratios " + " ".join(
            f"{a.per_s / b.per_s:.2f}" for a, b in zip(mine, theirs, strict=True)
        )
    return Row(
        f"acknowledged SETs/s, aof always, {CONNECTIONS} clients", round(best.per_s), "per s", ">= Redis", "Redis always", peer, ratio,
        times.p50_us, times.p99_us, times.p999_us, note,
    )  # fmt: skip


def _redis_benchmark(path: str, requests: int) -> float:
    words = ["-s", path, "-c", str(CONNECTIONS), "-n", str(max(1000, requests)), "-t", "set", "-d", "64", "-r", "1000", "-q"]
    output = subprocess.run([program("redis-benchmark"), *words], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"([\d.]+) requests per second", output)
    return float(found[-1]) if found else 0.0
