"""The metrics endpoint of real instances: what a scrape says, compared with `stats` and `replicas`, and what it does when processes die."""

import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import shmcache
from shmcache.limits import METRICS_CACHE_S, METRICS_CONNECTIONS_MAX
from shmcache.server import exit_codes
from shmcache.server.measuring.families import FAMILIES, LABELS, reference
from tests.pubsub.test_failures import hub_stats
from tests.replication.pairs import pair, status, wait_equal
from tests.support.instance import RunningInstance, instance_folder, running_instance, wait_until
from tests.support.wire import wire

Labels = frozenset[tuple[str, str]]


def address(instance: RunningInstance) -> str:
    found = re.search(r"http://\S+/metrics", instance.ready_line)
    assert found, instance.ready_line
    return found[0]


def scrape(instance: RunningInstance) -> dict[str, dict[Labels, float]]:
    """Name -> labels -> value; a text that is not in Prometheus' format is an error."""
    with urllib.request.urlopen(address(instance), timeout=10) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=")
        text = reply.read().decode()
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            rows = found.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in rows, sample
            rows[labels] = sample.value
    return found


def one(found: dict[str, dict[Labels, float]], name: str, **labels: str) -> float:
    return found["shmcache_" + name][frozenset(labels.items())]


def shard_stats(instance: RunningInstance, shard: int) -> dict[str, object]:
    with wire(instance.snapshot().shards[shard].endpoints[0]) as connection:
        return connection.control("stats")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[RunningInstance, RunningInstance]]:
    """A primary with two shards and channels, and its replica with one, which has it all."""
    with (
        pair({"metrics": "0", "channels": True, "workers": 2}, {"metrics": "127.0.0.1:0"}) as (primary, replica),
        shmcache.connect(primary.url) as client,
        client.pubsub(True) as subscriber,
    ):
        subscriber.subscribe("news")
        for n in range(500):
            client.set(f"k{n}", n)
            client.get(f"k{n}")
        client.publish("news", "x")
        assert subscriber.get_message(timeout=5)
        wait_equal(primary, replica)
        wait_until(lambda: all(not row["lag_bytes"] for row in status(primary)["replicas"]), 10, "all is acknowledged")
        yield primary, replica


def test_a_scrape_says_what_stats_says(two: tuple[RunningInstance, RunningInstance]) -> None:
    for instance in two:
        found = scrape(instance)
        shards = len(instance.snapshot().shards)
        for shard in range(shards):
            figures = shard_stats(instance, shard)
            for family in FAMILIES:
                if family.scope == "shard" and family.key not in ("", "commands", "batches"):
                    assert found[family.exposed][frozenset({("shard", str(shard))})] == figures[family.key], family
        assert sum(found["shmcache_keys"].values()) == 500
    found = scrape(two[0])
    assert sum(found["shmcache_commands_total"].values()) >= 500
    assert sum(found["shmcache_operations_total"].values()) >= 1000
    assert sum(found["shmcache_local_hits_total"].values()) == 500
    labels = frozenset({("shard", "0"), ("family", "write")})
    assert found["shmcache_command_duration_seconds_count"][labels] > 100
    assert 0 < found["shmcache_command_duration_seconds"][labels | {("quantile", "0.99")}] < 1


def test_a_scrape_says_what_replicas_and_channels_say(two: tuple[RunningInstance, RunningInstance]) -> None:
    primary, replica = two
    found, row = scrape(primary), status(primary)["replicas"][0]
    labels = {"replica": replica.name, "id": row["replica"]}
    assert one(found, "role", role="primary") == 1
    assert one(found, "epoch") == status(primary)["epoch"]
    assert one(found, "replica_connected", **labels) == 1
    assert [one(found, f"replica_lag_{unit}", **labels) for unit in ("bytes", "records", "seconds")] == [0, 0, 0]
    assert [row["lag_bytes"], row["lag_records"], row["lag_ms"]] == [0, 0, 0]
    assert one(found, "published_records_total") == status(primary)["published"]["records"]
    assert one(found, "lost_writes_total") == 0
    hub = hub_stats(primary)
    assert one(found, "channel_messages_published_total") == hub["published"] == 1
    assert one(found, "channel_subscriptions") == hub["subscriptions"] == 1
    assert one(found, "channel_messages_dropped_total") == hub["dropped"] == 0
    found, link = scrape(replica), status(replica)["links"][0]
    assert one(found, "role", role="replica") == 1
    assert one(found, "link_state", upstream=link["upstream"], state="following") == 1
    assert one(found, "link_lag_bytes", upstream=link["upstream"]) == link["lag_bytes"]
    assert one(found, "link_lag_seconds", upstream=link["upstream"]) < 2
    # Noted ten times a second, and a scrape may be a second old.
    found = wait_until(lambda: (f := scrape(replica)) and "shmcache_replica_age_seconds" in f and f, 5, "its age is told")
    assert one(found, "replica_age_seconds") < 2


