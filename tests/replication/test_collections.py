"""Collections, small and large, on replicas and after restarts: they are ordinary entries of the log, of copies and of files."""

from pathlib import Path

import pytest

import shmcache
from cli.connection import call_process
from shmcache import Client
from tests.support.instance import remove_objects, running_instance, wait_until

LARGE = 400
"""Elements: more than a compact value holds."""


def fill(client: Client, name: str, size: int) -> None:
    client.execute_command("HSET", f"hash{name}", *(word for n in range(size) for word in (f"field:{n}", f"value:{n}")))


def change(client: Client, name: str) -> None:
    """Change what `fill` made: new, changed and deleted elements."""
    client.execute_command("HSET", f"hash{name}", "field:0", "changed", "new", "1")
    client.execute_command("HDEL", f"hash{name}", "field:1")


def expected(size: int) -> dict[bytes, bytes]:
    fields = {b"field:%d" % n: b"value:%d" % n for n in range(size)} | {b"field:0": b"changed", b"new": b"1"}
    del fields[b"field:1"]
    return fields


def as_dict(flat: list[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def state(client: Client, name: str) -> dict[bytes, bytes]:
    return as_dict(client.execute_command("HGETALL", f"hash{name}"))


def test_a_replica_has_them_by_copy_and_by_log() -> None:
    """What was there before the replica came is copied, what comes later is shipped; other numbers of workers make no difference."""
    with running_instance(workers=2, relay_listen="tcp://127.0.0.1:0") as primary, shmcache.connect(primary.url) as writer:
        for name, size in (("small", 5), ("large", LARGE)):
            fill(writer, name, size)
        with running_instance(workers=1, replica_of=primary.tcp) as replica, shmcache.connect(replica.url) as reader:
            wait_until(lambda: state(reader, "large") != {} and state(reader, "small") != {})
            for name, size in (("small", 5), ("large", LARGE)):
                change(writer, name)
                wait_until(lambda name=name, size=size: state(reader, name) == expected(size))
            writer.delete("hashlarge")
            fill(writer, "again", LARGE)
            wait_until(lambda: reader.exists("hashlarge") == 0 and len(state(reader, "again")) == LARGE)
            assert reader.dbsize() == 2


@pytest.mark.parametrize("way", ["warm", "cold"])
def test_they_survive_a_restart(tmp_path: Path, way: str) -> None:
    """Warm from shared memory; cold from a snapshot and the log behind it, with another number of workers."""
    with running_instance(workers=2, data_dir=str(tmp_path), aof="always") as instance:
        with shmcache.connect(instance.url) as client:
            for name, size in (("small", 5), ("large", LARGE)):
                fill(client, name, size)
            call_process(instance.name, "keeper", "save", {}, 20)
            for name in ("small", "large"):
                change(client, name)
        instance.stop()
        if way == "warm":
            instance.start()
        else:
            remove_objects(instance.name)
            instance.start(workers=1)
        with shmcache.connect(instance.url) as client:
            for name, size in (("small", 5), ("large", LARGE)):
                assert state(client, name) == expected(size)
            assert client.dbsize() == 2
