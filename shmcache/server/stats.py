"""What the control call `stats` returns; described in docs/stats.md."""

import os
import time
from typing import Any

import psutil

from .. import _engine

_STARTED_MS = time.time_ns() // 1_000_000


def process_stats() -> dict[str, Any]:
    """This process' own use of the host."""
    process = psutil.Process()
    with process.oneshot():
        cpu = process.cpu_times()
        return {
            "pid": os.getpid(),
            "started_ms": _STARTED_MS,
            "cpu_user_ms": int(cpu.user * 1000),
            "cpu_system_ms": int(cpu.system * 1000),
            "rss_bytes": process.memory_info().rss,
            "descriptors": process.num_fds(),
        }


def worker_stats(owner: _engine.Owner, shard: int, counters: dict[str, int]) -> dict[str, Any]:
    """The shard's own figures at the top level, beside `latencies` by command family and `worker`."""
    return {
        **owner.stats(),
        "shard": shard,
        "latencies": owner.latencies(),
        "worker": counters | process_stats(),
    }


def router_stats(counters: dict[str, Any]) -> dict[str, Any]:
    """The router's figures."""
    return {"router": counters | process_stats()}
