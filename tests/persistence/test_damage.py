"""Files that are not what was written: the right data, or DamagedFile with the name and the offset; nothing else, ever."""

import itertools
import json
import random
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmcache.errors import DamagedFile, WrongKey
from shmcache.limits import BLOCK_BYTES_MAX
from shmcache.persistence import blocks
from shmcache.persistence.blocks import BlockKind, BlockReader, BlockWriter, Codec, FileKind, Head
from shmcache.persistence.files import OS_FILES
from shmcache.persistence.recovery import close_open_segments
from shmcache.persistence.segments import close_torn, open_segment, scan, segment_numbers, segment_path
from shmcache.persistence.snapshots import MANIFEST, Manifest
from tests.support.disk_lives import NoLog, Shards, read_back
from tests.support.persistence_fixture import content

_DATA = Path(__file__).resolve().parents[1] / "fixtures/persistence/v1/log/data"
_FILES = sorted(path.relative_to(_DATA) for path in _DATA.rglob("*") if path.is_file())
_MEMORY_BYTES_MAX = 64 << 20


def look(folder: Path, shards: int = 2) -> dict[str, Any]:
    made = Shards(shards)
    try:
        read_back(folder, made)
        return content(made)
    finally:
        made.close()


def block_ends(path: Path) -> list[int]:
    with open_segment(path) as (_, reader):
        return [reader.at, *(block.end for block in reader)]


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the files hold; and without blocks at the end of the last segment, as nothing behind these says whether they were synced."""
    folder = tmp_path_factory.mktemp("allowed") / "data"
    name = segment_path(Path(), segment_numbers(_DATA)[-1])
    found = []
    for end in block_ends(_DATA / name):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_DATA, folder)
        with (folder / name).open("r+b") as file:
            file.truncate(end)
        found.append(look(folder))
    return found


def check(folder: Path, allowed: list[dict[str, Any]], changed: Path, shards: int) -> str:
    """Read a folder with something wrong; returns what came of it."""
    try:
        found = look(folder, shards)
    except DamagedFile as damage:
        assert Path(damage.name).exists() or "missing" in damage.what
        assert 0 <= damage.offset <= max((folder / changed).stat().st_size, 1 << 16)
        return "refused"
    assert found in allowed
    return "right"


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Something that can happen to a file."""
    at, end = sorted((rng.randrange(len(data)), rng.randrange(len(data) + 1)))
    match rng.randrange(9):
        case 0 | 1:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + rng.randbytes(rng.randrange(1, 200)) + data[at:]
        case 4:
            return data[:at] + data[end:]
        case 5:
            return data[:at] + bytes(end - at) + data[end:]
        case 6:
            return data[:end] + data[at:]
        case 7:
            return data[:at] + other[at:end] + data[end:]
        case _:
            # A size, as large as it can be.
            return data[:at] + b"\xff\xff\xff\x7f" + data[at + 4 :]


def swap_blocks(data: bytes, ends: list[int], rng: random.Random) -> bytes:
    """Whole blocks in another order, twice, or not at all."""
    pieces = [data[a:b] for a, b in itertools.pairwise(ends)]
    at = rng.randrange(len(pieces))
    match rng.randrange(3):
        case 0:
            pieces.insert(at, rng.choice(pieces))
        case 1:
            del pieces[at]
        case _:
            rng.shuffle(pieces)
    return data[: ends[0]] + b"".join(pieces)


def attack(folder: Path, allowed: list[dict[str, Any]], rounds: int, seed: int) -> dict[str, int]:
    counts = {"refused": 0, "right": 0}
    for nth in range(rounds):
        rng = random.Random(f"{seed}/{nth}")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_DATA, folder)
        changed, other = rng.choice(_FILES), rng.choice(_FILES)
        data = (folder / changed).read_bytes()
        if changed.suffix == ".aof" and rng.random() < 0.3:
            mutated = swap_blocks(data, block_ends(folder / changed), rng)
        elif rng.random() < 0.1:
            mutated = (folder / other).read_bytes()
        else:
            mutated = mutate(data, (folder / other).read_bytes(), rng)
        (folder / changed).write_bytes(mutated)
        try:
            counts[check(folder, allowed, changed, rng.choice((1, 2, 3)))] += 1
        except BaseException as error:
            error.add_note(f"mutation {seed}/{nth} of {changed}")
            raise
    return counts


