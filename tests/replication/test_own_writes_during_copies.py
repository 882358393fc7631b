"""What a link says of the upstream's stamps while it copies: a client's own write has arrived when all of the copy has, not before."""

import uuid
from collections.abc import Callable
from typing import Any

from shmcache.errors import ResponseError
from shmcache.protocol.directory import SHARDS_MAX
from shmcache.protocol.replication import Followed, Identity, ReplicationRegion, Word
from shmcache.replication.frames import Encoder, Frame
from shmcache.replication.link import Link
from tests.support.instance import remove_objects

HISTORY, EPOCH, SHARDS = 77, 1, 2
UPSTREAM = "tcp://127.0.0.1:1"


class Wires:
    """Notes what the link asks for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def open(self, relay: str, log: str) -> None: ...
    def subscribe(self, shards: int) -> None: ...
    def reconnect(self) -> None: ...
    def close(self) -> None: ...

    def ask(self, call: str, arguments: dict[str, Any]) -> int:
        self.asked.append((call, arguments))
        return len(self.asked)

    ask_router = ask

    def last(self, call: str) -> tuple[int, dict[str, Any]]:
        """The latest question of that kind: its id and arguments."""
        return next((n, arguments) for n, (name, arguments) in reversed(list(enumerate(self.asked, 1))) if name == call)


class Workers:
    """Apply everything at once."""

    is_full, idle = False, True

    def records(self, records: bytes, done: Callable[[], None], *, own_too: bool = False) -> None:
        done()

    def everywhere(self, call: str, arguments: dict[str, Any], done: Callable[[], None], on_result: Any = None) -> None:
        if on_result is not None:
            on_result({"cursor": 0})
        done()


class Following:
    """A link that has been greeted."""

    def __init__(self, followed: dict[int, int]) -> None:
        self.wires = Wires()
        table = {UPSTREAM: Followed(HISTORY, followed)} if followed else {}
        identity = Identity("r", 5, role="replica", upstream=UPSTREAM, followed=table)
        self.link = Link(UPSTREAM, self.wires, Workers(), lambda: identity, lambda name, fields: None, {"node": 0}, dict)  # type: ignore[arg-type]
        self.now, self.sliced = 100.0, 0
        self.link.tick(self.now)
        self.answer("replication", {"relay": UPSTREAM, "log": UPSTREAM})
        self.answer(
            "hello",
            {
                "instance": "up", "replica_id": "u", "history": HISTORY, "epoch": EPOCH, "role": "primary", "syncing": False,
                "shards": SHARDS, "slots": [[0, 8191, 0], [8192, 16383, 1]], "heads": {0: 640, 1: 640}, "oldest": {0: 320, 1: 0},
                "fork": None, "router": UPSTREAM, "node": 0,
            },
        )  # fmt: skip

    def answer(self, call: str, result: Any) -> None:
        self.link.answer(self.wires.last(call)[0], result)

    def slice(self, stamp: int, *, done: bool = False, position: int = 640) -> None:
        """Answer the next slice of the copy."""
        self.link.tick(self.now)
        asked = enumerate(self.wires.asked, 1)
        request = next(number for number, (call, fields) in asked if call == "slice" and fields["number"] == self.sliced)
        self.link.answer(request, {"records": b"", "done": done, "log": b"", "position": position, "last_stamp": stamp})
        self.sliced += 1

    def stamps(self) -> list[int]:
        return [shard.applied_stamp for shard in self.link.shards]

    def heartbeat(self, shard: int, position: int, stamp: int) -> None:
        self.link.log(Encoder(False).encode(Frame(shard, EPOCH, HISTORY, position, position, 0, 0, stamp, 1, b"")))


def test_slices_say_nothing_of_what_is_still_to_come() -> None:
    """The log that comes with a slice has later stamps than writes in slots that no slice has brought yet."""
    following = Following({1: 640})
    following.slice(1_000)
    following.slice(2_000)
    assert following.stamps() == [0, 0]
    following.heartbeat(0, 640, 3_000)
    assert following.stamps() == [0, 0]
    following.slice(2_500, done=True)
    assert following.stamps() == [3_000, 0]


def test_what_had_arrived_before_a_gap_became_a_copy_still_has() -> None:
    following = Following({0: 640, 1: 640})
    following.heartbeat(0, 640, 500)
    assert following.stamps() == [500, 0]
    following.heartbeat(0, 9_600, 900)
    following.link.tick(following.now)
    following.answer("fetch", ResponseError("GONE", "overtaken"))
    following.slice(1_000)
    assert following.stamps() == [500, 0]
    following.slice(1_200, done=True, position=9_600)
    assert following.stamps() == [1_200, 0]


def test_another_upstream_begins_without_stamps() -> None:
    name = f"t{uuid.uuid4().hex[:10]}"
    region = ReplicationRegion.take(name, 1)
    try:
        region.store(Word.UPSTREAM_SHARDS, 2)
        for shard in (0, 1, SHARDS_MAX - 1):
            region.store_stamp(shard, 5)
        region.clear_stamps()
        assert not any(region.stamp(shard) for shard in range(SHARDS_MAX))
        assert region.word(Word.UPSTREAM_SHARDS) == 2
    finally:
        region.close()
        remove_objects(name)
