"""The server's decisions, without processes: routing, restarts, take-over, limits of paths and space."""

from pathlib import Path
from typing import Any

import pytest

from shmcache import _engine, config, limits
from shmcache.errors import ConfigError, NoSpace
from shmcache.protocol import codec, frames
from shmcache.protocol.directory import DirectorySnapshot, even_slots, new_snapshot
from shmcache.protocol.slots import slot_bitmap, slot_ranges
from shmcache.server import paths, regions, restarts
from shmcache.server.plan import make_plan
from shmcache.server.regions import Leftover
from shmcache.server.routing import Routing
from shmcache.server.serving import batch_length


def test_first_restart_is_immediate_and_later_ones_back_off() -> None:
    """One death heals at once; a series waits longer and longer, up to a cap, and is reported."""
    delays = [restarts.restart_delay_s(deaths, served=False) for deaths in range(1, 12)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == limits.RESTART_DELAY_S_MAX
    assert restarts.has_failed(5, served=False)
    assert not restarts.has_failed(4, served=False)
    assert restarts.recent([0.0, 5.0, 11.0], 12.0) == [5.0, 11.0]


def test_child_that_served_heals_within_a_second_however_often_it_dies() -> None:
    """Whoever kills it a thousand times finds it back each time, and it is not called failed."""
    assert restarts.restart_delay_s(1000, served=True) < 0.5
    assert not restarts.has_failed(1000, served=True)


def test_slot_ranges_and_bitmaps_agree_with_the_table() -> None:
    """Both forms of the slot table cover every slot once."""
    for shards in (1, 3, 16):
        table = even_slots(shards)
        ranges = slot_ranges(table)
        assert len(ranges) == shards
        assert ranges[0][0] == 0
        assert ranges[-1][1] == 16383
        for first, last, shard in ranges:
            bits = int.from_bytes(slot_bitmap(ranges, shard), "little")
            assert bits == ((1 << (last + 1)) - 1) ^ ((1 << first) - 1)


def leftover(shard: int = 0, shards: int = 1, kinds: str = "data hints log") -> Leftover:
    return Leftover(shard, frozenset(kinds.split()), {"shards": shards})  # type: ignore[arg-type]


def test_whole_regions_of_the_same_number_of_workers_start_warm() -> None:
    """What fits is adopted; what was never formatted starts empty."""
    assert regions.adoptable([leftover(0, 2), leftover(1, 2)], 2) == {0, 1}
    assert regions.adoptable([Leftover(0, frozenset({"data"}), None)], 1) == frozenset()


@pytest.mark.parametrize("found", [leftover(shards=3), leftover(kinds="data hints")])
def test_regions_that_do_not_fit_ask_for_a_cold_start(found: Leftover) -> None:
    """Another number of workers, or a region lost, is an error that says what to do."""
    with pytest.raises(ConfigError, match="--cold"):
        regions.adoptable([found], 1)


def test_memory_that_can_never_fit_is_refused_and_a_tight_host_is_told() -> None:
    """Larger than /dev/shm in all: an error with advice. Larger than what is free now: a warning."""
    with pytest.raises(NoSpace, match=r"64.0 MB in all.*shm-size"):
        regions.check_space(1 << 30, 64 << 20, 64 << 20)
    assert "are free" in str(regions.check_space(1 << 30, 2 << 30, 1 << 20))
    assert regions.check_space(1 << 20, 2 << 30, 1 << 30) is None


def test_too_little_memory_for_the_workers_is_refused() -> None:
    """Every shard needs the engine's minimum."""
    options = config.load({"memory": _engine.MIN_MEMORY_BYTES * 2 - 2, "workers": 2}, environ={})
    with pytest.raises(ConfigError, match="fewer workers"):
        make_plan(options, {0, 1}, Path("/tmp/x"), -1, 1)


def test_workers_are_pinned_only_when_there_is_a_core_each() -> None:
    """Two workers on one core are left to the scheduler."""
    options = config.load({"workers": 2}, environ={})
    assert make_plan(options, {4, 7, 9}, Path("/tmp/x"), -1, 1).cores == (4, 7)
    assert make_plan(options, {4}, Path("/tmp/x"), -1, 1).cores == ()


def test_socket_paths_are_bounded_and_folders_private(tmp_path: Path) -> None:
    """A path too long for a unix socket, and a folder that is another user's, are configuration errors."""
    with pytest.raises(ConfigError, match="107 bytes"):
        paths.ipc_endpoint(Path("/tmp/" + "x" * 100), "a", "w0")
    folder = tmp_path / "run"
    paths.prepare_runtime_dir(folder, -1)
    assert folder.stat().st_mode & 0o777 == 0o700
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(ConfigError, match="not a folder"):
        paths.prepare_runtime_dir(link, -1)
    assert paths.runtime_dir("", {"SHMCACHE_RUNTIME_DIR": "/a"}) == Path("/a")
    assert paths.runtime_dir("", {"XDG_RUNTIME_DIR": "/b"}) == Path("/b/shmcache")


def test_batch_length() -> None:
    """The number of commands is read from the array's first bytes; junk counts as none."""
    for count in (0, 1, 15, 16, 70_000):
        assert batch_length(codec.encode_commands([["PING"]] * count)) == count
    assert batch_length(b"") == batch_length(b"\xc1") == 0


class Bench:
    """A `Routing` with recorded output and a hand-driven clock."""

    def __init__(self, shards: int = 2, **changes: Any) -> None:
        self.now = 0.0
        self.replies: list[list[bytes]] = []
        self.forwarded: list[tuple[int, list[bytes]]] = []
        self.room = True
        self.snapshot = new_snapshot("x", shards, 1)
        settings = {
            "outstanding_per_client": 3,
            "outstanding_per_shard": 5,
            "unavailable_wait_ms": 1000,
        } | changes
        self.routing = Routing(
            self.snapshot, settings, self.replies.append, self._forward, clock=lambda: self.now
        )

    def _forward(self, shard: int, message: list[bytes]) -> bool:
        if self.room:
            self.forwarded.append((shard, message))
        return self.room

    def serve(self, generation: int, state: str = "serving") -> None:
        from dataclasses import replace

        records = tuple(
            replace(record, state=state, generation=generation, endpoints=("ipc:///x",))  # type: ignore[arg-type]
            for record in self.snapshot.shards
        )
        self.snapshot: DirectorySnapshot = replace(self.snapshot, shards=records)
        for shard, endpoint in self.routing.update(self.snapshot):
            if endpoint:
                self.routing.flush(shard)

    def request(self, request_id: int, client: bytes = b"c", slot: int = 0) -> None:
        self.routing.request([client, frames.pack_header(slot=slot, request_id=request_id), b"\x90"])

    def answer(self, request_id: int, client: bytes = b"c") -> None:
        self.routing.reply([client, frames.pack_header(request_id=request_id), b"\x90"])

    def errors(self) -> list[str]:
        return [type(codec.decode_error(reply[-1])).__name__ for reply in self.replies]


def test_requests_go_to_the_shard_of_their_slot() -> None:
    """The slot in the header decides, nothing else."""
    bench = Bench()
    bench.serve(1)
    bench.request(1, slot=0)
    bench.request(2, slot=16383)
    assert [shard for shard, _ in bench.forwarded] == [0, 1]
    bench.answer(1)
    assert bench.routing.outstanding == 1
    assert bench.replies[0][0] == b"c"


def test_requests_for_a_shard_that_is_down_wait_for_its_worker() -> None:
    """They are forwarded in order when it comes, or refused as not executed when it does not come in time."""
    bench = Bench()
    bench.request(1)
    bench.request(2)
    assert not bench.forwarded
    assert not bench.replies
    bench.serve(1)
    assert [frames.request_id_of(message[-2]) for _, message in bench.forwarded] == [1, 2]
    bench.serve(1, "down")
    assert bench.routing.outstanding == 0
    bench.request(3)
    bench.now = 0.9
    bench.routing.expire()
    assert not bench.replies
    bench.now = 1.1
    bench.routing.expire()
    assert bench.errors() == ["Unavailable"]
    assert bench.routing.outstanding == 0


def test_outstanding_requests_are_bounded_per_client_and_per_shard() -> None:
    """Over a limit is an error reply; an answer makes room again."""
    bench = Bench()
    bench.serve(1)
    for request_id in range(4):
        bench.request(request_id)
    assert bench.errors() == ["LimitExceeded"]
    assert len(bench.forwarded) == 3
    for request_id in range(3):
        bench.request(request_id, b"other")
    assert bench.errors() == ["LimitExceeded"] * 2
    assert len(bench.forwarded) == 5
    bench.answer(0)
    bench.request(9)
    assert len(bench.forwarded) == 6


def test_a_full_queue_to_a_worker_is_refused_not_waited_for() -> None:
    """The router never blocks for one shard."""
    bench = Bench()
    bench.serve(1)
    bench.room = False
    bench.request(1)
    assert bench.errors() == ["Unavailable"]
    assert bench.routing.outstanding == 0


def test_a_request_sent_again_counts_once() -> None:
    """A client that repeats a request under its id does not use up its allowance."""
    bench = Bench()
    bench.serve(1)
    for _ in range(10):
        bench.request(1)
    assert bench.routing.outstanding == 1
    bench.answer(1)
    bench.answer(1)
    assert bench.routing.outstanding == 0
