"""What strangers send: nothing of it ends a process, each mistake gets its error reply."""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator

import pytest
import zmq

from shmcache import _engine, errors
from shmcache.protocol import codec, frames
from tests.support.instance import RunningInstance, running_instance
from tests.support.wire import Wire, wire


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance(workers=2) as found:
        yield found


@pytest.fixture(params=["router", "worker"])
def endpoint(instance: RunningInstance, request: pytest.FixtureRequest) -> str:
    return instance.tcp if request.param == "router" else instance.snapshot().shards[0].endpoints[0]


@pytest.fixture
def connection(endpoint: str) -> Iterator[Wire]:
    with wire(endpoint) as found:
        yield found


def test_request_and_reply(connection: Wire) -> None:
    """A batch is answered in order, under its id, with the server's epoch."""
    sent = connection.send(["PING"], ["ECHO", b"x"])
    header, results = connection.receive()
    assert (header.request_id, results) == (sent, ["PONG", b"x"])
    assert header.epoch > 0


def test_failed_commands_fail_alone(connection: Wire) -> None:
    """An unknown command and a wrong arity are errors of their own; their neighbours are executed."""
    results = connection.ask(["NOSUCH"], ["PING"], ["GET"])
    assert isinstance(results[0], errors.ResponseError)
    assert results[1] == "PONG"
    assert isinstance(results[2], errors.ResponseError)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x92\x01", b"\x81\x01\x02", b"\x91\x01", b"\xdd\xff\xff\xff\xff", b"x" * 1000]
)
def test_malformed_payload_is_refused(connection: Wire, payload: bytes) -> None:
    """What is not an array of commands is refused as a whole, and the connection goes on."""
    connection.socket.send_multipart([frames.pack_header(request_id=7), payload])
    header, result = connection.receive()
    refused = isinstance(result, (errors.ProtocolError, errors.LimitExceeded)) or isinstance(
        result[0], errors.ResponseError
    )
    assert header.request_id == 7
    assert refused
    assert connection.ask(["PING"]) == ["PONG"]


@pytest.mark.parametrize(
    "message",
    [
        [b""],
        [b"x"],
        [b"", b""],
        [b"x" * 23, b""],
        [b"\x01" + bytes(23), b"\x90"],
    ],
)
def test_malformed_header_is_refused(connection: Wire, message: list[bytes]) -> None:
    """Missing frames, a wrong size, another version: PROTOCOL. (All eight flags are in use.)"""
    connection.socket.send_multipart(message)
    assert isinstance(connection.receive()[1], errors.ProtocolError)
    assert connection.ask(["PING"]) == ["PONG"]


