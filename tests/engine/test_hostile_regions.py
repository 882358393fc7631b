"""Damaged, foreign and full regions: a typed error, never a signal, never a hang. Each probe is a child."""

import os
import random
import subprocess
import time

import pytest

from shmcache import _engine
from tests.engine.damage import PAGE_BYTES, WORD_BYTES, Regions, in_child, scribble

HEADER_END = 360
HARMFUL = (0, 1, 7, 1000, 4097, 1 << 20, 1 << 33, 1 << 63, (1 << 64) - 1, 0xFF << 40)
KEYS = [b"key-%d" % number for number in range(3000)]
LOOKS_SECONDS_MAX = 20


@pytest.fixture(scope="module")
def crashed():
    """Regions whose owner was killed while 3,000 keys (large ones and deadlines among them) were there."""
    regions = Regions.anonymous()

    def owner_that_dies() -> None:
        owner = regions.create(8 << 20, policy="allkeys-lru")
        for number, key in enumerate(KEYS):
            owner.command("SET", key, bytes([number % 256]) * (number % 700 if number % 100 else 50_000))
            if number % 5 == 0:
                owner.command("PEXPIRE", key, 3_600_000)
        os._exit(0)

    pid = os.fork()
    if pid == 0:
        owner_that_dies()
    assert os.waitpid(pid, 0)[1] == 0
    yield regions
    regions.close()


def look(reader: _engine.Reader, rng: random.Random, count: int) -> dict[str, int]:
    """Read in every way; the only outcomes are a result or a typed error. Counts them."""
    seen = {"result": 0}
    begun = time.monotonic()
    for _ in range(count):
        key = rng.choice(KEYS)
        ways = (
            lambda key=key: reader.get(key),
            lambda key=key: reader.get_stamped(key),
            lambda: reader.mget(rng.choices(KEYS, k=5)),
            lambda: reader.scan(0, rng.getrandbits(8), None, 10, None),
            lambda: reader.command("RANDOMKEY"),
            lambda key=key: reader.command("GETRANGE", key, -20, -1),
            lambda key=key: reader.command("PTTL", key),
        )
        try:
            rng.choice(ways)()
            seen["result"] += 1
        except _engine.EngineError as error:
            seen[type(error).__name__] = seen.get(type(error).__name__, 0) + 1
        assert time.monotonic() - begun < LOOKS_SECONDS_MAX, f"{count} looks do not end: {seen}"
    return seen


def use(regions: Regions, rng: random.Random) -> str:
    """What a worker does with regions that it finds: attach, work, stop. Returns how far it came.

    `stopped`: attached, but then the walk or an assertion met the contradiction. Either ends a worker.
    """
    try:
        owner = regions.attach()
    except _engine.EngineError as error:
        return type(error).__name__
    try:
        for number in range(200):
            for command in (
                ("SET", b"new-%d" % number, rng.randbytes(rng.randrange(3000))),
                ("GET", rng.choice(KEYS)),
                ("DEL", rng.choice(KEYS)),
            ):
                try:
                    owner.command(*command)
                except _engine.CommandError:
                    pass
        owner.tick()
        owner.close()
    except _engine.EngineError:
        return "stopped"
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return "stopped"
    return "attached"


def mutations(crashed: Regions, descriptor: str, offsets: range, probe) -> list[object]:
    """Every header word in turn set to each harmful number, in a copy; the outcomes of `probe`."""
    outcomes = []
    regions = crashed.copy()
    target = getattr(regions, descriptor)
    for offset in offsets:
        old = os.pread(target, WORD_BYTES, offset)
        for number in (
            *HARMFUL,
            int.from_bytes(old, "little") ^ 1,
            int.from_bytes(old, "little") + 4 & (1 << 64) - 1,
        ):
            os.pwrite(target, number.to_bytes(WORD_BYTES, "little"), offset)
            outcomes.append(probe(regions))
            os.pwrite(target, old, offset)
    regions.close()
    return outcomes


def test_readers_survive_any_header(crashed):
    """A data header with any word wrong: refused by type, or looks end in results and typed errors."""

    def probe(regions: Regions) -> str:
        try:
            reader = regions.reader()
        except _engine.EngineError as error:
            return type(error).__name__
        look(reader, random.Random(1), 12)
        return "opened"

    outcomes = in_child(lambda: mutations(crashed, "data", range(0, HEADER_END, WORD_BYTES), probe))
    assert {"opened", "LayoutMismatch", "EngineError"} == set(outcomes)


