"""Changes of role: by hand, planned, and with a former primary that comes back."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

import shmcache
from cli.replication import relay_call
from shmcache.errors import ReadOnly, ResponseError, ShmcacheError
from tests.replication.pairs import (
    pair,
    primary,
    relay_pid,
    replica,
    role,
    status,
    wait_caught_up,
    wait_equal,
)
from tests.support.instance import wait_until
from tests.support.wire import wire


def test_a_promoted_replica_has_every_acknowledged_write(tmp_path: Path):
    """The primary is killed in the middle of writes; it comes back, follows, and drops what its successor never had."""
    options = {"ephemeral": False, "lost_writes_folder": str(tmp_path)}
    with pair(options, {"relay_listen": "tcp://127.0.0.1:0"}) as (one, two):
        acknowledged = 0
        with shmcache.connect(one.url, ack=1, ack_timeout=5) as client:
            for n in range(500):
                client.set(f"k{n}", n)
                acknowledged += 1
        # The primary's relay sends nothing more: what is written now only the primary has.
        os.kill(relay_pid(one), signal.SIGSTOP)
        with shmcache.connect(one.url) as client:
            for n in range(50):
                client.set(f"lost{n}", n)
        one.kill()
        relay_call(two.name, "promote")
        with shmcache.connect(two.url) as client:
            assert all(client.get(f"k{n}") == b"%d" % n for n in range(acknowledged))
            assert client.set("after", "promotion")
            one.start()
            wait_until(lambda: role(one) == "replica", 15, "the former primary learns of its successor")
            wait_caught_up(one)
            wait_equal(one, two)
            with shmcache.connect(one.url) as former:
                assert former.get("after") == b"promotion"
                assert former.get("lost7") is None
                with pytest.raises(ReadOnly, match=two.tcp):
                    former.set("k", "v")
        assert status(one)["lost_writes"] == 50
        assert status(one)["epoch"] == status(two)["epoch"] == 2
        (saved,) = tmp_path.iterdir()
        assert [json.loads(line)["key"] for line in saved.read_text().splitlines()] == [f"lost{n}" for n in range(50)]


def test_a_switchover_loses_nothing_and_copies_nothing():
    """Writers go on through it; whoever was the primary follows without a full copy."""
    with pair({"workers": 2}, {"relay_listen": "tcp://127.0.0.1:0", "workers": 3}) as (one, two):
        stop = threading.Event()
        written: list[int] = []
        refused: list[Exception] = []

        def write() -> None:
            with shmcache.connect(one.url) as client:
                n = 0
                while not stop.is_set():
                    try:
                        client.set(f"k{n}", n)
                        written.append(n)
                        n += 1
                    except ReadOnly as error:
                        refused.append(error)
                        return

        thread = threading.Thread(target=write)
        thread.start()
        wait_until(lambda: len(written) > 500, 10)
        found = relay_call(one.name, "switchover", {"to": two.name}, 20)
        thread.join(20)
        stop.set()
        assert found == {"primary": two.tcp, "epoch": 2}
        assert refused, "the writer was told where the primary is"
        wait_caught_up(one)
        with shmcache.connect(two.url) as client:
            assert all(client.get(f"k{n}") == b"%d" % n for n in written)
            assert client.dbsize() == len(written)
            client.set("new", "here")
        wait_until(lambda: shmcache.connect(one.url).get("new") == b"here", 5)
        wait_equal(one, two)
        assert "full copy" not in one.log()
        # And back.
        assert relay_call(two.name, "switchover", {"to": one.tcp}, 20)["epoch"] == 3
        wait_caught_up(two)
        with shmcache.connect(one.url) as client:
            client.set("again", "here")
        wait_equal(one, two)
        assert two.log().count("full copy begins") == 1, "the first one"


def test_a_switchover_that_the_replica_cannot_follow_changes_nothing():
    with pair(second={"relay_listen": "tcp://127.0.0.1:0"}) as (one, two), shmcache.connect(one.url) as client:
        stopped = relay_pid(two)
        os.kill(stopped, signal.SIGSTOP)
        client.set("unsent", 1)
        with pytest.raises(ShmcacheError, match="nothing has changed"):
            relay_call(one.name, "switchover", {"to": two.name}, 20)
        assert client.set("k", "v")
        os.kill(stopped, signal.SIGCONT)
        wait_equal(one, two)
        assert status(one)["role"] == "primary"


def test_roles_that_make_no_sense():
    with pair() as (one, two):
        for name, call, arguments in (
            (one.name, "switchover", {"to": "nobody"}),
            (two.name, "switchover", {"to": one.name}),
            (one.name, "demote", {"primary": ""}),
            (two.name, "replicate", {"primary": "nonsense"}),
            (two.name, "replicate", {"primary": "tcp://host:70000"}),
            (one.name, "forget", {"replica": "nobody"}),
        ):
            with pytest.raises(ShmcacheError):
                relay_call(name, call, arguments)
        assert status(one)["role"] == "primary"
        assert relay_call(one.name, "promote")["epoch"] == 1, "it is the primary already"


def test_an_old_epoch_is_refused():
    """A primary that was replaced and does not know it gets no followers."""
    with primary(ephemeral=False) as one, replica(one, relay_listen="tcp://127.0.0.1:0") as two, replica(one) as three:
        relay_call(two.name, "promote")
        wait_until(lambda: status(one)["role"] == "replica", 10, "the old primary is told at once")
        relay_call(three.name, "replicate", {"primary": two.tcp})
        wait_caught_up(three)
        with shmcache.connect(two.url) as client:
            client.set("k", "v")
        wait_equal(one, two, three)
        assert {status(each)["epoch"] for each in (one, two, three)} == {2}


def test_operators_calls_are_for_the_host_itself():
    """Over the network nobody promotes or demotes anything, or gives a worker records."""
    with primary() as one:
        with wire(status(one)["relay"]) as connection:
            for call in ("promote", "demote", "replicate", "switchover", "forget"):
                answer = connection.control(call, primary="tcp://127.0.0.1:1", to="x", replica="x")
                assert isinstance(answer, ResponseError), call
                assert answer.code == "DENIED"
            for garbage in ({}, {"shard": 99, "position": 0}, {"shard": "x"}, {"shard": 0, "position": -1}, {"shard": 0, "position": 1 << 60}):
                assert isinstance(connection.control("fetch", **garbage), Exception)
            assert isinstance(connection.control("slice", shard=0, replica="x", first=False), Exception)
            assert isinstance(connection.control("hello"), Exception)
            assert isinstance(connection.control("nonsense"), Exception)
        with wire(one.tcp) as connection:
            for call in ("apply", "mark", "sweep", "role", "nothing"):
                assert isinstance(connection.control(call, records=b""), Exception)
        assert status(one)["role"] == "primary"


def test_a_primary_that_does_not_exist_yet():
    """A replica waits for it, readable and empty, and says so."""
    with primary() as one:
        address = one.tcp
        one.stop()
        from tests.support.instance import running_instance

        with running_instance(replica_of=address) as two:
            with shmcache.connect(two.url) as client:
                assert client.get("k") is None
            wait_until(lambda: status(two)["links"][0]["state"] == "down", 10)
            assert address in status(two)["links"][0]["last_error"]
            one.start()
            wait_caught_up(two)


def test_options_that_contradict_each_other():
    from tests.support.instance import instance_folder

    with instance_folder(replica_of="tcp://127.0.0.1:1", peers="tcp://127.0.0.1:2", node=1) as one:
        process = one.launch(**one.options)
        assert process.wait(20) == 2
        assert process.stdout is not None
        process.stdout.close()
        assert "peers" in one.log()