def test_mutations(tmp_path: Path, allowed: list[dict[str, Any]]) -> None:
    tracemalloc.start()
    counts = attack(tmp_path / "data", allowed, 400, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < _MEMORY_BYTES_MAX
    assert counts["refused"] > 200
    assert counts["right"] > 5


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
def test_many_mutations(tmp_path: Path, allowed: list[dict[str, Any]], seed: int) -> None:
    attack(tmp_path / "data", allowed, 3_000, seed)


def forged(meta: bytes | None, head: Head, stored: bytes, kind: FileKind) -> bytes:
    """A file with checksums that are right, whatever is in it."""
    writer = BlockWriter(bytes(16))
    header = writer.header(kind, {"number": 1, "lineage": 1, "continues": False, "starts": {"0": 0}, "created_ms": 1})
    if meta is not None:
        header = blocks._HEADER.pack(blocks.MAGIC, 1, kind, len(meta), blocks.zlib.crc32(meta)) + meta
    bare = blocks._pack(head, len(stored), 0)
    return header + blocks._pack(head, len(stored), blocks._checksum(bytes(16), bare[8:], stored)) + stored


_U32, _U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
_HEADS = st.builds(
    Head, st.integers(0, 4), st.integers(0, 7), st.integers(0, 1), _U32, _U32, st.integers(0, 2), st.just(0), _U64, _U64, _U64, _U64, _U64, _U64
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.none() | st.binary(max_size=80) | st.just(b"[" * 100_000), _HEADS, st.binary(max_size=200), st.booleans())
def test_right_checksums_over_nonsense(tmp_path: Path, meta: bytes | None, head: Head, stored: bytes, packed: bool) -> None:
    """Also who can make checksums gets a DamagedFile, or records that the engine then looks at."""
    path = tmp_path / "0000000001.aof"
    if packed:
        stored = zstandard.ZstdCompressor().compress(stored)
    path.write_bytes(forged(meta, head, stored, FileKind.LOG))
    try:
        scan(path)
        with open_segment(path) as (_, reader):
            for block in reader:
                reader.records(block)
    except DamagedFile as damage:
        assert 0 <= damage.offset <= path.stat().st_size
    except WrongKey:
        assert meta is not None, "only a header that names a key asks for one"


@pytest.mark.parametrize("shards", [1, 2])
def test_records_that_are_none(tmp_path: Path, shards: int) -> None:
    """Blocks whose checksum is right around records that are wrong: refused with the block's offset, by one shard as by several."""
    (tmp_path / "log").mkdir()
    (tmp_path / "snapshots").mkdir()
    head = Head(BlockKind.LOG, 0, 0, 64, 1, 0, 0, 64, 1, 1, 1, 1, 0)
    segment_path(tmp_path, 1).write_bytes(forged(None, head, b"\7" * 64, FileKind.LOG))
    with pytest.raises(DamagedFile, match=r"0000000001\.aof, offset \d\d+: its records"):
        look(tmp_path, shards)


@pytest.mark.parametrize("claimed", [1000, 1 << 31, BLOCK_BYTES_MAX + 1])
def test_bombs(tmp_path: Path, claimed: int) -> None:
    """Few bytes that say that they become many: no memory is taken before that is known to be so."""
    bomb = zstandard.ZstdCompressor(write_content_size=claimed != 1000).compress(bytes(100 << 20))
    head = Head(BlockKind.LOG, Codec.ZSTD, 0, claimed, 1, 0, 0, 64)
    path = tmp_path / "0000000001.aof"
    path.write_bytes(forged(None, head, bomb, FileKind.LOG))
    tracemalloc.start()
    with pytest.raises(DamagedFile), path.open("rb") as file:
        reader = BlockReader(file, str(path), FileKind.LOG)
        for block in reader:
            reader.records(block)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_size_that_the_file_has_not(tmp_path: Path) -> None:
    """2 GB are not asked for to read a small file."""
    path = tmp_path / "0000000001.aof"
    whole = forged(None, Head(BlockKind.LOG, 0, 0, 64, 1, 0, 0, 64), bytes(64), FileKind.LOG)
    at = whole.index(blocks.BLOCK_MAGIC) + 8
    path.write_bytes(whole[:at] + (2 << 30).to_bytes(4, "little") + whole[at + 4 :])
    tracemalloc.start()
    assert scan(path).torn is not None
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3) | st.floats(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["shards", "number", "lineage", "x"]), inner, max_size=3)))
def test_manifests_of_nonsense(value: Any) -> None:
    body = json.dumps(value)
    for data in (body.encode(), json.dumps({"format": 1, "crc32": blocks.zlib.crc32(body.encode()), "manifest": body}).encode()):
        with pytest.raises(DamagedFile):
            Manifest.parse(data, "name")


