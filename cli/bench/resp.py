"""The RESP port against Redis, with redis-benchmark and both servers on the same cores in turns."""

import os
import statistics
import subprocess

from .peers import PeerMissing, free_port, program, redis_server
from .suite import Row, missing

COMMANDS = ("get", "set", "incr", "lpush", "hset", "zadd", "mset")
CLIENTS = 50
PIPELINES = (1, 16)
ROUNDS = 5
CORES = 2
_SECONDS_MAX = 300


def run(keys: int) -> list[Row]:
    """One worker, one gateway. `keys` requests of each command and round, eight times as many in pipelines."""
    from . import temporary

    try:
        benchmark = program("redis-benchmark")
        program("redis-server")
    except PeerMissing as reason:
        return [missing("redis-benchmark", "Redis", str(reason))]
    cores = sorted(os.sched_getaffinity(0))[-CORES:]
    before = os.sched_getaffinity(0)
    # Children inherit it: both servers and the benchmark have the same two cores.
    os.sched_setaffinity(0, cores)
    try:
        port = free_port("127.0.0.1")
        options = {"memory": 512 << 20, "workers": 1, "pin": "false", "resp": f"127.0.0.1:{port}"}
        with temporary.instance(**options), redis_server("127.0.0.1") as (peer, _):
            ports = (port, int(peer.config_get("port")["port"]))
            return [row for pipeline in PIPELINES for row in _compare(benchmark, ports, pipeline, keys if pipeline == 1 else 8 * keys)]
    finally:
        os.sched_setaffinity(0, before)


def _compare(benchmark: str, ports: tuple[int, int], pipeline: int, requests: int) -> list[Row]:
    rates: dict[str, tuple[list[float], list[float]]] = {}
    for command in COMMANDS:
        rates[command] = ([], [])
        for turn in range(ROUNDS):
            # Who comes first changes, so that whatever drifts on the machine meets both.
            for which in (0, 1) if turn % 2 else (1, 0):
                rates[command][which].append(_rate(benchmark, ports[which], command, pipeline, requests))
    target = ">= 0.7x" if pipeline == 1 else ">= 1x"
    rows = []
    for command, (ours, theirs) in rates.items():
        ratio = statistics.median(own / other for own, other in zip(ours, theirs, strict=True))
        work = f"{command.upper()}, -c {CLIENTS}" + (f" -P {pipeline}" if pipeline > 1 else "")
        rows.append(Row(work, statistics.median(ours), "per s", target, "Redis", statistics.median(theirs), round(ratio, 3)))
    return rows


def _rate(benchmark: str, port: int, command: str, pipeline: int, requests: int) -> float:
    words = [benchmark, "-p", str(port), "-t", command, "-c", str(CLIENTS), "-P", str(pipeline), "-n", str(requests), "-r", "100000", "--csv"]
    text = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS_MAX, check=True).stdout
    return float(text.strip().splitlines()[-1].split(",")[1].strip('"'))
