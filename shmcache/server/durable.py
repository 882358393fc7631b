"""What a worker has to do with the disk: replies that wait for it, writes that it does not take. The disk itself is the keeper's."""

from ..errors import InstanceNotFound, LayoutMismatch
from ..protocol.persistence import PersistenceRegion, Row, State, Word

_TEXTS = {
    State.FULL: "the disk of the append-only file is full",
    State.FAILED: "the append-only file failed, what is on disk is not known until a snapshot succeeds",
}


class Disk:
    """One shard's view of the persistence region; of an instance without one it asks nothing."""

    def __init__(self, instance: str, shard: int) -> None:
        self._shard = shard
        self._region: PersistenceRegion | None = None
        try:
            self._region = PersistenceRegion.open(instance)
        except (InstanceNotFound, LayoutMismatch):
            pass
        self.holds = self._region is not None and bool(self._region.word(Word.ALWAYS))
        """Whether replies to writes wait until they are on the disk."""
        self.refuses = self._region is not None and bool(self._region.word(Word.REFUSES))
        """Whether writes are refused while the disk takes none."""

    def trouble(self) -> str:
        """Why nothing becomes durable at present; empty if it does, or if nobody is to mind."""
        if self._region is None or not self.refuses:
            return ""
        return _TEXTS.get(self._region.state, "")

    def durable(self) -> int:
        """Log position up to which everything is on the disk."""
        return self._region.row(self._shard, Row.DURABLE) if self._region is not None else 0
