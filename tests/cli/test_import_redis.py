"""`shmcache import redis://...` from a real Redis: everything comes, also after interruptions, and what does not come is told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmcache as package
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.real_redis import RealRedis, real_redis
from tests.support.collections import collections, fill_collections
from tests.support.words import environment, refused, shmcache

KEYS = 100_000


@pytest.fixture
def redis(redis_server_program: str) -> Iterator[RealRedis]:
    with real_redis(redis_server_program) as running:
        yield running


@pytest.fixture
def target() -> Iterator[RunningInstance]:
    with running_instance(workers=2, memory="128MB", log_size="8MB") as running:
        yield running


def fill(redis: RealRedis, count: int) -> None:
    for first in range(0, count, 10_000):
        redis.client.mset({f"key{n}": f"value{n}" for n in range(first, min(count, first + 10_000))})


def keys_there(instance: RunningInstance) -> int:
    with package.connect(instance.url) as client:
        number = client.dbsize()
    assert isinstance(number, int)
    return number


def begin(redis: RealRedis, target: RunningInstance, folder: Path, *words: str) -> "subprocess.Popen[bytes]":
    """An import that goes on beside the test."""
    command = [sys.executable, "-m", "shmcache.cli", "import", redis.url, target.name, *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=folder)


def test_everything_comes(redis: RealRedis, target: RunningInstance, tmp_path: Path):
    """100,000 keys, binary ones, empty ones, large ones, expiry; other types are counted, and nothing is left behind."""
    fill(redis, KEYS)
    redis.client.set(b"\xff\x00\r\n", bytes(range(256)))
    redis.client.set("", "")
    redis.client.set("large", b"L" * 20_000_000)
    redis.client.set("mortal", "x", ex=1_000)
    fill_collections(redis.client)
    redis.client.xadd("s", {"f": "v"})
    done = shmcache("import", redis.url, target.name, "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["written"] == KEYS + 12
    assert found["other_types"] == {"stream": 1}
    assert found["source"] == redis.url
    with package.connect(target.url) as client:
        assert client.dbsize() == KEYS + 12
        names = [f"{kind}-{size}".encode() for kind in ("hash", "list", "set", "zset") for size in ("small", "large")]
        assert collections(client, names) == collections(redis.client, names)
        for first in range(0, KEYS, 10_000):
            names = [f"key{n}" for n in range(first, first + 10_000)]
            assert client.mget(names) == redis.client.mget(names)
        assert client.get(b"\xff\x00\r\n") == bytes(range(256))
        assert client.get("") == b""
        assert client.get("large") == b"L" * 20_000_000
        assert 0 <= redis.client.pexpiretime("mortal") - client.pexpiretime("mortal") < 10_000
        assert client.ttl("key1") == -1
    assert list(tmp_path.iterdir()) == []
    text = shmcache("import", redis.url, target.name, "--keep", "--match", "[hls]*", cwd=tmp_path)
    assert b"0 keys written; 7 were there and stay as they are; NOT copied: 1 stream" in text.stdout


def test_match_database_and_rate(redis: RealRedis, target: RunningInstance, tmp_path: Path):
    redis.client.execute_command("SELECT", 3)
    redis.client.mset({f"{kind}{n}": n for kind in "ab" for n in range(100)})
    redis.client.execute_command("SELECT", 0)
    redis.client.set("elsewhere", 1)
    began = time.monotonic()
    url = redis.url.removesuffix("0") + "3"
    done = shmcache("import", url, target.tcp, "--match", "a*", "--rate", "50", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] == 100
    assert time.monotonic() - began > 1.5
    assert keys_there(target) == 100


def test_interrupted_and_gone_on_with(redis: RealRedis, target: RunningInstance, tmp_path: Path):
    """Ctrl-C, kill -9, then to the end: all there, and not read from the beginning again."""
    fill(redis, KEYS)
    state = tmp_path / "state"
    words = ["--page", "500", "--rate", "40000", "--state", "state"]
    with begin(redis, target, tmp_path, *words) as process:
        # By what is noted, not by what the target has: the note of a page follows its writes.
        wait_until(lambda: state.exists() and json.loads(state.read_text())["seen"] > 10_000, 30, "progress is noted")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert b"--resume" in err
    noted = json.loads(state.read_text())
    assert 10_000 < noted["seen"] < KEYS
    assert noted["cursor"] > 0
    assert noted["source"] == redis.url
    refused(shmcache("import", redis.url, target.name, "--resume", "--match", "x*", "--state", "state", cwd=tmp_path), "match")
    refused(shmcache("import", redis.url, target.tcp, "--resume", "--state", "state", cwd=tmp_path), "target")
    with begin(redis, target, tmp_path, "--resume", *words) as process:
        wait_until(lambda: json.loads(state.read_text())["seen"] > noted["seen"], 30, "more is noted")
        process.kill()
        process.communicate()
    # What is there already stays: were it read from the beginning, nearly everything would be of that kind.
    done = shmcache("import", redis.url, target.name, "--resume", "--keep", "--state", "state", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kept"] < 60_000
    assert found["written"] + found["kept"] >= KEYS
    assert keys_there(target) == KEYS
    assert list(tmp_path.iterdir()) == []


def test_redis_dies_in_the_middle(redis_server_program: str, target: RunningInstance, tmp_path: Path):
    """Exit code 2 and a state; the next Redis has other cursors, so that the copy begins anew by itself."""
    with real_redis(redis_server_program) as redis:
        fill(redis, KEYS)
        with begin(redis, target, tmp_path, "--page", "500", "--rate", "30000") as process:
            wait_until(lambda: keys_there(target) > 5_000, 30, "keys")
            redis.process.kill()
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, b"")
        assert redis.url in err.decode()
        assert b"--resume" in err
        (state,) = tmp_path.iterdir()
        assert state.name == f"shmcache-import-127.0.0.1-{redis.port}-0.json"
    with real_redis(redis_server_program, port=redis.port) as redis:
        fill(redis, KEYS)
        done = shmcache("import", redis.url, target.name, "--resume", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert b"begins anew" in done.stderr
        assert json.loads(done.stdout)["written"] == KEYS
    assert keys_there(target) == KEYS
    assert list(tmp_path.iterdir()) == []


def test_target_dies_in_the_middle(redis: RealRedis, target: RunningInstance, tmp_path: Path):
    """What the state says is there, is there."""
    fill(redis, KEYS)
    with begin(redis, target, tmp_path, "--page", "500", "--rate", "30000", "--timeout", "1") as process:
        wait_until(lambda: keys_there(target) > 5_000, 30, "keys")
        target.stop()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, b"")
    assert b"--resume" in err


def test_wrong_addresses(redis_server_program: str, target: RunningInstance, tmp_path: Path):
    """Nobody there, a wrong or missing password, no address, no such instance, nothing to go on with, a file that is no state."""
    refused(shmcache("import", "redis://127.0.0.1:1/0", target.name, cwd=tmp_path), "127.0.0.1:1", code=2)
    refused(shmcache("import", "dump.rdb", target.name), "snapshot import")
    for wrong in ("redis://127.0.0.1:port/0", "redis://127.0.0.1:1/x"):
        refused(shmcache("import", wrong, target.name, cwd=tmp_path), "redis://")
    with real_redis(redis_server_program, password="right") as redis:
        redis.client.set("k", "v")
        for url in (redis.url, redis.url.replace("//", "//:wrong@")):
            done = shmcache("import", url, target.name, cwd=tmp_path)
            refused(done, "refuses", code=2)
            assert b"wrong@" not in done.stderr
        refused(shmcache("import", redis.url.replace("//", "//:right@"), "no-such", cwd=tmp_path), "no-such", code=2)
        assert shmcache("import", redis.url.replace("//", "//:right@"), target.name, cwd=tmp_path).stdout == b"1 keys written\n"
        assert shmcache("import", redis.url, target.name, cwd=tmp_path, REDISCLI_AUTH="right").returncode == 0
        refused(shmcache("import", redis.url, target.name, "--resume", cwd=tmp_path), "nothing to go on with")
        for text in ("", "{}", '{"version": 9}', '{"version": 1, "source": 1}', "[1]"):
            (tmp_path / "state").write_text(text)
            refused(shmcache("import", redis.url, target.name, "--resume", "--state", tmp_path / "state", REDISCLI_AUTH="right"), "state")
    assert os.listdir(tmp_path) == ["state"]