@pytest.mark.parametrize("part", range(3))
def test_owners_survive_any_header(crashed, part):
    """A data header with any word wrong: the owner attaches and works, or refuses with a type."""
    offsets = range(part * WORD_BYTES, HEADER_END, 3 * WORD_BYTES)

    def probe() -> list[str]:
        outcomes = []
        for offset in offsets:
            for number in HARMFUL:
                regions = crashed.copy()
                os.pwrite(regions.data, number.to_bytes(WORD_BYTES, "little"), offset)
                outcomes.append(use(regions, random.Random(1)))
                regions.close()
        return outcomes

    outcomes = set(in_child(probe))
    assert (
        {"attached", "EngineError"}
        <= outcomes
        <= {"attached", "stopped", "EngineError", "LayoutMismatch", "NoSpace"}
    )


@pytest.mark.parametrize("words", [1, 30, 3000, 300_000])
def test_readers_survive_a_heap_of_garbage(crashed, words):
    """Index and heap overwritten with noise: a look ends with a value, None or Busy, in bounded time."""

    def probe() -> dict[str, int]:
        rng = random.Random(words)
        regions = crashed.copy()
        scribble(regions.data, rng, words, first=PAGE_BYTES)
        return look(regions.reader(), rng, 100)

    seen = in_child(probe)
    print(f"{words} words of noise: {seen}")
    assert seen["result"] > 0
    assert set(seen) <= {"result", "Busy", "CommandError"}


def test_readers_survive_chains_without_end(crashed):
    """Every bucket links to itself or to another: looks end all the same."""

    def probe() -> dict[str, int]:
        regions = crashed.copy()
        rng = random.Random("chains")
        index_base, heap_base = (int.from_bytes(os.pread(regions.data, 8, at), "little") for at in (32, 40))
        loop = heap_base + 64 * rng.randrange(100)
        for bucket in range(1024):
            os.pwrite(regions.data, (loop | 1).to_bytes(8, "little"), index_base + bucket * 64 + 56)
        entry = int.from_bytes(os.pread(regions.data, 8, index_base + 8), "little")
        os.pwrite(
            regions.data,
            b"".join(word.to_bytes(8, "little") for word in [0] + [entry] * 6 + [loop | 1]),
            loop,
        )
        return look(regions.reader(), rng, 20)

    assert in_child(probe)["result"] >= 0


@pytest.mark.parametrize("words", [1, 30, 3000])
@pytest.mark.parametrize("region", ["data", "log"])
def test_owners_survive_garbage(crashed, region, words):
    """Noise in index, heap, page table or log: no signal, no hang. A log never stops an attached owner."""

    def probe() -> set[str]:
        outcomes = set()
        for seed in range(25):
            rng = random.Random(f"{region} {words} {seed}")
            regions = crashed.copy()
            scribble(getattr(regions, region), rng, words, first=PAGE_BYTES if region == "data" else 0)
            outcomes.add(use(regions, rng))
            regions.close()
        return outcomes

    outcomes = in_child(probe)
    assert outcomes <= {"attached", "EngineError", "LayoutMismatch", "NoSpace"} | (
        {"stopped"} if region == "data" else set()
    )


