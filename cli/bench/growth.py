"""Longest single SET while index and heap grow from nothing."""

import time

import numpy as np

from .region import VALUE, engine, key_of, memory_for
from .suite import Row
from .timing import clock_overhead_ns, percentiles


def run(keys: int) -> list[Row]:
    """In the engine, without a socket: one SET a call, a tick after every 1,000."""
    samples = np.empty(keys, np.int64)
    ticks = []
    clock = time.perf_counter_ns
    with engine(memory_for(keys)) as (owner, _, _):
        command = owner.command
        for number in range(keys):
            key = key_of(number)
            before = clock()
            command(b"SET", key, VALUE)
            samples[number] = clock() - before
            if not number % 1000:
                before = clock()
                owner.tick()
                ticks.append(clock() - before)
    rows = []
    overhead = clock_overhead_ns()
    for work, times in (("single SET", samples), ("housekeeping tick", ticks)):
        found = percentiles(times, overhead)
        rows.append(
            Row(f"longest {work}", found.max_us / 1000, "ms", "<= 5", p50_us=found.p50_us, p99_us=found.p99_us, p999_us=found.p999_us)
        )
    return rows
