"""Regions in anonymous memory to copy and damage, and children in which a crash is only an observation."""

import os
import pickle
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from shmcache import _engine

PAGE_BYTES = 4096
WORD_BYTES = 8
CHILD_SECONDS_MAX = 60
"""A child that takes longer hangs: SIGALRM ends it and the test fails."""
ONE_SHARD = bytes(2 * _engine.SLOT_COUNT)


@dataclass(frozen=True)
class Regions:
    """Descriptors of one shard's three objects."""

    data: int
    hints: int
    log: int

    @staticmethod
    def anonymous() -> "Regions":
        return Regions(*(os.memfd_create(f"shmcache-test-{name}") for name in ("data", "hints", "log")))

    def create(self, memory_bytes: int = 4 << 20, **options: Any) -> _engine.Owner:
        options = {"log_bytes": 1 << 20, "capacity_bytes": memory_bytes, **options}
        return _engine.Owner.create(self.data, self.hints, self.log, memory_bytes=memory_bytes, **options)

    def attach(self) -> _engine.Owner:
        return _engine.Owner.attach(self.data, self.hints, self.log)

    def reader(self) -> _engine.Reader:
        return _engine.Reader([(self.data, self.hints)], ONE_SHARD)

    def copy(self) -> "Regions":
        """A copy as a crash would leave it: holes stay holes."""
        other = Regions.anonymous()
        for source, target in zip(self.descriptors(), other.descriptors(), strict=True):
            os.ftruncate(target, os.fstat(source).st_size)
            for start, end in committed(source):
                os.pwrite(target, os.pread(source, end - start, start), start)
        return other

    def descriptors(self) -> tuple[int, int, int]:
        return self.data, self.hints, self.log

    def close(self) -> None:
        for descriptor in self.descriptors():
            os.close(descriptor)


def committed(descriptor: int) -> Iterator[tuple[int, int]]:
    """The ranges of an object that have memory."""
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def scribble(descriptor: int, rng: random.Random, words: int, first: int = 0) -> None:
    """Overwrite `words` aligned words from byte `first` on: noise, small numbers, bits turned, copies."""
    ranges = [(max(start, first), end) for start, end in committed(descriptor) if end > first]
    weights = [end - start for start, end in ranges]
    for _ in range(words):
        at, other = (
            rng.randrange(*rng.choices(ranges, weights)[0], WORD_BYTES) // WORD_BYTES * WORD_BYTES
            for _ in range(2)
        )
        old = int.from_bytes(os.pread(descriptor, WORD_BYTES, at), "little")
        new = rng.choice((rng.getrandbits(64), rng.randrange(100), old ^ 1 << rng.randrange(64), None))
        data = os.pread(descriptor, WORD_BYTES, other) if new is None else new.to_bytes(WORD_BYTES, "little")
        os.pwrite(descriptor, data, at)


def in_child(probe: Callable[[], Any]) -> Any:
    """Run `probe` in a forked child and return its result. Fails if a signal or an exception ended it."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(receive)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(CHILD_SECONDS_MAX)
            result = (True, probe())
            code = 0
        except BaseException:
            # A Rust panic arrives as a BaseException: it is a failure like any other.
            result = (False, traceback.format_exc())
        with os.fdopen(send, "wb") as stream:
            stream.write(pickle.dumps(result))
        os._exit(code)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(pid, 0)
    assert not os.WIFSIGNALED(status), f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    succeeded, result = pickle.loads(data)
    assert succeeded, result
    return result
