"""An engine of its own on anonymous memory, for measurements without processes or sockets."""

import contextlib
import os
from collections.abc import Iterator

from shmcache import _engine

VALUE = b"v" * 64
BATCH = 1000


def key_of(number: int) -> bytes:
    """16 bytes."""
    return b"key:%012d" % number


@contextlib.contextmanager
def engine(memory_bytes: int) -> Iterator[tuple[_engine.Owner, _engine.Reader, tuple[int, int, int]]]:
    """Owner and reader of one shard, and the descriptors of data, hints and log."""
    data, hints, log = (os.memfd_create(f"shmcache-bench-{kind}") for kind in ("data", "hints", "log"))
    try:
        owner = _engine.Owner.create(data, hints, log, memory_bytes=memory_bytes)
        yield owner, _engine.Reader([(data, hints)], bytes(_engine.SLOT_COUNT * 2)), (data, hints, log)
        with contextlib.suppress(_engine.EngineError):  # closed by the measurement itself
            owner.close()
    finally:
        for fd in (data, hints, log):
            os.close(fd)


def fill(owner: _engine.Owner, keys: int) -> None:
    """SET keys 0..keys-1 to 64 bytes, in batches."""
    from shmcache.protocol.codec import encode_commands

    for start in range(0, keys, BATCH):
        owner.execute(encode_commands([(b"SET", key_of(n), VALUE) for n in range(start, min(keys, start + BATCH))]))
        owner.tick()


def memory_for(keys: int) -> int:
    """Generous memory for so many keys."""
    return keys * 192 + (64 << 20)


def allocated_bytes(fds: tuple[int, ...]) -> int:
    """Memory that the objects really take."""
    return sum(os.fstat(fd).st_blocks * 512 for fd in fds)