@pytest.mark.parametrize(("field", "value"), [("number", "1"), ("first_segment", -1), ("lineage", None), ("file", "../../passwd")])
def test_manifest_with_a_wrong_field(field: str, value: Any) -> None:
    found = json.loads(json.loads((_DATA / "snapshots/0000000001" / MANIFEST).read_text())["manifest"])
    (found["shards"][0] if field == "file" else found)[field] = value
    body = json.dumps(found)
    with pytest.raises(DamagedFile, match="not a manifest"):
        Manifest.parse(json.dumps({"format": 1, "crc32": blocks.zlib.crc32(body.encode()), "manifest": body}).encode(), "name")


def open_log(tmp_path: Path) -> tuple[Path, list[int]]:
    """A segment without its end, of blocks that each know the one before synced."""
    folder = tmp_path / "data"
    shutil.copytree(_DATA, folder)
    path = segment_path(folder, segment_numbers(folder)[-1])
    with open_segment(path) as (_, reader):
        writer = BlockWriter(reader.file_id)
        parts, at = [path.read_bytes()[: reader.at]], reader.at
        for block in reader:
            if block.head.kind == BlockKind.LOG:
                parts.append(writer.block(block.head._replace(synced_to=at), block.stored))
                at += len(parts[-1])
    path.write_bytes(b"".join(parts))
    return path, block_ends(path)


def test_damage_below_what_was_synced_is_refused(tmp_path: Path) -> None:
    """With the offset of the block, whichever bit it is; and nothing is changed by looking."""
    path, ends = open_log(tmp_path)
    whole = path.read_bytes()
    for at in range(ends[0], ends[1], 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(DamagedFile, match="below what was synced") as raised:
            close_open_segments(OS_FILES, tmp_path / "data", None, NoLog())
        assert (raised.value.name, raised.value.offset) == (str(path), ends[0])
        assert path.stat().st_size == len(whole)


@pytest.mark.parametrize("damage", [lambda end: end[:-3], lambda end: end[:40], lambda end: bytes(len(end)), lambda end: end[:60] + b"?" + end[61:]])
def test_torn_end_is_cut_kept_and_said(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path, ends = open_log(tmp_path)
    whole = path.read_bytes()
    torn = damage(whole[ends[-2] :])
    path.write_bytes(whole[: ends[-2]] + torn)
    log = NoLog()
    close_open_segments(OS_FILES, tmp_path / "data", None, log)
    text, fields = log.lines[0]
    assert "torn end" in text
    assert fields["offset"] == ends[-2]
    assert Path(fields["kept"]).read_bytes() == torn
    assert scan(path).is_whole
    assert close_torn(OS_FILES, path)[1] is None
