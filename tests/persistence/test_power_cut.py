"""Power cuts at every operation of the disk: what was durable is there, each shard is as it once was, and what reads it can be cut as well.

That these tests can fail is tested too: with a disk that does not sync what it is told to, cuts are found that lose what was said to be durable. Found with them
when they were new: a log segment whose header was torn was taken for damage; a segment that only a snapshot could make sense of was
read, or gone on from, without that snapshot; folders whose own names were not on the disk; the end of a segment that was not synced
before another one began. `-m long`: hundreds of thousands of cuts.
"""

import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk_lives import Life
from tests.support.torn_disk import Operation, materialise

_POLICIES = ("always", "everysec", "no")


@pytest.fixture
def base() -> Iterator[Path]:
    """In memory: the real disk has no part in it."""
    with tempfile.TemporaryDirectory(prefix="shmc-cuts-", dir="/dev/shm") as folder:
        yield Path(folder)


def cut_everywhere(base: Path, life: Life, seed: str, each: int, lives: int) -> int:
    """Check `each` disks for a cut after every operation of a life, and go on from one of them with another; returns how many."""
    rng = random.Random(f"{seed}/{lives}")
    folder = base / f"cut{lives}"
    following = base / f"life{lives}"
    chosen = rng.randrange(len(life.disk.record) // 2, len(life.disk.record))
    seen: set[int] = set()
    checked = 0
    for operations, disk in life.disk.cuts():
        for nth in range(each):
            state = f"{seed}/{lives}/{operations}/{nth}"
            picture = disk.after_cut(random.Random(state))
            checked += 1
            if operations == chosen and not nth:
                materialise(picture, following)
            look = hash((tuple(picture.items()), life.durable(operations)))
            if look in seen:
                # The same disk need not be read twice.
                continue
            seen.add(look)
            materialise(picture, folder)
            # Mostly the same number of shards, as that also compares positions.
            try:
                life.check(folder, operations, rng.choice((life.shards.count, life.shards.count, 1, 3)))
            except Exception as error:
                error.add_note(f"cut {state}: after {life.disk.record[max(0, operations - 1)]!r:.300}")
                raise
    if lives > 1:
        shards = rng.randint(1, 3)
        with contextlib.closing(Life(following, rng.getrandbits(32), life.policy, shards, fault_share=0.1)) as second:
            second.run(8)
            checked += cut_everywhere(base, second, seed, each, lives - 1)
    shutil.rmtree(following, ignore_errors=True)
    return checked


def lives(base: Path, policy: str, seed: int, steps: int, each: int) -> int:
    """A life, perhaps with faults, perhaps of data that were there before persistence was; then two more."""
    root = base / "root"
    root.mkdir()
    fault_share = 0.2 if seed % 2 else 0.0
    with contextlib.closing(Life(root, seed, policy, 2, fault_share=fault_share, on_warm_data=seed % 4 > 1)) as life:
        life.run(steps)
        checked = cut_everywhere(base, life, f"{policy}/{seed}", each, 3)
    shutil.rmtree(root)
    return checked


@pytest.mark.parametrize("policy", _POLICIES)
def test_cuts(base: Path, policy: str) -> None:
    checked = sum(lives(base, policy, seed, 16, 3) for seed in range(4))
    assert checked > 1000


@pytest.mark.long
@pytest.mark.parametrize("policy", _POLICIES)
@pytest.mark.parametrize("block", range(50))
def test_many_cuts(base: Path, policy: str, block: int) -> None:
    """About a thousand cuts each."""
    for seed in range(100 + 4 * block, 104 + 4 * block):
        lives(base, policy, seed, 30, 3)


def lost_cuts(base: Path, life: Life, seed: int) -> list[str]:
    """What the cuts of a life on a lying disk have lost."""
    lost = []
    for operations, disk in life.disk.cuts():
        materialise(disk.after_cut(random.Random(f"{seed}/{operations}")), base / "cut")
        try:
            life.check(base / "cut", operations, 2)
        except Exception as error:
            lost.append(str(error))
    return lost


@pytest.mark.parametrize("lie", ["sync", "sync_folder"])
def test_a_lying_disk_is_found_out(base: Path, lie: str) -> None:
    """The proof that a forgotten sync would be seen: here the disk forgets it, after it was asked for."""
    root = base / "root"
    root.mkdir()
    with contextlib.closing(Life(root, 4, "always", 2)) as life:
        life.run(12)
        # Another operation in its place, so that the counts of operations stay.
        life.disk.record = [Operation("open", one.path, file=0) if one.name == lie else one for one in life.disk.record]
        assert lost_cuts(base, life, 1)


def test_too_early_an_answer_is_found_out(base: Path) -> None:
    """The proof that DURABLE before the sync would be seen."""
    root = base / "root"
    root.mkdir()
    with contextlib.closing(Life(root, 4, "always", 2)) as life:
        life.run(12)
        life.notes = [(max(0, operations - 1), rows) for operations, rows in life.notes]
        assert any("durable up to" in text for text in lost_cuts(base, life, 2))
