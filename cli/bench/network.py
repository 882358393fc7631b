"""Round trips and pipelines over ZeroMQ against a bare pyzmq echo and redis-py's pipelines."""

import multiprocessing
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from .peers import PeerMissing, memcached_socket, redis_server
from .region import VALUE, key_of
from .suite import Row, missing
from .timing import Percentiles, clock_overhead_ns, percentiles, single_calls

BATCH = 100
SECONDS = 2.0
ECHO_BLOCKS = 5


def run(keys: int) -> list[Row]:
    """One worker, one client process; `keys` round trips each."""
    from shmcache.protocol import codec, frames

    from ..connection import parse_target
    from . import temporary

    rows = []
    with temporary.instance(memory=256 << 20, workers=1, pin="false") as name, tempfile.TemporaryDirectory() as folder:
        from shmcache.protocol.directory import Directory

        instance = parse_target(name).instance
        assert instance is not None
        directory = Directory.open(instance)
        worker = directory.snapshot().shards[0].endpoints[0]
        directory.close()
        message = [frames.pack_header(request_id=1), codec.encode_commands([(b"SET", b"k" * 16, VALUE)])]
        import shmcache

        with shmcache.connect(f"shm://{name}") as client:
            ours, echo, through = _interleaved(
                worker, f"ipc://{folder}/echo.sock", message, keys, lambda: client.set(b"k" * 16, VALUE)
            )
        rows.append(
            Row("round trip of one SET, p50", ours.p50_us, "us", "<= 1.2x echo", "bare pyzmq echo", echo.p50_us,
                round(ours.p50_us / echo.p50_us, 3), ours.p50_us, ours.p99_us, ours.p999_us, "raw frames; ratio: ours / echo")
        )  # fmt: skip
        rows.append(
            Row("round trip of Client.set, p50", through.p50_us, "us", "<= 1.2x echo", "bare pyzmq echo", echo.p50_us,
                round(through.p50_us / echo.p50_us, 3), through.p50_us, through.p99_us, through.p999_us, "ratio: ours / echo")
        )  # fmt: skip
        rows += _pipelines(name)
    return rows


def _echo(endpoint: str) -> None:
    import zmq

    socket = zmq.Context().socket(zmq.ROUTER)
    socket.bind(endpoint)
    while True:
        socket.send_multipart(socket.recv_multipart())


def _interleaved(
    worker: str, echo_endpoint: str, message: list[bytes], calls: int, through: Callable[[], Any]
) -> list[Percentiles]:
    """Of raw frames to the worker, the echo, and a call of the client: blocks in turns, so that all see the same machine."""
    import numpy as np
    import zmq

    process = multiprocessing.get_context("spawn").Process(target=_echo, args=(echo_endpoint,), daemon=True)
    process.start()
    context = zmq.Context()
    samples: dict[str, list[Any]] = {worker: [], echo_endpoint: []}
    try:
        trips: dict[str, Callable[[], Any]] = {}
        for endpoint in list(samples):
            socket = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.connect(endpoint)

            def trip(socket: Any = socket) -> Any:
                socket.send_multipart(message)
                return socket.recv_multipart()

            trip()
            trips[endpoint] = trip
        trips["client"] = through
        samples["client"] = []
        for _ in range(ECHO_BLOCKS):
            for endpoint, trip in trips.items():
                samples[endpoint].append(single_calls(trip, [()] * (calls // ECHO_BLOCKS)))
    finally:
        process.terminate()
        process.join()
        context.destroy(linger=0)
    overhead = clock_overhead_ns()
    return [percentiles(np.concatenate(blocks), overhead) for blocks in samples.values()]


def _per_second(pipeline: Callable[[], Any], command: str) -> float:
    keys = [key_of(n) for n in range(BATCH)]
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SECONDS:
        batch = pipeline()
        if command == "SET":
            for key in keys:
                batch.set(key, VALUE)
        else:
            for key in keys:
                batch.incr(key + b"n")
        batch.execute()
        done += BATCH
    return done / elapsed


def _pipelines(name: str) -> list[Row]:
    """SET and INCR, because a local pipeline of reads never goes to the worker."""
    import shmcache

    rows = []
    with shmcache.connect(f"shm://{name}") as client:
        ours = {command: _per_second(client.pipeline, command) for command in ("SET", "INCR")}
    try:
        with redis_server() as (redis, socket):
            for command, rate in ours.items():
                theirs = _per_second(lambda: redis.pipeline(transaction=False), command)
                rows.append(Row(f"{command}, batches of {BATCH}", rate, "per s", ">= 2x", "redis-py", theirs, rate / theirs))
            rows.append(_redis_benchmark(str(socket), ours["SET"]))
    except PeerMissing as reason:
        rows += [Row(f"{command}, batches of {BATCH}", rate, "per s") for command, rate in ours.items()]
        rows.append(missing("batches", "Redis", str(reason)))
    try:
        theirs = _memcached_per_second()
        rows.append(Row(f"SET, batches of {BATCH}", ours["SET"], "per s", "", "memcached", theirs, ours["SET"] / theirs, note="prepared text"))
    except PeerMissing as reason:
        rows.append(missing("batches", "memcached", str(reason)))
    return rows


def _redis_benchmark(socket: str, ours: float) -> Row:
    program = shutil.which("redis-benchmark")
    if program is None:
        return missing("batches", "redis-benchmark -P 100", "not installed")
    words = [program, "-s", socket, "-P", "100", "-c", "1", "-n", "1000000", "-d", "64", "-t", "set", "--csv"]
    text = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    theirs = float(text.strip().splitlines()[-1].split(",")[1].strip('"'))
    return Row(f"SET, batches of {BATCH}", ours, "per s", "", "redis-benchmark -P 100", theirs, ours / theirs, note="a C client")


def _memcached_per_second() -> float:
    """Batches of sets of its text protocol, prepared beforehand: what the server does, without a Python client's work."""
    batch = b"".join(b"set %s 0 0 %d\r\n%s\r\n" % (key_of(n).replace(b":", b"_"), len(VALUE), VALUE) for n in range(BATCH))
    expected = BATCH * len(b"STORED\r\n")
    done, started = 0, time.perf_counter()
    with memcached_socket() as connection:
        while (elapsed := time.perf_counter() - started) < SECONDS:
            connection.sendall(batch)
            received = 0
            while received < expected:
                data = connection.recv(65536)
                if not data:
                    raise PeerMissing("memcached closed the connection")
                received += len(data)
            done += BATCH
    return done / elapsed
