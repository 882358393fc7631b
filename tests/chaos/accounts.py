"""The last proof of a run: everything that was written is looked at, and every region's accounts are added
up.
"""

import os

import posix_ipc

import shmcache
from shmcache import _engine
from shmcache.protocol.names import REGION_KINDS, region_name
from tests.chaos.crowd import Crowd
from tests.support.instance import RunningInstance, wait_until

_SHOWN_MAX = 10


def check_contents(instance: RunningInstance, crowd: Crowd) -> int:
    """No item is other than its ledger allows, over shared memory and through the router, and no other key
    exists. Returns the number of keys. Nobody may write any more.
    """
    for url in (instance.url, instance.tcp):
        with shmcache.connect(url, timeout=30) as cache:
            problems = list(crowd.problems(cache))
            assert not problems, f"{url}: {len(problems)} items are wrong: {problems[:_SHOWN_MAX]}"
            keys: int = cache.dbsize()
            assert keys == crowd.keys_found(cache), url
    return keys


def check_accounts(name: str, shards: int, keys: int) -> None:
    """A new owner of each region of a stopped instance finds its accounts right, and that many keys."""
    found = 0
    for shard in range(shards):
        fds = [posix_ipc.SharedMemory(region_name(name, shard, kind)).fd for kind in REGION_KINDS]
        owner = _engine.Owner.attach(*fds)
        try:
            owner.verify()
            found += owner.command("DBSIZE")
        finally:
            owner.close()
            for fd in fds:
                os.close(fd)
    assert found == keys


def wait_for_expiry(instance: RunningInstance, crowd: Crowd) -> None:
    """Wait until the workers have reclaimed all keys but those that last."""
    with shmcache.connect(instance.url) as cache:
        wait_until(lambda: cache.dbsize() == crowd.keys_found(cache), 10, "expired keys are reclaimed")