@pytest.mark.parametrize("words", [1, 30, 3000])
def test_tailers_survive_garbage(crashed, words):
    """A log overwritten with noise: a tailer refuses by type, and never returns a record that is damaged."""

    def probe() -> set[str]:
        outcomes = set()
        for seed in range(40):
            rng = random.Random(f"tail {words} {seed}")
            regions = crashed.copy()
            scribble(regions.log, rng, words)
            try:
                tailer = _engine.LogTailer(regions.log, "test", 0)
                while data := tailer.poll(rng.choice((1, 1000, 1 << 20))):
                    _engine.decode_records(data)
                outcomes.add("read")
            except _engine.EngineError as error:
                outcomes.add(type(error).__name__)
            regions.close()
        return outcomes

    assert in_child(probe) <= {"read", "EngineError", "LayoutMismatch", "Overtaken"}


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "volatile-lru"])
def test_garbage_in_the_hints_costs_only_statistics(policy):
    """Noise all over the hints, header included: values, accounts, eviction and the next owner stay right."""

    def probe() -> None:
        rng = random.Random(policy)
        regions = Regions.anonymous()
        owner = regions.create(2 << 20, policy=policy)
        reader = regions.reader()
        for number in range(2000):
            key = b"key-%d" % number
            owner.command("SET", key, key * 40, "EX", 1000)
            assert reader.get(key) == key * 40
            if number % 400 == 0:
                scribble(regions.hints, rng, 20_000)
                owner.stats()
                owner.tick()
                owner.verify()
        os.pwrite(regions.hints, rng.randbytes(PAGE_BYTES), 0)
        before = owner.digest()
        del owner
        owner = regions.attach()
        assert owner.digest() == before
        owner.verify()
        assert regions.reader().get(b"key-1999") == b"key-1999" * 40

    in_child(probe)


def test_hints_of_another_shard_are_refused():
    """A hints region too small for the data region is a LayoutMismatch, for owner and reader."""

    def probe() -> None:
        small, large = Regions.anonymous(), Regions.anonymous()
        small.create(1 << 20)
        owner = large.create(64 << 20)
        owner.command("SET", "a", "b")
        del owner
        with pytest.raises(_engine.LayoutMismatch):
            _engine.Owner.attach(large.data, small.hints, large.log)
        with pytest.raises(_engine.LayoutMismatch):
            _engine.Reader([(large.data, small.hints)], bytes(2 * _engine.SLOT_COUNT))

    in_child(probe)


@pytest.mark.parametrize("bytes_left", [0, 7, 100, PAGE_BYTES, 70_000, 5 << 20])
def test_cut_regions_are_refused(crashed, bytes_left):
    """An object that is shorter than its header says is refused before anything behind its end is touched."""

    def probe() -> None:
        for region in ("data", "hints", "log"):
            regions = crashed.copy()
            if os.fstat(getattr(regions, region)).st_size <= bytes_left:
                continue
            os.ftruncate(getattr(regions, region), bytes_left)
            with pytest.raises(_engine.EngineError):
                regions.attach()
            if region != "log":
                with pytest.raises(_engine.EngineError):
                    regions.reader()

    in_child(probe)


@pytest.fixture
def small_tmpfs(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a tmpfs can only be mounted by root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_full_tmpfs_is_an_error_or_an_eviction(small_tmpfs, policy):
    """The limit is above what the tmpfs holds: NOSPACE or an eviction, reads and deletes go on, no SIGBUS."""

    def probe() -> tuple[int, int, int]:
        paths = [small_tmpfs / name for name in ("data", "hints", "log")]
        regions = Regions(*(os.open(path, os.O_RDWR | os.O_CREAT) for path in paths))
        owner = regions.create(64 << 20, policy=policy)
        reader = regions.reader()
        refused, alive, codes = 0, {}, set()
        rng = random.Random(policy)
        for number in range(30_000):
            key, value = b"key-%d" % number, rng.randbytes(1) * rng.choice((10, 100, 1000, 30_000))
            try:
                owner.command("SET", key, value)
                alive[key] = value
            except _engine.CommandError as error:
                codes.add(error.code)
                refused += 1
                if refused == 2000:
                    break
            if number % 100 == 0:
                other = rng.choice(list(alive))
                assert reader.get(other) in (alive[other], None)
        assert codes <= {"NOSPACE"}
        # Somebody else takes the last byte: what is there goes on.
        with open(small_tmpfs / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(PAGE_BYTES)) == PAGE_BYTES:
                    pass
            except OSError:
                pass
        for key, value in alive.items():
            assert reader.get(key) in (value, None)
        owner.verify()
        evicted = owner.stats()["evicted"]
        before = owner.digest()
        del owner
        owner = regions.attach()
        assert owner.digest() == before
        for key in alive:
            owner.command("DEL", key)
        assert owner.command("DBSIZE") == 0
        owner.verify()
        return refused, evicted, len(alive)

    refused, evicted, written = in_child(probe)
    print(f"{policy}: {written} written, {refused} refused, {evicted} evicted")
    if policy == "noeviction":
        assert refused > 0
        assert evicted == 0
    else:
        assert refused == 0
        assert evicted > 0
