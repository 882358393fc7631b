"""Files of every format version that there ever was are read, into any number of shards. They are kept for ever: a release that
cannot read them any more must not be made. Written by tests/support/persistence_fixture.py.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from shmcache import _engine
from shmcache.persistence.blocks import BlockKind
from shmcache.persistence.segments import open_segment, segment_numbers, segment_path
from shmcache.persistence.snapshots import read_manifest, snapshot_folder, snapshot_numbers, verify_shard
from tests.support.disk_lives import Shards, read_back
from tests.support.persistence_fixture import content

_FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/persistence"
_ALL = sorted(path.parent for path in _FIXTURES.glob("v*/*/expected.json"))


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("fixture", _ALL, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_read(tmp_path: Path, fixture: Path, shards: int) -> None:
    shutil.copytree(fixture / "data", tmp_path / "data")
    made = Shards(shards)
    read_back(tmp_path / "data", made)
    found = content(made)
    made.close()
    assert found == json.loads((fixture / "expected.json").read_text())


def test_snapshots_verify() -> None:
    for fixture in _ALL:
        data = fixture / "data"
        for number in snapshot_numbers(data):
            for shard in read_manifest(data, number).shards:
                verify_shard(snapshot_folder(data, number) / shard.file, shard)


def test_everything_occurs() -> None:
    """In the files of each version: every kind of record, a group, an entry with a deadline."""
    for version in {path.parent for path in _ALL}:
        kinds: Counter[str] = Counter()
        for data in version.glob("*/data"):
            for number in segment_numbers(data):
                with open_segment(segment_path(data, number)) as (_, reader):
                    for block in reader:
                        if block.head.kind == BlockKind.LOG:
                            for record in _engine.decode_records(reader.records(block)):
                                kinds[record.kind] += 1
                                kinds["group"] += record.more
                                kinds["deadline"] += bool(record.expiry_ms)
        assert set(+kinds) == {"set", "delete", "expire_at", "expired", "evicted", "flush", "group", "deadline"}
