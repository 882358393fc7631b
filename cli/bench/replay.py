"""Replay a recorded trace from several client processes: get, and on a miss set.

The parent starts the clients, shows their progress and merges what they counted; `replay_share` is a client.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmcache.errors import ShmcacheError

from .timing import Percentiles, clock_overhead_ns, percentiles
from .trace import Trace, share

PROGRESS_EVERY = 4096
"""Requests between two reports of a client."""
START_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Counted:
    """What one client saw. Times are nanoseconds of single calls."""

    hits: int
    get_ns: np.ndarray
    set_ns: np.ndarray
    refused: int
    """Sets that the server refused because its memory is full."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """A whole replay."""

    requests: int
    hits: int
    refused: int
    seconds: float
    gets: Percentiles
    sets: Percentiles

    @property
    def hit_ratio(self) -> float:
        return self.hits / self.requests

    @property
    def operations_per_s(self) -> float:
        """Gets and sets."""
        return (self.gets.count + self.sets.count) / self.seconds


def key_of(number: int) -> bytes:
    """16 bytes for every id, so that entries of equal values are equal."""
    return b"%016x" % number


def replay_share(client: Any, trace: Trace, value_bytes: int, progress: Callable[[int], None]) -> Counted:
    """Replay one client's requests over an open client."""
    from shmcache.errors import OutOfMemory

    clock, get, set_ = time.perf_counter_ns, client.get, client.set
    get_ns = np.empty(len(trace.ids), np.int64)
    set_ns: list[int] = []
    hits = refused = 0
    filler = bytes(max(value_bytes, int(trace.sizes.max()) if trace.sizes is not None else 0))
    value = filler[:value_bytes]
    sizes = None if trace.sizes is None else trace.sizes.tolist()
    started = clock()
    for i, number in enumerate(trace.ids.tolist()):
        key = key_of(number)
        before = clock()
        found = get(key)
        get_ns[i] = clock() - before
        if found is not None:
            hits += 1
        else:
            data = value if sizes is None else filler[: sizes[i]]
            before = clock()
            try:
                set_(key, data)
            except OutOfMemory:
                refused += 1
            set_ns.append(clock() - before)
        if not i % PROGRESS_EVERY:
            progress(i)
    return Counted(hits, get_ns, np.array(set_ns, np.int64), refused, (clock() - started) / 1e9)


def _client_process(url: str | None, part: Trace, value_bytes: int, pipe: Any, gate: Any, done: Any, timeout: float) -> None:
    import shmcache

    def progress(requests: int) -> None:
        done.value = requests

    try:
        with shmcache.connect(url, timeout=timeout) as client:
            client.get(key_of(0))
            gate.wait(START_S_MAX)
            pipe.send(replay_share(client, part, value_bytes, progress))
    except (ShmcacheError, OSError) as error:
        gate.abort()
        pipe.send(f"{type(error).__name__}: {error}")
    except Exception as error:  # an abandoned gate: another client has reported why
        pipe.send(f"{type(error).__name__}: {error}")


def run(
    url: str | None,
    trace: Trace,
    clients: int,
    value_bytes: int,
    progress: Callable[[int], None] = lambda _requests: None,
    timeout: float = 10.0,
) -> Result:
    """Replay from `clients` processes that start together. Raises ShmcacheError with the first client's error."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(clients)
    counts, pipes, processes = [], [], []
    for number in range(clients):
        receiver, sender = context.Pipe(duplex=False)
        done = context.Value("q", 0, lock=False)
        arguments = (url, share(trace, number, clients), value_bytes, sender, gate, done, timeout)
        process = context.Process(target=_client_process, args=arguments, daemon=True)
        process.start()
        sender.close()
        counts.append(done)
        pipes.append(receiver)
        processes.append(process)
    try:
        answers = _gather(pipes, lambda: progress(sum(done.value for done in counts)))
    finally:
        for process in processes:
            process.terminate()
            process.join()
    errors = [answer for answer in answers if isinstance(answer, str)]
    if errors:
        first = next((error for error in errors if not error.startswith("BrokenBarrier")), errors[0])
        raise ShmcacheError(f"a replay client failed: {first}")
    progress(len(trace.ids))
    return merged([answer for answer in answers if isinstance(answer, Counted)])


def _gather(pipes: list[Any], report: Callable[[], None]) -> list[Counted | str]:
    from multiprocessing.connection import wait

    answers: list[Counted | str] = []
    waiting = list(pipes)
    while waiting:
        for pipe in wait(waiting, timeout=0.1):
            try:
                answers.append(pipe.recv())  # type: ignore[union-attr]
            except EOFError:
                answers.append("a client process ended without a word")
            waiting.remove(pipe)
        report()
    return answers


def merged(parts: list[Counted]) -> Result:
    """Percentiles are of all single calls together; the time is that of the slowest client."""
    overhead = clock_overhead_ns()
    gets = np.concatenate([part.get_ns for part in parts])
    return Result(
        requests=len(gets),
        hits=sum(part.hits for part in parts),
        refused=sum(part.refused for part in parts),
        seconds=max(part.seconds for part in parts),
        gets=percentiles(gets, overhead),
        sets=percentiles(np.concatenate([part.set_ns for part in parts]), overhead),
    )
