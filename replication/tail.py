"""Follow the write logs of an instance on this host.

Each shard has its own log; records of one shard come in order, those of several shards interleaved.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from shmcache._engine import LogRecord, LogTailer, Overtaken, decode_records
from shmcache.errors import ConfigError
from shmcache.protocol.attach import open_tailer
from shmcache.protocol.directory import Directory

POLL_BYTES_MAX: Final = 1 << 20
IDLE_S: Final = 0.01
"""Pause between looks at logs that have nothing new."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One record. `position` is where its batch ends (what a later `from_` takes), `lag_bytes` what is unread then."""

    shard: int
    record: LogRecord
    position: int
    lag_bytes: int


@dataclass(frozen=True, slots=True)
class Missed:
    """The ring overwrote records before they were read; what follows begins at the oldest that is left."""

    shard: int
    missed_bytes: int


def tail(
    instance: str,
    shard: int | None = None,
    *,
    from_: Literal["oldest", "end"] | int = "end",
    follow: bool = True,
    name: str = "tail",
) -> Iterator[Logged | Missed]:
    """Iterate over the records of one shard or of all; without `follow` up to the end as it is now.

    The logs are registered with when this is called, not at the first step, so that `from_="end"` means now.
    `from_` is a position only together with `shard`. Raises InstanceNotFound, ConfigError, Overtaken if a position is gone.
    """
    directory = Directory.open(instance)
    records = [r for r in directory.snapshot().shards if shard is None or r.shard == shard]
    directory.close()
    if not records:
        raise ConfigError(f"instance {instance!r} has no shard {shard}")
    if isinstance(from_, int) and shard is None:
        raise ConfigError("a position belongs to one shard: name it")
    start = {"oldest": 0, "end": None}[from_] if isinstance(from_, str) else from_
    return _read({record.shard: open_tailer(record.log_name, name, start) for record in records}, follow)


def _read(tailers: dict[int, LogTailer], follow: bool) -> Iterator[Logged | Missed]:
    try:
        while True:
            idle = True
            for shard, tailer in tailers.items():
                try:
                    data = tailer.poll(POLL_BYTES_MAX)
                except Overtaken:
                    yield Missed(shard, tailer.resume_at_oldest())
                    idle = False
                    continue
                if data:
                    idle = False
                    position, lag = tailer.position, tailer.lag_bytes
                    for record in decode_records(data):
                        yield Logged(shard, record, position, lag)
            if idle:
                if not follow:
                    return
                time.sleep(IDLE_S)
    finally:
        for tailer in tailers.values():
            tailer.close()
