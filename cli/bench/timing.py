"""Timing that is honest about its own cost, and percentiles."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of single operations, in microseconds."""

    count: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float


def percentiles(samples_ns: Sequence[int] | np.ndarray, overhead_ns: float = 0.0) -> Percentiles:
    """Percentiles of single-call times, the clock's own cost taken off."""
    samples = np.asarray(samples_ns, dtype=np.float64)
    if not samples.size:
        return Percentiles(0, 0.0, 0.0, 0.0, 0.0)
    p50, p99, p999 = np.percentile(samples, [50, 99, 99.9], method="higher")
    values = np.maximum(np.array([p50, p99, p999, samples.max()]) - overhead_ns, 0) / 1000
    return Percentiles(int(samples.size), *(round(float(v), 3) for v in values))


def clock_overhead_ns(rounds: int = 20_000) -> float:
    """Median of two clock readings with nothing between them."""
    clock = time.perf_counter_ns
    return float(np.median([-(clock() - clock()) for _ in range(rounds)]))


def single_calls(call: Callable[..., object], arguments: Sequence[tuple[object, ...]]) -> np.ndarray:
    """Nanoseconds of each call on its own; the clock's cost is in them."""
    clock = time.perf_counter_ns
    samples = np.empty(len(arguments), np.int64)
    for i, words in enumerate(arguments):
        start = clock()
        call(*words)
        samples[i] = clock() - start
    return samples


_UNROLLED = 20


def per_call_us(call: Callable[[object], object], keys: Sequence[object], rounds: int = 200) -> float:
    """Median microseconds of one `call(key)`: batches of 20 unrolled calls between two clock readings.

    At 0.1 us a single reading of the clock would be half of the figure, and a `for` loop a tenth.
    """
    names = [f"k{i}" for i in range(_UNROLLED)]
    body = "; ".join(f"call({name})" for name in names)
    source = f"def batch(call, clock, {', '.join(names)}):\n start = clock(); {body}; return clock() - start\n"
    scope: dict[str, Callable[..., int]] = {}
    exec(source, scope)  # unrolled, because the loop itself is not what is measured
    batch = scope["batch"]
    overhead = clock_overhead_ns(2000)
    times = []
    for round_ in range(rounds):
        start = round_ * _UNROLLED % max(1, len(keys) - _UNROLLED)
        times.append(batch(call, time.perf_counter_ns, *keys[start : start + _UNROLLED]))
    return max(0.0, float(np.median(times)) - overhead) / _UNROLLED / 1000
