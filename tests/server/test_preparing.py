"""Parts of transactions over several shards, asked for by hand: held, ended, given up."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

import shmcache
from shmcache import errors
from shmcache.limits import TRANSACTION_ASIDE_MESSAGES_MAX, TRANSACTION_LEASE_MS
from shmcache.protocol import codec
from shmcache.protocol.commands import slot_of_key
from tests.support.instance import RunningInstance, running_instance
from tests.support.wire import Wire, wire

LEASE_S = TRANSACTION_LEASE_MS / 1000


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance(workers=2) as found:
        yield found


@pytest.fixture
def cache(instance: RunningInstance) -> Iterator[shmcache.Client]:
    with shmcache.connect(instance.url) as found:
        found.flushall()
        yield found


@pytest.fixture
def shards(instance: RunningInstance) -> Iterator[list[Wire]]:
    """A coordinator's connection to each worker."""
    first, second = (record.endpoints[0] for record in instance.snapshot().shards)
    with wire(first) as one, wire(second) as two:
        yield [one, two]


def key_of(shard: int) -> str:
    """A key that lies there."""
    return next(f"k{n}" for n in range(100) if slot_of_key(f"k{n}") * 2 // 16384 == shard)


_tokens = iter(range(1, 1 << 20))


def prepare(connection: Wire, token: int, *commands: Any, decider: int = 0) -> Any:
    payload = codec.encode_commands(commands)
    found = connection.control("prepare", token=token, decider=decider, flags=0, options=b"", payload=payload)
    return [found[0], codec.decode_results(found[1]) if found[1] else None] if isinstance(found, list) else found


def test_prepared_and_committed(cache, shards):
    """Nobody sees what is prepared; the decision makes it real here, the commit there; asked again both say the same."""
    token = next(_tokens)
    keys = [key_of(0), key_of(1)]
    assert [prepare(shards[n], token, ("SET", keys[n], "x"), ("GET", keys[n])) for n in (0, 1)] == [[True, ["OK", b"x"]]] * 2
    assert [cache.get(key) for key in keys] == [None, None]
    assert shards[0].control("decide", token=token, shards=[1], options=b"") == [True, False]
    assert cache.get(keys[0]) == b"x"
    assert shards[1].control("commit", token=token, decider=0, options=b"") is True
    assert cache.get(keys[1]) == b"x"
    assert shards[0].control("decide", token=token, shards=[1], options=b"") == [True, False]
    assert shards[1].control("commit", token=token, decider=0, options=b"") is True
    assert shards[1].control("abandon", token=token) is False
    assert cache.get(keys[1]) == b"x"


def test_abandoned(cache, shards):
    """Nothing of it was done, and a prepare that comes late finds it ended."""
    token = next(_tokens)
    assert prepare(shards[0], token, ("SET", key_of(0), "x"))[0]
    assert shards[0].control("abandon", token=token) is True
    assert shards[0].control("decide", token=token, shards=[1], options=b"")[0] is False
    assert prepare(shards[0], token, ("SET", key_of(0), "x")) == [False, None]
    assert cache.dbsize() == 0
    other = next(_tokens)
    assert shards[0].control("abandon", token=other) is False
    assert prepare(shards[0], other, ("SET", key_of(0), "x")) == [False, None]
    assert shards[0].control("decide", token=next(_tokens), shards=[1], options=b"")[0] is None
    assert shards[1].control("commit", token=next(_tokens), decider=0, options=b"") is None


def test_a_lease_that_runs_out(cache, shards):
    """Nobody decides: the first shard gives up, the other one with it, and what waited is answered."""
    token = next(_tokens)
    keys = [key_of(0), key_of(1)]
    for n in (0, 1):
        assert prepare(shards[n], token, ("SET", keys[n], "x"))[0]
    begun = time.monotonic()
    assert cache.set(keys[1], "waited") is True
    assert LEASE_S / 2 < time.monotonic() - begun < LEASE_S * 5
    assert shards[0].control("decide", token=token, shards=[1], options=b"")[0] is False
    assert (cache.get(keys[0]), cache.get(keys[1])) == (None, b"waited")


def test_a_decision_that_is_not_told(cache, shards):
    """The coordinator dies after the first shard has committed: the other one sees it."""
    token = next(_tokens)
    keys = [key_of(0), key_of(1)]
    for n in (0, 1):
        assert prepare(shards[n], token, ("SET", keys[n], "x"))[0]
    assert shards[0].control("decide", token=token, shards=[1], options=b"")[0] is True
    assert cache.append(keys[1], "y") == 2
    assert shards[1].control("commit", token=token, decider=0, options=b"") is True


@pytest.mark.parametrize("is_decided", [False, True])
def test_a_participant_is_killed(cache, shards, instance, is_decided):
    """Its successor does what was decided."""
    token = next(_tokens)
    keys = [key_of(0), key_of(1)]
    for n in (0, 1):
        assert prepare(shards[n], token, ("SET", keys[n], "x"))[0]
    generation = instance.kill_worker(1)
    if is_decided:
        assert shards[0].control("decide", token=token, shards=[1], options=b"")[0] is True
    instance.wait_healed(1, generation, 20)
    assert [cache.get(key) for key in keys] == [b"x" if is_decided else None] * 2
    with wire(instance.snapshot().shards[1].endpoints[0]) as successor:
        assert successor.control("commit", token=token, decider=0, options=b"") is is_decided


def test_the_decider_is_killed(cache, shards, instance):
    """Before it has decided: nothing was done anywhere."""
    token = next(_tokens)
    keys = [key_of(0), key_of(1)]
    for n in (0, 1):
        assert prepare(shards[n], token, ("SET", keys[n], "x"))[0]
    instance.wait_healed(0, instance.kill_worker(0), 20)
    assert cache.set(keys[1], "waited") is True
    assert [cache.get(key) for key in keys] == [None, b"waited"]
    with wire(instance.snapshot().shards[0].endpoints[0]) as successor:
        assert successor.control("decide", token=token, shards=[1], options=b"")[0] is False


def test_asked_again_after_a_restart(cache, shards, instance):
    """The reply of an end was lost with its worker: the successor knows the last transaction."""
    token = next(_tokens)
    keys = [key_of(0), key_of(1)]
    for n in (0, 1):
        assert prepare(shards[n], token, ("SET", keys[n], "x"))[0]
    assert shards[0].control("decide", token=token, shards=[1], options=b"")[0] is True
    assert shards[1].control("commit", token=token, decider=0, options=b"") is True
    for shard in (0, 1):
        instance.wait_healed(shard, instance.kill_worker(shard), 20)
    first, second = (record.endpoints[0] for record in instance.snapshot().shards)
    with wire(first) as one, wire(second) as two:
        assert one.control("decide", token=token, shards=[1], options=b"")[0] is True
        assert two.control("commit", token=token, decider=0, options=b"") is True
        assert one.control("decide", token=token + 1, shards=[1], options=b"")[0] is None
        assert two.control("commit", token=token + 1, decider=0, options=b"") is None


def test_what_is_refused(cache, shards):
    """A check that fails, a group that is too large, nonsense: nothing is held then."""
    key = key_of(0)
    refused = prepare(shards[0], next(_tokens), ("CHECKSTAMP", key, 5), ("SET", key, 1))
    assert refused[0] is False
    assert [error.code for error in refused[1]] == ["ABORTED"] * 2
    large = [("SET", f"{{{key}}}{n}", bytes(200_000)) for n in range(15)]
    refused = prepare(shards[0], next(_tokens), *large)
    assert refused[0] is False
    assert {error.code for error in refused[1]} == {"LIMIT"}
    assert isinstance(prepare(shards[0], next(_tokens), ("SET", key, 1), decider=1), errors.ProtocolError)
    assert isinstance(shards[0].control("prepare", token=1), errors.ProtocolError)
    assert isinstance(shards[0].control("decide", token="x"), errors.ProtocolError)
    assert isinstance(prepare(shards[0], 0, ("SET", key, 1)), errors.ProtocolError)
    assert cache.dbsize() == 0


def test_too_many_wait(instance, shards):
    """What a held shard cannot keep is refused, and may be sent again."""
    assert prepare(shards[0], next(_tokens), ("GET", key_of(0)))[0]
    with wire(instance.snapshot().shards[0].endpoints[0], timeout_ms=20_000) as other:
        asked = TRANSACTION_ASIDE_MESSAGES_MAX + 10
        for _ in range(asked):
            other.send(["PING"])
        results = [other.receive()[1] for _ in range(asked)]
    refused = [result for result in results if isinstance(result, errors.Unavailable)]
    assert len(refused) <= 10
    assert results.count(["PONG"]) == asked - len(refused)
