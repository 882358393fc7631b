"""`shmcache verify` against an instance that demands CURVE at its router and its relay."""

import json
from collections.abc import Iterator

import pytest

import shmcache
from shmcache.protocol import curve
from tests.replication.pairs import primary, replica, wait_equal
from tests.security.conftest import Keys, make_keys
from tests.security.test_curve import command
from tests.support.instance import RunningInstance


@pytest.fixture(scope="module")
def secured_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Keys, RunningInstance, RunningInstance]]:
    """A primary with two shards and its replica, with keys at every tcp address; they hold the same 100 keys."""
    keys = make_keys(tmp_path_factory.mktemp("verify"))
    curve.authorize(keys.authorized, keys.public("server").encode(), "server")
    options = {"curve": "on", "peer_keys": keys.public("server"), **keys.of_server}
    with primary(workers=2, **options) as one, replica(one, **options) as two, shmcache.connect(one.url) as client:
        for n in range(100):
            client.set(f"k{n}", n)
        wait_equal(one, two)
        yield keys, one, two


def test_keys_come_from_options_variables_or_the_url(secured_pair: tuple[Keys, RunningInstance, RunningInstance]) -> None:
    keys, one, two = secured_pair
    variables = {"SHMCACHE_SERVER_KEY": keys.public("server"), "SHMCACHE_CLIENT_KEY": keys.file("client")}
    options = ("--server-key", keys.public("server"), "--client-key", keys.file("client"))
    url = f"{one.tcp}?server_key={keys.folder}/server.pub&client_key={keys.file('client')}"
    for words, environment in (((), variables), (options, {}), (("--against", url), {}), (("--against", one.tcp), variables)):
        done = command("verify", two.name, "--json", *words, **environment)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found == {"against": one.tcp, "keys": 100, "slots_differing": 0, "differences": []}


def test_without_the_right_keys_it_is_told_why(secured_pair: tuple[Keys, RunningInstance, RunningInstance]) -> None:
    keys, _, two = secured_pair
    refused = command("verify", two.name)
    assert refused.returncode == 2
    assert b"demands CURVE" in refused.stderr
    strange = command("verify", two.name, "--server-key", keys.public("server"), "--client-key", keys.file("stranger"))
    assert strange.returncode == 2
    assert b"does not accept this client's key" in strange.stderr
    none = command("verify", two.name, "--against", "shm://other")
    assert none.returncode == 1
    assert b"tcp://HOST:PORT" in none.stderr


def test_differences_are_found_and_named_through_curve(secured_pair: tuple[Keys, RunningInstance, RunningInstance]) -> None:
    keys, one, _ = secured_pair
    options = ("--server-key", keys.public("server"), "--client-key", keys.file("client"))
    with primary() as other, shmcache.connect(other.url) as client:
        client.set("k1", "another value")
        done = command("verify", other.name, "--against", one.tcp, "--json", "--most", "3", *options)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["slots_differing"] > 50
    assert len(found["differences"]) == 3
