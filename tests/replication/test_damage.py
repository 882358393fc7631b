"""What a replica makes of a wire that changes bytes, of a primary that dies in the middle of a copy, and of a full disk."""

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

import shmcache
from cli.replication import relay_call
from shmcache.replication.frames import seal, unseal
from tests.replication.pairs import pair, primary, relay_pid, role, status, wait_caught_up, wait_equal
from tests.support.corrupt import CorruptingProxy, Damage
from tests.support.hosts import hosts
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.small_disk import small_disk

ROUTER, RELAY, LOG = 7400, 7410, 7411
NONE = Damage()
ANSWERS_S_MAX = 60.0
"""Until a replica has everything, through a wire that damages one answer in five."""


def test_a_seal_finds_any_flipped_bit() -> None:
    message = [b"route", b"h" * 24, b"payload"]
    sealed = seal(message)
    assert unseal(sealed) == message
    for part in (1, 2, 3):
        for bit in range(8 * len(sealed[part])):
            damaged = bytearray(sealed[part])
            damaged[bit // 8] ^= 1 << bit % 8
            assert unseal([*sealed[:part], bytes(damaged), *sealed[part + 1 :]]) is None
    assert unseal([b"x"]) is None


@contextlib.contextmanager
def damaged_pair(
    log: Damage, answers: Damage = NONE, seed: int = 1
) -> Iterator[tuple[RunningInstance, RunningInstance, dict[int, CorruptingProxy]]]:
    """A primary, a replica that reaches it through proxies on its own host, and those by port: they damage what the primary publishes and answers."""
    with hosts(2) as (first, second), contextlib.ExitStack() as cleanup:
        wide = {"listen": f"tcp://0.0.0.0:{ROUTER}", "relay_listen": f"tcp://0.0.0.0:{RELAY}"}
        one = cleanup.enter_context(first.running_instance(workers=2, log_size="1MB", **wide))
        proxies = {}
        with second.inside():
            for port, damage in ((ROUTER, Damage()), (RELAY, answers), (LOG, log)):
                proxies[port] = CorruptingProxy((first.address, port), damage, direction="to_client", port=port, seed=seed)
                cleanup.enter_context(proxies[port])
        two = cleanup.enter_context(second.running_instance(replica_of=f"tcp://127.0.0.1:{ROUTER}"))
        yield one, two, proxies


def test_damaged_bytes_of_the_log_are_found_and_what_they_hit_comes_again() -> None:
    """Of one published payload in twenty a byte is flipped."""
    with damaged_pair(Damage(share=0.05, longer_than=64)) as (one, two, proxies), shmcache.connect(one.url) as client:
        log = proxies[LOG]
        for at in range(0, 12_000, 50):
            client.mset({f"k{n % 2500}": f"{n}" * 40 for n in range(at, at + 50)})
            client.incr("counter")
        wait_until(lambda: log.flips, 10, "something was damaged")
        # For connections from now on: those that there are go on as they began.
        log.change(Damage())
        wait_equal(one, two, seconds=60)
        with shmcache.connect(two.url) as reader:
            assert reader.get("counter") == client.get("counter")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_wire_that_damages_answers_all_the_time_is_got_over(seed: int) -> None:
    """Of one answer in five and one published payload in ten a byte is flipped, lengths and handshakes included, and it does not end."""
    with damaged_pair(Damage(share=0.1), Damage(share=0.2), seed) as (one, two, proxies), shmcache.connect(one.url) as client:
        for at in range(0, 12_000, 50):
            client.mset({f"k{n % 2500}": f"{n}" * 40 for n in range(at, at + 50)})
            client.incr("counter")
        wait_equal(one, two, seconds=ANSWERS_S_MAX)
        assert proxies[RELAY].flips
        assert proxies[LOG].flips


def test_a_primary_killed_in_the_middle_of_a_copy() -> None:
    """The replica keeps what it has until the primary is back, and then copies to the end."""
    keys = 400_000
    with primary(ephemeral=False, memory="256MB") as one, shmcache.connect(one.url) as client:
        for start in range(0, keys, 2000):
            client.mset({f"key:{n}": n for n in range(start, start + 2000)})
        with running_instance(replica_of=one.tcp, memory="256MB", workers=2) as two, shmcache.connect(two.url) as reader:
            had = wait_until(reader.dbsize, 20, "the copy has begun")
            one.kill()
            assert had < keys, "the copy was faster than this test"
            wait_until(lambda: status(two)["links"][0]["state"] != "copying", 20, "the link is given up")
            assert had <= reader.dbsize() < keys, "it stays where it is"
            one.start()
            with shmcache.connect(one.url) as writer:
                writer.set("after", "the kill")
                wait_until(lambda: reader.get("after") == b"the kill", 30)
            wait_equal(one, two)
            assert reader.dbsize() == keys + 1


def test_a_full_disk_costs_the_file_of_lost_writes_and_nothing_else() -> None:
    """A former primary rejoins and counts what it lost, though it cannot save it."""
    with small_disk() as disk:
        options = {"ephemeral": False, "lost_writes_folder": str(disk.folder)}
        with pair(options, {"relay_listen": "tcp://127.0.0.1:0"}) as (one, two):
            disk.fill()
            with shmcache.connect(one.url, ack=1, ack_timeout=5) as client:
                client.set("kept", 1)
            os.kill(relay_pid(one), signal.SIGSTOP)
            with shmcache.connect(one.url) as client:
                for n in range(30):
                    client.set(f"lost{n}", "x" * 300)
            one.kill()
            relay_call(two.name, "promote")
            one.start()
            wait_until(lambda: role(one) == "replica", 15, "the former primary learns of its successor")
            wait_caught_up(one)
            wait_equal(one, two)
            assert status(one)["lost_writes"] == 30
            assert [path.name for path in disk.folder.iterdir()] == ["filler"]
