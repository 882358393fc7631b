"""PUBLISH to a local subscriber, and fan-out to 100 of them, against Redis in the same run.

Latency: this process publishes with the client, another one receives, and tells the clock of each arrival (one host, one
clock). Fan-out: subscribers in a few processes that do as little as possible, over a plain unix socket each: they count records
here, bytes of RESP there; the publisher sends prepared batches to both.
"""

import multiprocessing
import os
import socket as sockets
import time
from collections.abc import Callable
from typing import Any

from .peers import PeerMissing, redis_server
from .region import VALUE
from .suite import Row, missing
from .timing import percentiles

SUBSCRIBERS = 100
PROCESSES = 2
BATCH = 100
CHANNEL = b"bench"
PAUSE_S = 0.0005
"""Between two messages of the latency test, so that none waits for another."""
BLOCKS = 4
_READY = b"r"


def run(keys: int) -> list[Row]:
    """`keys` messages in each test."""
    from shmcache.protocol.directory import Directory
    from shmcache.protocol.streams import stream_path

    from . import temporary

    with temporary.instance(memory=64 << 20, workers=1, pin="false", channels="true", channel_queue=1_000_000) as name:
        directory = Directory.open(name)
        out = stream_path(directory.snapshot().hub_endpoints[1])
        directory.close()
        try:
            with redis_server() as (redis, path):
                return [*_latency(name, redis, str(path), keys), _fan_out(name, out, redis, str(path), keys)]
        except PeerMissing as reason:
            return [*_latency(name, None, "", keys), _fan_out(name, out, None, "", keys), missing("pub/sub", "Redis", str(reason))]


# --- latency --------------------------------------------------------------------------------------
def _receive(url: str, redis_path: str, messages: int, pipe: Any) -> None:
    """A subscriber process: arrival times of all messages, in blocks."""
    if redis_path:
        import redis

        subscriber = redis.Redis(unix_socket_path=redis_path).pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(CHANNEL)
        subscriber.get_message(timeout=5)
    else:
        import shmcache

        subscriber = shmcache.connect(f"shm://{url}").pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(CHANNEL)
    pipe.send_bytes(_READY)
    clock = time.perf_counter_ns
    times: list[int] = []
    for message in subscriber.listen():
        if message["type"] == "message":
            times.append(clock())
            if len(times) == messages:
                break
    pipe.send(times)


def _block(publish: Callable[..., Any], url: str, redis_path: str, messages: int) -> list[int]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_receive, args=(url, redis_path, messages, theirs), daemon=True)
    process.start()
    try:
        assert ours.recv_bytes() == _READY
        clock = time.perf_counter_ns
        sent = []
        for _ in range(messages):
            sent.append(clock())
            publish(CHANNEL, VALUE)
            time.sleep(PAUSE_S)
        arrived = ours.recv()
    finally:
        process.join(10)
        process.terminate()
    return [there - here for here, there in zip(sent, arrived, strict=True)]


