"""`shmcache snapshot export` and `import`: what goes out comes in again, and what is no stream is refused by its line."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import zstandard

import shmcache as package
from tests.support.collections import LATER, collections, fill_collections
from tests.support.instance import RunningInstance, running_instance
from tests.support.words import refused, shmcache

HEADER = b'{"shmcache_export":1}\n'


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInstance]:
    """With awkward data, and a snapshot that has all of it but two later writes."""
    with running_instance(workers=2, data_dir=str(tmp_path_factory.mktemp("data")), aof="no", ephemeral=False) as running:
        with package.connect(running.url) as client:
            for n in range(3_000):
                client.set(f"key{n}", f"value{n}")
            client.set(b"\xff\x00\n", bytes(range(256)))
            client.set("grüße \u2028\n\"", "ünï")
            client.set("", "")
            client.set("mortal", "x", pxat=LATER)
            client.set("soon", "x", px=1)
            client.set("large", b"L" * 9_000_000)
            fill_collections(client)
        assert shmcache("snapshot", "save", running.name).returncode == 0
        with package.connect(running.url) as client:
            client.delete("key5")
            client.set("late", "x")
        yield running


@pytest.fixture
def target() -> Iterator[RunningInstance]:
    with running_instance(workers=1) as running:
        yield running


def state(instance: RunningInstance) -> dict[bytes, tuple[bytes, int]]:
    with package.connect(instance.url) as client:
        keys = client.keys()
        return {key: (value, client.pexpiretime(key)) for key, value in zip(keys, client.mget(keys), strict=True) if value is not None}


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.zst", "all.msgpack", "all.msgpack.zst"])
def test_there_and_back(source: RunningInstance, target: RunningInstance, tmp_path: Path, name: str):
    """Every way of writing it brings the same keys, values and expiry; a second time nothing changes."""
    file = tmp_path / name
    form = "msgpack" if "msgpack" in name else "json"
    done = shmcache("snapshot", "export", file, source.name, "--format", form)
    assert done.returncode == 0, done.stderr
    done = shmcache("snapshot", "import", file, target.name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"written": 3_013, "kept": 0, "expired": 0, "other_types": {}}
    found = state(target)
    assert found == state(source)
    assert found[b"mortal"] == (b"x", LATER)
    with package.connect(source.url) as ours, package.connect(target.url) as theirs:
        assert len(collections(theirs)) == 8
        assert collections(theirs) == collections(ours)
        assert theirs.pexpiretime("list-large") == LATER
    refused(shmcache("snapshot", "export", file, source.name), "exists")


def test_pipe(source: RunningInstance, target: RunningInstance):
    """From stdout to stdin, in msgpack; the report goes to stderr."""
    out = shmcache("snapshot", "export", "-", source.name, "--format", "msgpack")
    assert b"3,013 keys" in out.stderr
    done = shmcache("snapshot", "import", "-", target.name, stdin=out.stdout)
    assert done.returncode == 0, done.stderr
    assert state(target) == state(source)


def test_keep_and_replace(target: RunningInstance):
    lines = HEADER + b'{"key":"a","value":"new"}\n{"key":"b","value":"new"}\n{"end":true,"records":2}\n'
    with package.connect(target.url) as client:
        client.set("a", "old")
        done = shmcache("snapshot", "import", "-", target.name, "--keep", stdin=lines)
        assert b"1 keys written; 1 were there" in done.stdout
        assert client.mget("a", "b") == [b"old", b"new"]
        shmcache("snapshot", "import", "-", target.tcp, stdin=lines)
        assert client.mget("a", "b") == [b"new", b"new"]


def test_by_hand(target: RunningInstance):
    """A stream without header and end; base64, expired keys, types of a later release, blank lines."""
    items = [
        {"key": "a", "value": "1", "comment": "others' fields are no concern of ours"},
        {"key_b64": base64.b64encode(b"\xff").decode(), "type": "string", "value_b64": "AAE="},
        {"key": "gone", "value": "1", "expires_ms": 1_000},
        {"key": "s", "type": "stream", "value": {"f": "v"}},
        {"key": "h", "type": "hash", "value": [["f", "v"], [{"b64": "AAE="}, 7]]},
        {"key": "l", "type": "list", "value": ["1", "2"]},
        {"key": "l", "type": "list", "value": ["3"], "append": True},
        {"key": "z", "type": "zset", "value": [["m", 1.5], ["n", "inf"]]},
        {"key": "m", "type": "set", "value": ["x", "y"], "expires_ms": LATER},
    ]
    text = b"\n\n".join(json.dumps(item).encode() for item in items)
    done = shmcache("snapshot", "import", "-", target.name, "--json", stdin=text)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"written": 6, "kept": 0, "expired": 1, "other_types": {"stream": 1}}
    assert state(target) == {b"a": (b"1", -1), b"\xff": (b"\x00\x01", -1)}
    with package.connect(target.url) as client:
        assert collections(client) == {
            b"h": ("hash", {b"f": b"v", b"\0\1": b"7"}),
            b"l": ("list", [b"1", b"2", b"3"]),
            b"z": ("zset", [(b"m", 1.5), (b"n", float("inf"))]),
            b"m": ("set", {b"x", b"y"}),
        }
        assert client.pexpiretime("m") == LATER


GOOD = b'{"key":"good","value":"1"}\n'
WRONG = {
    "not JSON": (GOOD + b"{oops\n", "line 2", "not JSON"),
    "not an object": (GOOD + b"[1]\n", "line 2", "not a JSON object"),
    "no key": (GOOD + b'{"value":"1"}\n', "line 2", "neither key"),
    "no value": (GOOD + b'{"key":"1"}\n', "line 2", "neither value"),
    "base64": (GOOD + b'{"key":"1","value_b64":"!"}\n', "line 2", "not base64"),
    "surrogate": (GOOD + b'{"key":"\\ud800","value":"1"}\n', "line 2", "no text"),
    "expiry": (GOOD + b'{"key":"1","value":"1","expires_ms":-1}\n', "line 2", "expires_ms"),
    "type": (GOOD + b'{"key":"1","value":"1","type":1}\n', "line 2", "type"),
    "version": (GOOD + b'{"shmcache_export":9}\n', "line 2", "version"),
    "broken off": (HEADER + GOOD, "line 3", "breaks off"),
    "miscounted": (HEADER + GOOD + b'{"end":true,"records":2}\n', "line 3", "it says 2"),
    "not UTF-8": (GOOD + b'{"key":"\xff","value":"1"}\n', "line 2", "not JSON"),
    "msgpack": (msgpack.packb({"key": b"good", "value": b"1"}) + b"\xc1", "line 2", "neither JSON lines nor msgpack"),
    "msgpack cut": (msgpack.packb({"key": b"good", "value": b"1"}) + b"\x83\xa3key", "line 2", "breaks off"),
    "msgpack number": (msgpack.packb({"key": b"good", "value": b"1"}) + b"\x05", "line 2", "not a map"),
    "zstd cut": (zstandard.ZstdCompressor().compress(HEADER + GOOD + b" " * 999)[:-5], "line", "nothing in it"),
    "empty": (b"", "line 1", "nothing in it"),
}


def test_wrong_streams(target: RunningInstance):
    """Each is refused with its line, and what stood before that is written."""
    with package.connect(target.url) as client:
        for name, (data, *words) in WRONG.items():
            client.flushall()
            refused(shmcache("snapshot", "import", "-", target.name, stdin=data), *words)
            assert client.get("good") == b"1" or "nothing in it" in words, name
    for data in (b"\x28\xb5\x2f\xfdxxxxxxxxxx", bytes(100), b"hello\n"):
        refused(shmcache("snapshot", "import", "-", target.name, stdin=data), "line 1")
    refused(shmcache("snapshot", "import", "-", "no-such", stdin=GOOD), "no-such", code=2)
    refused(shmcache("snapshot", "import", "/no/such/file", target.name), "No such file")


def test_full_instance(tmp_path: Path):
    """OOM names the line."""
    lines = b"".join(json.dumps({"key": f"k{n}", "value": "v" * 10_000}).encode() + b"\n" for n in range(9_000))
    with running_instance(memory="16MB", policy="noeviction") as instance:
        refused(shmcache("snapshot", "import", "-", instance.name, stdin=lines), "line ", "OOM")


def test_folder(source: RunningInstance, target: RunningInstance, tmp_path: Path):
    """A snapshot as it is while the instance runs; with the log when it has stopped."""
    folder = source.options["data_dir"]
    first = tmp_path / "first"
    assert shmcache("snapshot", "export", first, "--data-dir", folder, "--number", "1").returncode == 0
    lines = [json.loads(line) for line in first.read_bytes().splitlines()]
    keys = {line.get("key") for line in lines[1:-1]}
    assert "key5" in keys
    assert "late" not in keys
    assert "soon" not in keys
    assert lines[0]["source"] == "snapshot 1"
    assert sum("append" not in line for line in lines) == 3_013 + 2
    refused(shmcache("snapshot", "export", tmp_path / "x", source.name, "--number", "1"), "--data-dir")
    before = state(source)
    with package.connect(source.url) as client:
        held = collections(client)
    source.stop()
    try:
        second = tmp_path / "second"
        done = shmcache("snapshot", "export", second, "--data-dir", folder)
        assert done.returncode == 0, done.stderr
        assert shmcache("snapshot", "import", second, target.name).returncode == 0
        assert state(target) == before
        assert b"late" in before
        with package.connect(target.url) as client:
            assert collections(client) == held
    finally:
        source.start()


def test_interrupted_export_leaves_nothing(source: RunningInstance, tmp_path: Path):
    """A file of that name is a whole export."""
    refused(shmcache("snapshot", "export", tmp_path / "none" / "file", source.name), "No such file")
    refused(shmcache("snapshot", "export", tmp_path / "file", "no-such"), "no-such", code=2)
    assert list(tmp_path.iterdir()) == []


def test_dump_file_of_redis(target: RunningInstance, tmp_path: Path, redis_server_program: str):
    """What a real Redis has saved: strings and collections with their expiry come."""
    redis = pytest.importorskip("redis")
    pytest.importorskip("rdb")
    words = [redis_server_program, "--port", "0", "--unixsocket", "redis.sock", "--dir", str(tmp_path), "--save", "", "--rdbcompression", "yes"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 10
        while not (tmp_path / "redis.sock").exists() and time.monotonic() < until:
            time.sleep(0.02)
        with redis.Redis(unix_socket_path=str(tmp_path / "redis.sock")) as client:
            client.set("n", 12345)
            client.set(b"\xff\x00", b"\x00\xfe" * 5_000)
            client.set("mortal", "x", pxat=LATER)
            client.xadd("stream", {"f": "v"})
            fill_collections(client)
            held = collections(client)
            client.save()
        process.terminate()
    done = shmcache("snapshot", "import", tmp_path / "dump.rdb", target.name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"written": 11, "kept": 0, "expired": 0, "other_types": {}}
    with package.connect(target.url) as client:
        assert collections(client) == {key: value for key, value in held.items() if key != b"stream"}
        assert client.pexpiretime("list-large") == LATER
    assert state(target) == {b"n": (b"12345", -1), b"\xff\x00": (b"\x00\xfe" * 5_000, -1), b"mortal": (b"x", LATER)}
    data = (tmp_path / "dump.rdb").read_bytes()
    refused(shmcache("snapshot", "import", "-", target.name, stdin=data), "by its name")
    (tmp_path / "cut.rdb").write_bytes(data[:60])
    refused(shmcache("snapshot", "import", tmp_path / "cut.rdb", target.name), "cut.rdb")
    (tmp_path / "none.rdb").write_bytes(b"REDIS9999xxxx")
    refused(shmcache("snapshot", "import", tmp_path / "none.rdb", target.name), "none.rdb")
