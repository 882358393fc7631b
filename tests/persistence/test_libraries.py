"""Libraries of functions outlive the machine's memory: real instances that lose everything but their data folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shmcache
from cli.snapshot.restoring import prepare
from shmcache.errors import DamagedFile, ResponseError, WrongKey
from shmcache.persistence.encryption import generate_key_file, load_cipher
from shmcache.persistence.files import OS_FILES
from shmcache.persistence.libraries import NAME, load, pack, save, unpack
from shmcache.persistence.snapshots import Manifest, read_manifest, snapshot_numbers
from tests.persistence.calls import begin_cold, keeper_call, refusal
from tests.support.instance import RunningInstance, running_instance, wait_until


def text(name: str, number: int) -> str:
    return f"#!lua name={name}\nredis.register_function('{name}', function() return {number} end)"


def names(cache: Any) -> list[bytes]:
    return sorted(library[b"library_name"] for library in cache.execute_command("FUNCTION", "LIST"))


def forget(instance: RunningInstance) -> None:
    """What a reboot does to the runtime folder."""
    for path in instance.folder.glob("*.functions*"):
        path.unlink()


@contextlib.contextmanager
def kept(folder: Path, **options: Any) -> Iterator[RunningInstance]:
    with running_instance(**{"data_dir": str(folder), "ephemeral": False, "workers": 2} | options) as instance:
        yield instance


def wait_saved(folder: Path, before: bytes = b"") -> bytes:
    """Until the file is another one; its bytes."""

    def changed() -> bytes | None:
        path = folder / NAME
        found = path.read_bytes() if path.exists() else b""
        return found if found != before else None

    found = wait_until(changed, 10, "the libraries are saved")
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize("aof", ["off", "everysec"])
def test_saved_when_they_change(aof: str, tmp_path: Path):
    """Without any snapshot, and after `kill -9` of everything."""
    with kept(tmp_path, aof=aof) as instance:
        with shmcache.connect(instance.url) as cache:
            cache.function_load(text("one", 1))
            first = wait_saved(tmp_path)
            cache.function_load(text("two", 2))
            second = wait_saved(tmp_path, first)
            cache.function_load(text("one", 11), replace=True)
            wait_saved(tmp_path, second)
        instance.kill()
        forget(instance)
        begin_cold(instance, workers=3)
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"one", b"two"]
            assert [cache.fcall(name, 1, f"k{n}") for n in range(5) for name in ("one", "two")] == [11, 2] * 5
            cache.execute_command("FUNCTION", "DELETE", "one")
        # An ordered stop: what the keeper has not seen yet is looked at once more.
        instance.stop()
        forget(instance)
        begin_cold(instance)
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"two"]
            cache.execute_command("FUNCTION", "FLUSH")
        instance.stop()
        forget(instance)
        begin_cold(instance)
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == []


def test_a_warm_start_has_its_own(tmp_path: Path):
    with kept(tmp_path) as instance:
        with shmcache.connect(instance.url) as cache:
            cache.function_load(text("one", 1))
            wait_saved(tmp_path)
        instance.stop()
        save(OS_FILES, tmp_path, b"\x90", None)
        instance.start()
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"one"]
        instance.stop()
        # The memory is still there, only the sockets' folder was lost.
        forget(instance)
        instance.start()
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"one"]


def test_a_snapshot_has_those_of_its_moment(tmp_path: Path):
    """Gone back to, and restored elsewhere from an archive."""
    data, archive, elsewhere = tmp_path / "data", tmp_path / "archive", tmp_path / "elsewhere"
    with kept(data, archive=archive.as_uri()) as instance:
        with shmcache.connect(instance.url) as cache:
            cache.set("a", "1")
            keeper_call(instance, "save")
            cache.function_load(text("one", 1))
            saved = wait_saved(data)
            assert keeper_call(instance, "save")["number"] == 2
            cache.function_load(text("two", 2))
            wait_saved(data, saved)
        wait_until(lambda: (archive / "snapshots/0000000002/manifest.json").exists(), 20, "the snapshot is archived")
        instance.stop()
        assert not read_manifest(data, 1).libraries
        assert read_manifest(data, 2).libraries
        assert "libraries" not in (data / "snapshots/0000000001/manifest.json").read_text()
        with kept(elsewhere, restore=archive.as_uri()) as other, shmcache.connect(other.url) as cache:
            assert names(cache) == [b"one"]
            assert cache.get("a") == b"1"
            wait_saved(elsewhere)
        prepare(data, 2, lambda _: None)
        forget(instance)
        del instance.options["archive"]
        begin_cold(instance)
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"one"]
            assert cache.get("a") == b"1"


def test_until(tmp_path: Path):
    """What was loaded later does not come back, also not at the start after that."""
    with kept(tmp_path, aof="everysec") as instance:
        with shmcache.connect(instance.url) as cache:
            cache.function_load(text("one", 1))
            cache.set("a", "1")
            saved = wait_saved(tmp_path)
            keeper_call(instance, "save")
            moment = read_manifest(tmp_path, snapshot_numbers(tmp_path)[-1]).ended_ms / 1000
            cache.function_load(text("two", 2))
            wait_saved(tmp_path, saved)
        instance.stop()
        begin_cold(instance, until=f"{moment:.3f}")
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"one"]
            assert cache.get("a") == b"1"
        instance.stop()
        forget(instance)
        begin_cold(instance, until="0")
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"one"]


def test_encrypted(tmp_path: Path):
    keys, data = tmp_path / "keys", tmp_path / "data"
    generate_key_file(keys)
    with kept(data, data_key_file=str(keys)) as instance:
        with shmcache.connect(instance.url) as cache:
            cache.function_load(text("unmistakable", 1))
            assert b"unmistakable" not in wait_saved(data)
            keeper_call(instance, "save")
        instance.stop()
        assert b"unmistakable" not in (data / "snapshots/0000000001/manifest.json").read_bytes()
        with pytest.raises(WrongKey):
            load(data, None)
        forget(instance)
        begin_cold(instance)
        with shmcache.connect(instance.url) as cache:
            assert cache.fcall("unmistakable", 0) == 1


def test_damage_refuses_a_start_that_needs_them(tmp_path: Path):
    with kept(tmp_path) as instance:
        with shmcache.connect(instance.url) as cache:
            cache.function_load(text("one", 1))
            wait_saved(tmp_path)
            keeper_call(instance, "save")
        instance.stop()
        forget(instance)
        data = bytearray((tmp_path / NAME).read_bytes())
        data[-100] ^= 1
        (tmp_path / NAME).write_bytes(data)
        assert str(tmp_path / NAME) in refusal(instance)
        (tmp_path / NAME).unlink()
        begin_cold(instance)
        with shmcache.connect(instance.url) as cache:
            assert names(cache) == [b"one"]


# --- the file, without any process ----------------------------------------------------------------------


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_every_damage_of_the_file_is_seen(is_encrypted: bool, tmp_path: Path):
    cipher = None
    if is_encrypted:
        generate_key_file(tmp_path / "keys")
        cipher = load_cipher(tmp_path / "keys")
    whole = pack(b"some libraries" * 50, cipher)
    assert unpack(whole, "x", cipher) == (b"some libraries" * 50, cipher.key_id if cipher else "")
    for size in range(len(whole)):
        with pytest.raises(DamagedFile):
            unpack(whole[:size], "x", cipher)
    for at in range(len(whole)):
        with pytest.raises((DamagedFile, WrongKey)):
            unpack(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "x", cipher)
    with pytest.raises(DamagedFile):
        unpack(whole + whole, "x", cipher)


def test_a_save_that_was_cut_off_leaves_the_one_before(tmp_path: Path):
    save(OS_FILES, tmp_path, b"first", None)
    (tmp_path / f"{NAME}.new").write_bytes(b"torn")
    assert load(tmp_path, None) == (b"first", "")
    save(OS_FILES, tmp_path, b"second", None)
    assert load(tmp_path, None) == (b"second", "")
    assert not (tmp_path / f"{NAME}.new").exists()


def test_a_manifest_of_an_older_release():
    manifest = Manifest(1, "x", 1, 1, 1, (), 0)
    assert b"libraries" not in manifest.dump()
    assert Manifest.parse(manifest.dump(), "x") == manifest


def test_nothing_else_is_taken_for_libraries(tmp_path: Path):
    from shmcache.server.libraries import LibrariesFile, Watched

    store = Watched(LibrariesFile(tmp_path, "x", -1))
    for data in (b"", b"\xc0", b"\x91\x01", b"\x91\xa1a", None, "text"):
        with pytest.raises((shmcache.ShmcacheError, ResponseError)):
            store.keep(data)
    assert not store.look() or store.data == b"\x90"
