"""What a client lives through: threads, forks, dead workers, restarts, silence."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zmq

import shmcache
from shmcache.errors import CacheTimeout, InstanceNotFound, OutcomeUnknown, ShmcacheError, Unavailable
from tests.support.instance import RunningInstance, running_instance, wait_until


@pytest.fixture
def instance() -> Iterator[RunningInstance]:
    with running_instance(workers=2) as running:
        yield running


@pytest.fixture(params=["shm", "tcp"])
def url(request: pytest.FixtureRequest, three_workers: RunningInstance) -> str:
    return three_workers.url if request.param == "shm" else three_workers.tcp


def test_threads_share_a_client(url: str) -> None:
    """Many threads on one client: every answer belongs to its question."""
    with shmcache.connect(url) as cache:

        def work(thread: int) -> None:
            for step in range(60):
                cache.set(f"t{thread}", f"{thread}:{step}")
                assert cache.get(f"t{thread}") == b"%d:%d" % (thread, step)
                assert cache.echo(f"{thread}-{step}") == b"%d-%d" % (thread, step)
                cache.incr("together")

        cache.delete("together")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert cache.get("together") == b"480"


def in_child(work: Callable[[], bool]) -> None:
    """Fork, run `work` in the child, and check that it was true there."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    until = time.monotonic() + 20
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(found[1]) == 0


def test_forked_child_goes_on(url: str) -> None:
    """A child uses the parent's client to read and write; the parent's sockets are still the parent's."""
    with shmcache.connect(url) as cache:
        cache.set("n", 0)

        def child() -> bool:
            return bool(cache.incr("n") and cache.get("n") and cache.pipeline().incr("n").echo("x").execute())

        for _ in range(3):
            in_child(child)
        assert cache.incr("n") == 7
        assert cache.get("n") == b"7"


def test_fork_while_threads_work(url: str) -> None:
    """Locks that a thread of the parent held do not hang the child."""
    with shmcache.connect(url) as cache:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                cache.set("busy", 1)
                time.sleep(0.001)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(5):
                in_child(lambda: cache.set("child", 1) is True and cache.get("child") == b"1")
        finally:
            stop.set()
            thread.join()


def test_reads_go_on_while_the_worker_is_down(instance: RunningInstance) -> None:
    """On the host a read needs no worker; a write waits for the next one."""
    with shmcache.connect(instance.url) as cache:
        cache.mset({f"k{n}": n for n in range(50)})
        pid = instance.worker_pid(0)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert cache.mget([f"k{n}" for n in range(50)]) == [b"%d" % n for n in range(50)]
        finally:
            os.kill(pid, signal.SIGCONT)
        generation = instance.kill_worker(0)
        assert all(cache.get(f"k{n}") == b"%d" % n for n in range(50))
        assert cache.mset({f"k{n}": n + 1 for n in range(50)}) is True
        instance.wait_healed(0, generation)
        assert cache.get("k7") == b"8"


@pytest.mark.parametrize("scheme", ["shm", "tcp"])
def test_killed_workers_under_load(instance: RunningInstance, scheme: str) -> None:
    """`kill -9` while several threads write: no acknowledged write is lost, and what was not acknowledged
    says so.
    """
    unknown = [0] * 4
    acknowledged = [0] * 4
    stop = threading.Event()
    failures: list[BaseException] = []
    with shmcache.connect(instance.url if scheme == "shm" else instance.tcp, timeout=10) as cache:

        def work(number: int) -> None:
            try:
                step = 0
                while not stop.is_set():
                    step += 1
                    assert cache.set(f"last{number}", step) is True
                    assert cache.get(f"last{number}") == b"%d" % step
                    try:
                        cache.incr(f"count{number}")
                        acknowledged[number] += 1
                    except OutcomeUnknown:
                        unknown[number] += 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(4):
            time.sleep(0.3)
            generation = instance.kill_worker(turn % 2)
            instance.wait_healed(turn % 2, generation)
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not failures, failures
        assert sum(acknowledged) > 100
        for number in range(4):
            count = int(cache.get(f"count{number}"))
            assert acknowledged[number] <= count <= acknowledged[number] + unknown[number]


def test_restart_of_the_server(instance: RunningInstance) -> None:
    """A client outlives a stop and a start of its server: it maps and connects anew within its timeout."""
    with (
        shmcache.connect(instance.url, timeout=20) as local,
        shmcache.connect(instance.tcp, timeout=20) as far,
    ):
        local.set("k", 1)
        assert far.get("k") == b"1"
        for client in (local, far):
            instance.stop()
            with ThreadPoolExecutor(2) as pool:
                waiting = [pool.submit(client.set, "k", 2), pool.submit(client.echo, "there")]
                time.sleep(0.2)
                instance.start()
                assert [answer.result(20) for answer in waiting] == [True, b"there"]
        assert local.get("k") == b"2"
        assert far.get("k") == b"2"
        assert local.get("never") is None


def test_stopped_server_is_one_clear_error(instance: RunningInstance) -> None:
    """When the server does not come back a call ends at its timeout with one error that says so."""
    with (
        shmcache.connect(instance.url, timeout=0.4) as local,
        shmcache.connect(instance.tcp, timeout=0.4) as far,
    ):
        local.set("k", 1)
        far.set("k", 1)
        instance.stop()
        for client in (local, far):
            for call in (
                lambda c: c.set("k", 1),
                lambda c: c.get("k"),
                lambda c: c.pipeline().set("k", 1).execute(),
            ):
                began = time.monotonic()
                with pytest.raises((Unavailable, CacheTimeout)):
                    call(client)
                assert time.monotonic() - began < 1.5


