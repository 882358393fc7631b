"""The command line against a real instance: what it prints, where, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmcache.cli.reply import formatted
from shmcache.cli.stats.figures import fragmentation, rate, total
from shmcache.replication.tail import Logged, tail
from tests.support.instance import RunningInstance, running_instance

TRACE = Path(__file__).parent.parent / "data" / "files.trace.gz"


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance(workers=2, memory="64MB", listen="tcp://127.0.0.1:0") as running:
        yield running


def shmcache(*words: str, url: str | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHMCACHE_")}
    # Help is laid out for the terminal's width, and cuts long names in a narrow one.
    environment["COLUMNS"] = "160"
    if url is not None:
        environment["SHMCACHE_URL"] = url
    command = [sys.executable, "-m", "shmcache.cli", *words]
    return subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=90, check=False)


def test_keys_commands_over_both_ways_in(instance: RunningInstance):
    """set, get, del, scan work over shared memory and tcp; a missing key is exit code 1 and nothing on stdout."""
    (tcp,) = [e for e in instance.snapshot().router_endpoints if e.startswith("tcp:")]
    for url in (f"shm://{instance.name}", tcp):
        assert shmcache("set", "key", "-", url=url, stdin=b"\x00\xff").stdout == b"OK\n"
        assert shmcache("get", "key", url=url).stdout == b"\x00\xff\n"
        assert shmcache("set", "key", "x", "--nx", url=url).returncode == 1
        assert b"key\n" in shmcache("scan", "--match", "k*", url=url).stdout
        assert shmcache("del", "key", "other", url=url).stdout == b"1\n"
        missing = shmcache("get", "key", url=url)
        assert (missing.returncode, missing.stdout) == (1, b"")


def test_exec_prints_as_redis_cli_and_ends_with_one_line_per_error(instance: RunningInstance):
    """Replies in redis-cli's style; a refused command is one line on stderr and exit code 1."""
    url = f"shm://{instance.name}"
    assert shmcache("exec", "SET", "n", "5", "EX", "100", url=url).stdout == b"OK\n"
    assert shmcache("exec", "incrby", "n", "-7", url=url).stdout == b"(integer) -2\n"
    assert shmcache("exec", "MGET", "n", "none", url=url).stdout == b'1) "-2"\n2) (nil)\n'
    for words in (("exec", "NOSUCH"), ("exec", "GET"), ("exec", "INCRBY", "n", "x")):
        done = shmcache(*words, url=url)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"shmcache: ")
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("url", ["shm://no-such-instance", "tcp://127.0.0.1:9"])
def test_no_connection_is_exit_code_2(url: str):
    """An instance or a router that is not there: one line, exit code 2."""
    done = shmcache("get", "k", "--timeout", "0.5", url=url)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_status_stats_log_and_doctor_know_the_instance(instance: RunningInstance):
    """The figures of a running instance as JSON, and its log's records."""
    url = f"shm://{instance.name}"
    shmcache("exec", "SET", "logged", "value", url=url)
    status = json.loads(shmcache("status", instance.name, "--json").stdout)
    assert status["pid"] == instance.pid
    assert [shard["owner_alive"] for shard in status["shards"]] == [True, True]
    stats = json.loads(shmcache("stats", "--json", url=url).stdout)
    assert len(stats["shards"]) == 2
    assert stats["total"]["keys"] == sum(shard["keys"] for shard in stats["shards"]) > 0
    assert b'set "logged" "value"' in shmcache("log", instance.name).stdout
    checks = json.loads(shmcache("doctor", "--json").stdout)["checks"]
    assert any(check["name"] == f"instance {instance.name}" and check["level"] == "ok" for check in checks)


def test_tail_gives_records_in_order_with_position(instance: RunningInstance):
    """A tail begun at a position returned before gives exactly what came after it."""
    import shmcache as package

    with package.connect(f"shm://{instance.name}") as client:
        client.set("{t}1", b"a")
        first = [item for item in tail(instance.name, from_="oldest", follow=False) if isinstance(item, Logged)]
        last = next(item for item in reversed(first) if item.record.key == b"{t}1")
        client.set("{t}2", b"b")
        client.delete("{t}1")
    after = list(tail(instance.name, last.shard, from_=last.position, follow=False))
    assert [(item.record.kind, item.record.key) for item in after if isinstance(item, Logged)] == [
        ("set", b"{t}2"),
        ("delete", b"{t}1"),
    ]


def test_replay_on_a_temporary_instance(tmp_path: Path):
    """The recorded trace from two processes: every request is a hit or a set, more memory more hits, nothing is left."""
    ratios = []
    for memory in ("2MB", "32MB"):
        done = shmcache("bench", "replay", str(TRACE), "-c", "2", "--memory", memory, "--value-bytes", "4096", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["requests"] == found["hits"] + found["set"]["count"] == found["get"]["count"]
        ratios.append(found["hit_ratio"])
    assert ratios[0] < ratios[1]
    assert found["evictions"] == 0
    bad = tmp_path / "bad.txt"
    bad.write_text("1\n2 3\n")
    done = shmcache("bench", "replay", str(bad))
    assert done.returncode == 1
    assert b"line 2" in done.stderr


def test_serve_has_every_option_of_the_configuration():
    """The options of `serve` are those of the configuration, none forgotten."""
    from shmcache.config import OPTIONS

    text = shmcache("serve", "--help").stdout.decode()
    assert [option.flag for option in OPTIONS if option.flag not in text] == []
    refused = shmcache("serve", "--memory", "nonsense")
    assert refused.returncode == 1
    assert b"memory" in refused.stderr
    assert refused.stderr.count(b"\n") == 1


def test_formatted_replies():
    """nil, integers, data, nested arrays, as redis-cli shows them."""
    assert formatted([1, [b"a\n", None], []]) == '1) (integer) 1\n2) 1) "a\\n"\n   2) (nil)\n3) (empty array)'


def test_totals_and_rates():
    """Sums, the worst percentile, and a rate over a restart."""
    shard = {"keys": 1, "hits": 3, "misses": 1, "heap_used_bytes": 100, "heap_committed_bytes": 200, "commands": 10}
    shard["latencies"] = {"read": {"count": 2, "p50_ns": 5}}
    whole = total([shard, shard | {"latencies": {"read": {"count": 1, "p50_ns": 9}}}])
    assert whole["latencies"]["read"] == {"count": 3, "p50_ns": 9}
    assert (whole["keys"], whole["hit_ratio"], whole["fragmentation"]) == (2, 0.75, 2.0)
    assert fragmentation({}) == 1.0
    assert rate({"commands": 10}, {"commands": 30}, 2.0) == 10.0
    assert rate({"commands": 100}, {"commands": 30}, 2.0) == 15.0
