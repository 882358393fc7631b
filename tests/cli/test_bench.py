"""The benchmarks run, scaled down, and give complete rows."""

import importlib

import pytest

from shmcache.cli.bench.suite import BENCHMARKS
from shmcache.cli.bench.timing import percentiles


@pytest.mark.parametrize("name", ["memory", "collections", "growth", "contention", "attach", "local", "network", "persistence"])
def test_benchmark_gives_rows(name: str, redis_server_program: str, memcached_program: str, request: pytest.FixtureRequest):
    """Each benchmark measures something, with every peer present."""
    rows = importlib.import_module(f"shmcache.cli.bench.{name}").run(500)
    assert set(BENCHMARKS) >= {name}
    assert rows
    for row in rows:
        if "peer missing: lmdb" in row.note:
            continue
        assert row.value is not None, row
        assert row.value > 0 or "memory" in name + row.work, row


def test_percentiles_take_the_clock_off():
    """Times are of single calls, in microseconds, without the clock's own cost."""
    found = percentiles([1050] * 998 + [5050, 9050], overhead_ns=50)
    assert (found.p50_us, found.p99_us, found.max_us) == (1.0, 1.0, 9.0)
