"""How much memory holds so many entries: measured with the engine, not guessed."""

import os

from shmcache import _engine

from .replay import key_of

_BATCH = 1000


def memory_for_entries(entries: int, value_bytes: int, shards: int = 1) -> int:
    """Bytes of `--memory` at which an instance holds this many equal entries and not many more."""
    per_shard = -(-entries // shards)
    fds = [os.memfd_create(f"shmcache-capacity-{kind}") for kind in ("data", "hints", "log")]
    try:
        generous = max(_engine.MIN_MEMORY_BYTES, per_shard * (value_bytes + 256) * 2 + (8 << 20))
        owner = _engine.Owner.create(*fds, memory_bytes=generous, log_bytes=1 << 20)
        value = bytes(value_bytes)
        for start in range(0, per_shard, _BATCH):
            for number in range(start, min(start + _BATCH, per_shard)):
                owner.command(b"SET", key_of(number), value)
            owner.tick()
        while owner.tick():
            pass
        used = int(owner.stats()["used_bytes"])
        owner.close()
    finally:
        for fd in fds:
            os.close(fd)
    return max(used, _engine.MIN_MEMORY_BYTES) * shards