def test_the_lag_of_a_replica_that_stands_still_is_told_in_records_bytes_and_time() -> None:
    with pair({"metrics": "0"}) as (primary, replica), shmcache.connect(primary.url) as client:
        client.set("before", 1)
        wait_equal(primary, replica)
        row = wait_until(lambda: next((r for r in status(primary)["replicas"] if not r["lag_bytes"]), None), 10, "no lag")
        pid = replica.child_pid("relay")
        os.kill(pid, signal.SIGSTOP)
        try:
            for n in range(300):
                client.set(f"k{n}", n)
            wait_until(lambda: status(primary)["replicas"][0]["lag_ms"] > 700, 10, "the lag grows")
            # Figures are a second old at most.
            labels = {"replica": replica.name, "id": row["replica"]}
            found = wait_until(lambda: (f := scrape(primary)) and one(f, "replica_lag_seconds", **labels) > 0.7 and f, 5, "told")
            assert one(found, "replica_lag_records", **labels) == 300
            assert one(found, "replica_lag_bytes", **labels) == status(primary)["replicas"][0]["lag_bytes"] > 300 * 24
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: status(primary)["replicas"][0]["lag_ms"] == 0, 10, "it catches up")


def test_every_metric_is_documented_and_the_page_is_current(two: tuple[RunningInstance, RunningInstance]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "stats.md").read_text()
    assert reference() in page
    names = {family.exposed: family for family in FAMILIES}
    for instance in two:
        for name, rows in scrape(instance).items():
            family = names[name.removesuffix("_count") if name not in names else name]
            for labels in rows:
                assert {label for label, _ in labels} <= {*LABELS[family.scope], *{"name", "version", "role", "state", "family", "quantile"}}


@pytest.mark.parametrize("module", ["relay", "router", "metrics"])
def test_it_goes_on_after_a_kill(module: str) -> None:
    """Of a process that it reports on: then it says so, and all else. Of its own: another one serves at the same address."""
    with running_instance(metrics="0", relay_listen="tcp://127.0.0.1:0") as instance, shmcache.connect(instance.url) as client:
        client.set("k", 1)
        assert set(scrape(instance)["shmcache_up"].values()) == {1}
        pid = instance.child_pid(module)
        # It cannot answer and is not replaced: that is how long a scrape takes at most.
        os.kill(pid, signal.SIGSTOP)
        if module != "metrics":
            down = wait_until(lambda: (f := scrape(instance)) and one(f, "up", process=module) == 0 and f, 10, f"{module} is down")
            assert one(down, "up", process="worker", shard="0") == 1
            assert one(down, "keys", shard="0") == 1
            assert one(down, "role", role="primary") == 1
            assert "shmcache_published_records_total" not in down or module != "relay"
        os.kill(pid, signal.SIGKILL)

        def whole() -> bool:
            try:
                found = scrape(instance)
            except OSError:
                return False
            return set(found["shmcache_up"].values()) == {1} and instance.child_pid(module) not in (0, pid)

        wait_until(whole, 10 + METRICS_CACHE_S, "all is there again")


def test_a_port_in_use_is_said_plainly() -> None:
    with socket.socket() as taken, instance_folder() as instance:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = instance.launch(**instance.options, metrics=port)
        assert process.wait(20) == exit_codes.START_FAILED
        assert process.stdout is not None
        process.stdout.close()
        assert f"shmcache: metrics: cannot listen at 127.0.0.1:{port}: Address already in use" in instance.log()
        assert "Traceback" not in instance.log()
        assert not list(Path("/dev/shm").glob(f"shmcache.{instance.name}.*"))


def test_nothing_else_is_served_and_strangers_cannot_take_all_threads() -> None:
    with running_instance(metrics="0") as instance:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address(instance).removesuffix("metrics") + "keys", timeout=5)
        assert caught.value.code == 404
        caught.value.close()
        port = int(address(instance).rpartition(":")[2].partition("/")[0])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(METRICS_CONNECTIONS_MAX + 4)]
        for extra in idle[METRICS_CONNECTIONS_MAX:]:
            extra.settimeout(5)
            assert extra.recv(1) == b"", "one too many is closed"
        for each in idle:
            each.close()
        wait_until(lambda: scrape_or_none(instance), 5, "it serves")


def scrape_or_none(instance: RunningInstance) -> object:
    try:
        return scrape(instance)
    except OSError:
        return None


def test_it_is_off_unless_asked_for() -> None:
    with running_instance() as instance:
        assert "metrics" not in instance.ready_line
        assert instance.child_pid("metrics") == 0


def test_all_addresses_are_the_operators_word_and_are_logged() -> None:
    with running_instance(metrics="0.0.0.0:0") as instance:
        assert "readable without a key" in instance.log()
