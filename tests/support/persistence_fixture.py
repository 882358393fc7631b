"""Writes the files of a format version that are kept for ever: `python -m tests.support.persistence_fixture FOLDER`.

    log/        two shards: a snapshot, and the append-only file from there on with every kind of record but evictions
    evicting/   one shard: data that were there before persistence, a snapshot of them, then evictions

Each has an `expected.json` beside: what a start has to find. Only ever run for a new format version: tests/persistence/test_fixtures.py reads all.
"""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.disk_lives import Life, Shards
from tests.support.small_keeper import SmallKeeper

_FAR_MS = 4_000_000_000_000
_EVICTING_BYTES = 1 << 20


def content(shards: Shards) -> dict[str, Any]:
    """Key -> [value, or its sha256 if it is long, deadline in unix ms or -1]."""
    found = {}
    for owner in shards.owners:
        for key in owner.command("KEYS", "*"):
            value = owner.command("GET", key)
            text = value.decode() if len(value) < 100 else "sha256:" + hashlib.sha256(value).hexdigest()
            found[key.decode()] = [text, owner.command("PEXPIRETIME", key)]
    return dict(sorted(found.items()))


def _finish(life: Life, folder: Path) -> None:
    life.keeper.turn(life.now + 10)
    life.keeper.aof.end()
    (folder / "expected.json").write_text(json.dumps(content(life.shards), indent=1) + "\n")
    life.close()


def _snapshot(life: Life) -> None:
    life.keeper.snapshot()
    for _ in range(20):
        life.now += 0.1
        life.keeper.turn(life.now)


def write_log(folder: Path) -> None:
    """The one with all the commands."""
    (folder / "data").mkdir(parents=True)
    life = Life(folder / "data", 1, "always", 2)
    for n in range(20):
        life.command("SET", f"old{n}", f"flushed {n}")
    _snapshot(life)
    for owner in life.shards.owners:
        owner.command("FLUSHALL")
    for n in range(12):
        life.command("SET", f"key{n}", f"value {n}")
    life.command("MSET", "{group}a", 1, "{group}b", 2, "{group}c", 3)
    life.command("SET", "gone soon", "x", "PX", 1)
    life.command("SET", "mortal", "until then", "PXAT", _FAR_MS)
    life.keeper.turn(life.now)
    # Deadlines are looked at in coarse steps.
    until = time.monotonic() + 2
    while time.monotonic() < until:
        for owner in life.shards.owners:
            owner.tick()
        time.sleep(0.05)
    life.command("SET", "large", b"0123456789" * 2_000)
    life.command("DEL", "key3")
    life.command("PEXPIREAT", "key4", _FAR_MS + 4)
    life.command("PEXPIREAT", "mortal", _FAR_MS + 5)
    life.command("SET", "key5", "after the snapshot")
    life.command("INCR", "counter")
    life.command("SET", "", "the empty key")
    life.command("SET", "empty", "")
    life.keeper.turn(life.now)
    life.keeper.aof.rotate()
    life.command("SET", "key6", "in the last segment")
    life.command("MSET", "{group}a", "again", "{group}d", 4)
    life.keeper.turn(life.now)
    _finish(life, folder)


def write_evicting(folder: Path) -> None:
    """The one with evictions."""
    (folder / "data").mkdir(parents=True)
    life = Life(folder / "data", 1, "always", 1, on_warm_data=True, policy_of_keys="allkeys-lru", memory_bytes=_EVICTING_BYTES)
    n = 0
    while not life.shards.owners[0].stats()["evicted"]:
        life.command("SET", f"fill{n}", b"F" * 20_000)
        n += 1
    # What came before is in the snapshot alone, and compressed.
    life.keeper.kill()
    life.keeper = SmallKeeper(life)
    for _ in range(20):
        life.now += 1
        life.keeper.turn(life.now)
    for last in range(3):
        life.command("SET", f"after{last}", b"A" * 8_000)
        life.keeper.turn(life.now)
    _finish(life, folder)


def main() -> None:
    folder = Path(sys.argv[1])
    for name, write in (("log", write_log), ("evicting", write_evicting)):
        shutil.rmtree(folder / name, ignore_errors=True)
        write(folder / name)


if __name__ == "__main__":
    main()
