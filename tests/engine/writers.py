"""Several owners that write the same keys, and the logs that they exchange."""

from dataclasses import dataclass
from typing import Any

from shmcache import _engine
from tests.engine.regions import Regions, new_regions


@dataclass
class Writer:
    """An owner and a tailer of its log."""

    regions: Regions
    owner: _engine.Owner
    tailer: _engine.LogTailer

    def command(self, *args: Any) -> Any:
        return self.owner.command(*args)

    def news(self) -> bytes:
        """What the log got since the last call."""
        parts = []
        while part := self.tailer.poll(1 << 20):
            parts.append(part)
        return b"".join(parts)

    def records(self) -> list[_engine.LogRecord]:
        return _engine.decode_records(self.news())

    def reattach(self) -> None:
        """A new owner, as after the death of this one: nobody closed the region."""
        self.owner = self.regions.attach()

    def close(self) -> None:
        self.tailer.close()
        self.owner.close()
        self.regions.close()


class Writers:
    """Makes writers, and closes them all."""

    def __init__(self) -> None:
        self.made: list[Writer] = []

    def __call__(
        self,
        memory_bytes: int = 16 << 20,
        log_bytes: int = 4 << 20,
        policy: str = "noeviction",
        **options: Any,
    ) -> Writer:
        regions = new_regions()
        owner = regions.create(memory_bytes=memory_bytes, log_bytes=log_bytes, policy=policy)
        if options:
            owner.configure(**options)
        writer = Writer(regions, owner, _engine.LogTailer(regions.log, "test", 0))
        self.made.append(writer)
        return writer

    def close(self) -> None:
        for writer in self.made:
            writer.close()