def test_unknown_instance() -> None:
    """Connecting to what is not there fails at once, by name, or at the timeout by tcp."""
    began = time.monotonic()
    with pytest.raises(InstanceNotFound, match="no-such-instance"):
        shmcache.connect("shm://no-such-instance")
    assert time.monotonic() - began < 1
    with pytest.raises(Unavailable, match="no router answers"):
        shmcache.connect("tcp://127.0.0.1:1", timeout=0.2)

    async def connect() -> None:
        await shmcache.aio.connect("shm://no-such-instance")

    with pytest.raises(InstanceNotFound):
        asyncio.run(connect())


def test_timeout_of_a_stuck_worker(instance: RunningInstance) -> None:
    """A worker that does not answer: reads and repeatable writes time out, others have an unknown outcome;
    none is executed after its time.
    """
    with shmcache.connect(instance.url) as cache:
        cache.set("n", 0)
        pids = [instance.worker_pid(shard) for shard in range(2)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            for call, error in (
                (lambda: cache.ping(timeout=0.2), CacheTimeout),
                (lambda: cache.set("n", 5, timeout=0.2), CacheTimeout),
                (lambda: cache.incr("n", timeout=0.2), OutcomeUnknown),
            ):
                began = time.monotonic()
                with pytest.raises(error):
                    call()
                assert 0.15 < time.monotonic() - began < 1
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert cache.get("n") == b"0"
        assert cache.incr("n") == 1, "what timed out was not executed later"


def test_silent_router() -> None:
    """A peer that takes everything and says nothing costs the timeout, not more."""
    context = zmq.Context()
    peer = context.socket(zmq.ROUTER)
    port = peer.bind_to_random_port("tcp://127.0.0.1")
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            shmcache.connect(f"tcp://127.0.0.1:{port}", timeout=0.3)
        assert time.monotonic() - began < 1
    finally:
        peer.close(0)
        context.term()


def test_asyncio_tasks_share_a_client(url: str) -> None:
    """Hundreds of tasks at once; a task that is cancelled disturbs no other."""

    async def main() -> None:
        async with shmcache.aio.connect(url) as cache:
            await cache.delete("n")
            results = await asyncio.gather(*(cache.incr("n") for _ in range(300)))
            assert sorted(results) == list(range(1, 301))
            tasks = [asyncio.create_task(cache.echo(str(n))) for n in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert answers[1::2] == [b"%d" % n for n in range(1, 50, 2)]
            assert await cache.get("n") == b"300"

    asyncio.run(main())


def test_asyncio_client_in_two_loops(url: str) -> None:
    """A client that is used in a second loop connects anew there."""
    client = shmcache.aio.connect(url)

    async def use(last: bool) -> Any:
        await client.set("k", 1)
        answer = await client.get("k")
        if last:
            await client.close()
        return answer

    assert [asyncio.run(use(last)) for last in (False, True)] == [b"1", b"1"]


def test_asyncio_survives_a_killed_worker(instance: RunningInstance) -> None:
    """The asyncio client finds the next worker as the sync one does."""

    async def main() -> None:
        async with shmcache.aio.connect(instance.url) as cache:
            assert await cache.set("k", 1)
            for shard in range(2):
                instance.kill_worker(shard)
            assert await cache.mset({f"k{n}": n for n in range(20)})
            assert await cache.mget("k3", "k19") == [b"3", b"19"]

    asyncio.run(main())


def test_closed_client_connects_again(url: str) -> None:
    """close() gives everything up; the next use connects anew."""
    cache = shmcache.connect(url)
    cache.set("k", 1)
    cache.close()
    assert cache.get("k") == b"1"
    cache.close()
    cache.close()


def test_large_pipelines_are_split(url: str) -> None:
    """More commands than one message may carry: split, in order, results whole."""
    with shmcache.connect(url) as cache:
        pipeline = cache.pipeline()
        for number in range(40_000):
            pipeline.set(f"p{number}", number)
        assert pipeline.execute() == [True] * 40_000
        assert cache.get("p39999") == b"39999"
        keys = [f"p{number}" for number in range(40_000)]
        assert cache.mget(keys) == [b"%d" % number for number in range(40_000)]


@pytest.mark.long
def test_largest_value(url: str) -> None:
    """512 MB go in and come back; a byte more is refused."""
    with (
        running_instance(workers=1, memory="2GB") as running,
        shmcache.connect(running.url, timeout=120) as cache,
    ):
        value = os.urandom(1 << 20) * 512
        assert cache.set("k", value) is True
        assert cache.get("k") == value
        with pytest.raises(ShmcacheError):
            cache.set("k", value + b"x")
        assert cache.strlen("k") == len(value)


def test_no_sockets_are_left(url: str) -> None:
    """Calls that fail and clients that are closed leave no descriptors behind."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with shmcache.connect(url) as cache:
        cache.set("k", 1)
    before = descriptors()
    for _ in range(5):
        with shmcache.connect(url) as cache:
            cache.set("k", 1)
            with pytest.raises(ShmcacheError):
                cache.execute_command("GET")
    wait_until(lambda: descriptors() <= before + 3, 5, "descriptors are given back")
