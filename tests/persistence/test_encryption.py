"""Encryption at rest: nothing readable on disk, and without the right key an error, never data."""

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import shmcache
from cli.app import build
from shmcache.errors import ConfigError, DamagedFile, WrongKey
from shmcache.persistence.blocks import BlockKind, BlockReader, BlockWriter, FileKind, Head
from shmcache.persistence.encryption import FileCipher, generate_key_file, load_cipher
from tests.persistence.calls import begin_cold, keeper_call, refusal
from tests.support.instance import running_instance

SECRET = b"a-value-that-nobody-may-read-on-disk"


def sealed_file(cipher: FileCipher | None, *records: bytes, file_id: bytes = b"i" * 16) -> bytearray:
    writer = BlockWriter(file_id, 1, cipher)
    data = bytearray(writer.header(FileKind.LOG, {}))
    for number, part in enumerate(records):
        data += writer.block(Head(BlockKind.LOG, 0, 0, 0, 1, 0, number, number + 1), part)
    return data


def read_back(data: bytes, cipher: FileCipher | None) -> list[bytes]:
    reader = BlockReader(io.BytesIO(data), "file", FileKind.LOG, cipher)
    return [reader.records(block) for block in reader]


def mend(data: bytearray, at: int, file_id: bytes = b"i" * 16) -> None:
    """Give the block at an offset the checksum of what is there now: what somebody would do who alters it on purpose."""
    stored = struct.unpack_from("<I", data, at + 8)[0]
    body = bytes(data[at + 88 : at + 88 + stored])
    crc = zlib.crc32(body, zlib.crc32(bytes(data[at + 8 : at + 88]), zlib.crc32(file_id)))
    struct.pack_into("<I", data, at + 4, crc)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    generate_key_file(tmp_path / "data.key")
    return tmp_path / "data.key"


def test_sealed_blocks_round_trip(key_file: Path) -> None:
    cipher = load_cipher(key_file)
    parts = [SECRET, SECRET * 100, b""]
    data = sealed_file(cipher, *parts)
    assert SECRET not in data
    assert read_back(data, cipher) == parts
    assert data != sealed_file(cipher, *parts), "the nonces are random"


@pytest.mark.parametrize("offset", [*range(14, 80, 3), 88, 100, 110, 124], ids=str)
def test_altered_block(key_file: Path, offset: int) -> None:
    """Whatever byte of the head or the ciphertext is altered, with a checksum that fits: refused."""
    cipher = load_cipher(key_file)
    data = sealed_file(cipher, SECRET)
    at = len(BlockWriter(b"i" * 16, 1, cipher).header(FileKind.LOG, {}))
    data[at + offset] ^= 2
    mend(data, at)
    with pytest.raises((DamagedFile, WrongKey)):
        read_back(data, cipher)


def test_block_out_of_place(key_file: Path) -> None:
    """A sound block of another file, or put in the place of one that is not encrypted."""
    cipher = load_cipher(key_file)
    start = len(BlockWriter(b"i" * 16, 1, cipher).header(FileKind.LOG, {}))
    here, there = sealed_file(cipher, SECRET), sealed_file(cipher, SECRET, file_id=b"j" * 16)
    moved = here[:start] + there[start:]
    mend(moved, start)
    with pytest.raises(DamagedFile, match="altered"):
        read_back(moved, cipher)
    plain = sealed_file(None, SECRET)
    plain_start = len(BlockWriter(b"i" * 16, 1, None).header(FileKind.LOG, {}))
    with pytest.raises(DamagedFile, match="not encrypted in an encrypted file"):
        read_back(here[:start] + plain[plain_start:], cipher)


def test_wrong_key_and_none(key_file: Path, tmp_path: Path) -> None:
    data = sealed_file(load_cipher(key_file), SECRET)
    generate_key_file(tmp_path / "other")
    with pytest.raises(WrongKey, match=r"file: encrypted with key [0-9a-f]{16}; .*other has"):
        read_back(data, load_cipher(tmp_path / "other"))
    with pytest.raises(WrongKey, match=r"file: .*--data-key-file"):
        read_back(data, None)


def test_new_key_in_front(tmp_path: Path) -> None:
    """A key is replaced by putting a new one in front: old files are read, new ones are written with the new one."""
    old, new = os.urandom(32), os.urandom(32)
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_text(f"{old.hex()}\n")
    data = sealed_file(load_cipher(path), SECRET)
    path.write_text(f"# new\n{base64.b64encode(new).decode()}\n{old.hex()}\n")
    both = load_cipher(path)
    assert read_back(data, both) == [SECRET]
    path.write_text(new.hex())
    assert read_back(sealed_file(both, SECRET), load_cipher(path)) == [SECRET]
    with pytest.raises(WrongKey):
        read_back(data, load_cipher(path))


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("ab" * 32, 0o640, "chmod 600"),
        ("ab" * 31, 0o600, "32 bytes"),
        ("no key at all", 0o600, "32 bytes"),
        ("# nothing\n", 0o600, "1 to 16 keys"),
        ("ab" * 32 + "\n" + "x" * 20_000, 0o600, "1 to 16 keys"),
    ],
)
def test_bad_key_files(tmp_path: Path, text: str, mode: int, message: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=message):
        load_cipher(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_cipher(tmp_path / "none")


def test_generate(tmp_path: Path) -> None:
    path = tmp_path / "data.key"
    app = build(("curve_keys",))
    result = CliRunner().invoke(app, ["keys", "generate", "--data", str(path)])
    assert result.exit_code == 0, result.output
    assert load_cipher(path).key_id in result.output
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    with pytest.raises(ConfigError, match="exists"):
        generate_key_file(path)
    assert path.read_text() == text
    assert CliRunner().invoke(app, ["keys", "generate"]).exit_code != 0


@pytest.mark.parametrize("workers", [2, 3])
def test_end_to_end(tmp_path: Path, key_file: Path, workers: int) -> None:
    """Snapshot and log of an instance hold no value to be read; it begins again from them, and not without the key."""
    folder = tmp_path / "data"
    with running_instance(workers=2, data_dir=str(folder), aof="always", data_key_file=str(key_file), ephemeral=False) as instance:
        with shmcache.connect(instance.url) as client:
            for n in range(50):
                client.set(f"key{n}", SECRET + str(n).encode())
            keeper_call(instance, "save")
            client.set("after", SECRET)
        instance.stop()
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) >= 4
        assert not [path for path in files if SECRET in path.read_bytes() or b"key4" in path.read_bytes()]
        assert "WrongKey" not in instance.log()
        assert "give --data-key-file" in refusal(instance, data_key_file=None)
        generate_key_file(tmp_path / "other")
        assert "has not that one" in refusal(instance, data_key_file=str(tmp_path / "other"))
        begin_cold(instance, workers=workers)
        with shmcache.connect(instance.url) as client:
            assert client.get("key49") == SECRET + b"49"
            assert client.get("after") == SECRET


def test_encryption_turned_on_later(tmp_path: Path, key_file: Path) -> None:
    """Older files are not encrypted, newer ones are; both are read."""
    with running_instance(workers=1, data_dir=str(tmp_path / "data"), aof="always", ephemeral=False) as instance:
        with shmcache.connect(instance.url) as client:
            client.set("old", 1)
            keeper_call(instance, "save")
            client.set("older", 1)
        instance.stop()
        instance.start(data_key_file=str(key_file))
        with shmcache.connect(instance.url) as client:
            client.set("new", SECRET)
        instance.stop()
        begin_cold(instance)
        with shmcache.connect(instance.url) as client:
            assert client.mget("old", "older", "new") == [b"1", b"1", SECRET]