def test_expired_deadline_is_not_executed(connection: Wire) -> None:
    """A request that comes too late changes nothing."""
    late = {"flags": frames.HOST_CLOCK, "deadline_us": time.monotonic_ns() // 1000 - 1}
    assert isinstance(connection.ask(["SET", b"{b}late", b"1"], **late), errors.CacheTimeout)
    assert connection.ask(["GET", b"{b}late"]) == [None]
    future = late | {"deadline_us": late["deadline_us"] + 60_000_000}
    assert connection.ask(["PING"], **future) == ["PONG"]
    assert connection.ask(["PING"], deadline_us=60_000_000) == ["PONG"]


def test_time_in_a_queue_counts(instance: RunningInstance) -> None:
    """What a worker finds in its queue after its deadline is not executed, though its sender said only what is left."""
    pid = instance.worker_pid()
    with wire(instance.tcp) as connection:
        os.kill(pid, signal.SIGSTOP)
        try:
            connection.send(["SET", b"{b}queued", b"1"], deadline_us=50_000)
            time.sleep(0.3)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert isinstance(connection.receive()[1], errors.CacheTimeout)
        assert connection.ask(["GET", b"{b}queued"]) == [None]


def test_read_only_batch_refuses_writes(connection: Wire) -> None:
    """The flag READ_ONLY holds for the engine too."""
    result = connection.ask(["SET", b"k", b"v"], flags=frames.READ_ONLY)
    result = result if isinstance(result, Exception) else result[0]
    assert isinstance(result, errors.ShmcacheError)


def test_batch_over_the_limit_is_refused(connection: Wire) -> None:
    """More commands than the engine takes at once: LIMIT."""
    count = _engine.MAX_BATCH_COMMANDS + 1
    assert isinstance(connection.ask(*[["PING"]] * count), errors.LimitExceeded)


def test_control_calls(instance: RunningInstance, connection: Wire) -> None:
    """Topology names every slot and shard; unknown calls and options are refused."""
    topology = connection.control("topology")
    assert topology["instance"] == instance.name
    assert len(topology["shards"]) == 2
    assert topology["slots"] == [[0, 8191, 0], [8192, 16383, 1]]
    stats = connection.control("stats")
    assert stats["shard"] == 0
    assert stats["worker"]["pid"] == instance.worker_pid(0)
    assert "latencies" in stats
    assert connection.control("configure", samples=7)
    for call, arguments in (("nonsense", {}), ("configure", {"shard": 1}), ("configure", {"policy": "x"})):
        assert isinstance(connection.control(call, **arguments), errors.ProtocolError)
    connection.socket.send_multipart([frames.pack_header(flags=frames.CONTROL), b"\x01"])
    assert isinstance(connection.receive()[1], errors.ProtocolError)


def test_router_stats(instance: RunningInstance) -> None:
    """The router answers for itself."""
    with wire(instance.tcp) as connection:
        connection.ask(["PING"])
        router = connection.control("stats", router=True)["router"]
        assert router["pid"] == instance.router_pid()
        assert router["requests"] >= 1
        assert router["outstanding"] == 0


def test_live_options_survive_a_workers_death() -> None:
    """`configure` holds for the region, not for the process."""
    with running_instance() as instance, wire(instance.tcp) as connection:
        assert connection.control("configure", policy="noeviction")["policy"] == "noeviction"
        instance.wait_healed(0, instance.kill_worker(0))
        assert connection.control("configure")["policy"] == "noeviction"


def test_slots_of_other_shards_are_moved(instance: RunningInstance) -> None:
    """A worker refuses a key that is not its own, so that a stale client cannot write beside the others."""
    key = next(b"k%d" % n for n in range(1000) if _engine.key_slot(b"k%d" % n) > 8191)
    with wire(instance.snapshot().shards[0].endpoints[0]) as connection:
        assert isinstance(connection.ask(["SET", key, b"v"])[0], errors.Moved)


def test_random_bytes_to_every_socket(instance: RunningInstance) -> None:
    """Raw junk on TCP and unix sockets, and junk in well-formed ZeroMQ messages, ends nobody."""
    chance = random.Random(4)
    children = sorted(instance.child_pids())
    host, port = instance.tcp.removeprefix("tcp://").split(":")
    ipc = [record.endpoints[0].removeprefix("ipc://") for record in instance.snapshot().shards]
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
    for turn in range(60):
        target: tuple[str, int] | str = (host, int(port)) if turn % 3 == 0 else ipc[turn % 2]
        family = socket.AF_INET if turn % 3 == 0 else socket.AF_UNIX
        with socket.socket(family) as raw:
            raw.settimeout(2)
            raw.connect(target)
            try:
                raw.sendall((greeting if turn % 2 else b"") + chance.randbytes(chance.randrange(1, 5000)))
            except (BrokenPipeError, ConnectionResetError):
                pass
    with zmq.Context() as context:
        for target_endpoint in (instance.tcp, *(f"ipc://{path}" for path in ipc)):
            with context.socket(zmq.DEALER) as junk:
                junk.linger = 500
                junk.connect(target_endpoint)
                for _ in range(300):
                    frames_count = chance.randrange(1, 6)
                    head = frames.pack_header(
                        flags=chance.choice((0, 1, 2, 3, 4)), slot=chance.randrange(16384)
                    )
                    message = [os.urandom(chance.randrange(0, 60)) for _ in range(frames_count)]
                    junk.send_multipart(chance.choice(([*message], [*message, head, os.urandom(20)])))
    for target_endpoint in (instance.tcp, *(f"ipc://{path}" for path in ipc)):
        with wire(target_endpoint) as connection:
            assert connection.ask(["PING"]) == ["PONG"]
    assert sorted(instance.child_pids()) == children


def test_oversized_message_is_cut_off() -> None:
    """A message over the limit costs its sender the connection, not the server its memory."""
    with running_instance(message_size="1MB") as instance, wire(instance.tcp, 500) as connection:
        connection.socket.reconnect_ivl = 10
        connection.socket.send_multipart([frames.pack_header(), bytes(2 << 20)])
        with pytest.raises(zmq.Again):
            connection.receive()
        with wire(instance.tcp) as other:
            assert other.ask(["PING"]) == ["PONG"]


def test_peer_that_never_reads_slows_nobody(instance: RunningInstance) -> None:
    """Replies that nobody takes are dropped at a bound, while others are served."""
    endpoint = instance.snapshot().shards[0].endpoints[0]
    with zmq.Context() as context, context.socket(zmq.DEALER) as greedy:
        greedy.linger, greedy.rcvhwm, greedy.sndtimeo = 0, 1, 200
        greedy.connect(endpoint)
        payload = codec.encode_commands([["ECHO", bytes(10_000)]])
        for request_id in range(2000):
            try:
                greedy.send_multipart([frames.pack_header(request_id=request_id), payload])
            except zmq.Again:
                break
        with wire(endpoint) as connection:
            assert connection.ask(["PING"]) == ["PONG"]
