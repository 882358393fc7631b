"""Reads of keys that the owner overwrites without pause: the tail that a lock-free reader sees."""

import multiprocessing
import os
from typing import Any

from shmcache import _engine
from shmcache.protocol.codec import encode_commands

from .region import VALUE, engine, fill, key_of, memory_for
from .suite import Row
from .timing import clock_overhead_ns, percentiles

CALLS = 500_000
WRITES_PER_BATCH = 100


def run(keys: int) -> list[Row]:
    """The owner writes in this process; the reader is a fork of it, as another process would map the region."""
    context = multiprocessing.get_context("fork")
    with engine(memory_for(keys)) as (owner, _, (data, hints, _log)):
        fill(owner, keys)
        quiet = _in_child(context, data, hints, keys, None)
        batches = [
            encode_commands([(b"SET", key_of((start + n) % keys), VALUE) for n in range(WRITES_PER_BATCH)])
            for start in range(0, keys, WRITES_PER_BATCH)
        ]
        busy = _in_child(context, data, hints, keys, (owner, batches))
    rows = []
    for work, (found, refused, written, seconds) in (("nobody writes", quiet), ("owner writes flat out", busy)):
        note = f"{written / seconds:,.0f} writes/s, {refused} reads gave up" if written else f"{os.cpu_count()} CPUs"
        target = "p99.9 <= 5 us" if written else ""
        rows.append(
            Row(f"GET, {work}: p99.9", found.p999_us, "us", target, p50_us=found.p50_us, p99_us=found.p99_us, p999_us=found.p999_us, note=note)
        )
    return rows


def _in_child(context: Any, data: int, hints: int, keys: int, writer: Any) -> tuple[Any, int, int, float]:
    import time

    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_read, args=(data, hints, keys, sender))
    child.start()
    sender.close()
    written, started = 0, time.perf_counter()
    while not receiver.poll(0 if writer else 0.05):
        if writer is not None:
            owner, batches = writer
            for batch in batches:
                owner.execute(batch)
                written += WRITES_PER_BATCH
            owner.tick()
    seconds = time.perf_counter() - started
    found, refused = receiver.recv()
    child.join()
    return found, refused, written, seconds


def _read(data: int, hints: int, keys: int, pipe: Any) -> None:
    import time

    import numpy as np

    reader = _engine.Reader([(data, hints)], bytes(_engine.SLOT_COUNT * 2))
    clock, get = time.perf_counter_ns, reader.get
    samples = np.empty(CALLS, np.int64)
    names = [key_of(n) for n in range(keys)]
    refused = 0
    for i in range(CALLS):
        key = names[i % keys]
        before = clock()
        try:
            get(key)
        except _engine.Busy:
            refused += 1
        samples[i] = clock() - before
    pipe.send((percentiles(samples, clock_overhead_ns()), refused))