def _latency(name: str, redis: Any, path: str, messages: int) -> list[Row]:
    import shmcache

    each = max(100, messages // BLOCKS)
    ours: list[int] = []
    theirs: list[int] = []
    with shmcache.connect(f"shm://{name}") as client:
        # In turns, so that both see the same machine.
        for _ in range(BLOCKS):
            ours += _block(client.publish, name, "", each)
            if redis is not None:
                theirs += _block(redis.publish, name, path, each)
    own = percentiles(ours)
    if not theirs:
        return [Row("PUBLISH -> local subscriber, p50", own.p50_us, "us", p50_us=own.p50_us, p99_us=own.p99_us)]
    peer = percentiles(theirs)
    return [
        Row("PUBLISH -> local subscriber, p50", own.p50_us, "us", ">= Redis 7", "redis-py", peer.p50_us,
            round(peer.p50_us / own.p50_us, 3), own.p50_us, own.p99_us, own.p999_us, "ratio: Redis / ours"),
        Row("PUBLISH -> local subscriber, p99", own.p99_us, "us", "", "redis-py", peer.p99_us,
            round(peer.p99_us / own.p99_us, 3), note="ratio: Redis / ours"),
    ]  # fmt: skip


# --- fan-out --------------------------------------------------------------------------------------
def _count_records(path: str, subscribers: int, messages: int, pipe: Any) -> None:
    import selectors

    from shmcache.protocol.streams import FRAME, SUBSCRIBE, Records, record

    selector = selectors.DefaultSelector()
    topic = b"c" + CHANNEL + b"\0"
    for _ in range(subscribers):
        connection = sockets.socket(sockets.AF_UNIX)
        connection.connect(path)
        connection.sendall(record(SUBSCRIBE, topic) + record(SUBSCRIBE, b"?" + os.urandom(8) + topic))
        records = Records(1 << 20)
        while not records.feed(connection.recv(65536)):
            pass
        selector.register(connection, selectors.EVENT_READ, records)
    pipe.send_bytes(_READY)
    left = subscribers * messages
    at = len(topic)
    while left > 0:
        for key, _ in selector.select():
            for kind, frame in key.data.feed(key.fileobj.recv(65536)):  # type: ignore[union-attr]
                if kind == FRAME:
                    left -= _messages(frame, at)
    pipe.send(time.perf_counter())


def _messages(frame: bytes, at: int) -> int:
    """Number of messages in a frame, which are all of one size here, as `_count_resp` relies on too."""
    first = 64 + int.from_bytes(frame[at + 4 : at + 6], "little") + int.from_bytes(frame[at + 8 : at + 12], "little")
    return (len(frame) - at) // first


def _count_resp(path: str, subscribers: int, messages: int, pipe: Any) -> None:
    import selectors

    selector = selectors.DefaultSelector()
    confirmation = b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(CHANNEL), CHANNEL)
    for _ in range(subscribers):
        connection = sockets.socket(sockets.AF_UNIX)
        connection.connect(path)
        connection.sendall(b"SUBSCRIBE %s\r\n" % CHANNEL)
        got = b""
        while len(got) < len(confirmation):
            got += connection.recv(65536)
        selector.register(connection, selectors.EVENT_READ)
    pipe.send_bytes(_READY)
    one = len(b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(CHANNEL), CHANNEL, len(VALUE), VALUE))
    left = subscribers * messages * one
    while left > 0:
        for key, _ in selector.select():
            left -= len(key.fileobj.recv(65536))  # type: ignore[union-attr]
    pipe.send(time.perf_counter())


def _deliveries(count: Callable[..., None], where: str, messages: int, publish: Callable[[], None]) -> float:
    """Messages per second, all subscribers together, until the last one has its last."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(PROCESSES):
        ours, theirs = context.Pipe()
        process = context.Process(target=count, args=(where, SUBSCRIBERS // PROCESSES, messages, theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            assert pipe.recv_bytes() == _READY
        started = time.perf_counter()
        publish()
        ended = max(pipe.recv() for pipe in pipes)
    finally:
        for process in processes:
            process.join(10)
            process.terminate()
    return SUBSCRIBERS * messages / (ended - started)


def _fan_out(name: str, out: str, redis: Any, path: str, messages: int) -> Row:
    import shmcache

    messages = max(BATCH, messages // BATCH * BATCH)
    ours = theirs = 0.0
    with shmcache.connect(f"shm://{name}", timeout=60) as client:

        def publish_ours() -> None:
            for _ in range(messages // BATCH):
                client.publish_many([(CHANNEL, VALUE)] * BATCH)

        def publish_theirs() -> None:
            for _ in range(messages // BATCH):
                pipeline = redis.pipeline(transaction=False)
                for _ in range(BATCH):
                    pipeline.publish(CHANNEL, VALUE)
                pipeline.execute()

        for _ in range(2):
            ours = max(ours, _deliveries(_count_records, out, messages, publish_ours))
            if redis is not None:
                theirs = max(theirs, _deliveries(_count_resp, path, messages, publish_theirs))
    work = f"fan-out to {SUBSCRIBERS} subscribers"
    if not theirs:
        return Row(work, ours, "messages per s")
    note = "better of 2 runs each, in turns"
    return Row(work, ours, "messages per s", ">= Redis 7", "Redis", theirs, round(ours / theirs, 3), note=note)
