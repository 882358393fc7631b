"""Reads from shared memory against redis-py over a unix socket, LMDB in /dev/shm and a dict."""

import random
import tempfile
from typing import Any

from .peers import PeerMissing, redis_server
from .region import VALUE, engine, fill, key_of, memory_for
from .suite import Row, missing
from .timing import clock_overhead_ns, per_call_us, percentiles, single_calls

SMALL = 1000
CALLS = 100_000


def run(keys: int) -> list[Row]:
    """`keys` is for the reads at random over many keys."""
    import shmcache

    from . import temporary

    few = [key_of(n) for n in range(SMALL)]
    hundred = few[:100]
    rows = []
    with temporary.instance(memory=256 << 20, workers=1, pin="false") as name, shmcache.connect(f"shm://{name}") as client:
        client.mset(dict.fromkeys(few, VALUE))
        get, mget = per_call_us(client.get, few), per_call_us(client.mget, [hundred] * 40, 50)
        tail = percentiles(single_calls(client.get, [(few[i % SMALL],) for i in range(CALLS)]), clock_overhead_ns())
        times = {"p50_us": tail.p50_us, "p99_us": tail.p99_us, "p999_us": tail.p999_us}
        try:
            with redis_server() as (redis, _):
                redis.mset(dict.fromkeys(few, VALUE))
                peer_get, peer_mget = per_call_us(redis.get, few, 50), per_call_us(redis.mget, [hundred] * 40, 20)
            get_again = per_call_us(client.get, few)
            best = min(get, get_again)
            rows.append(Row("GET", best, "us", "<= 0.25, >= 200x", "redis-py", peer_get, peer_get / best, **times))
            rows.append(Row("MGET of 100", mget, "us", ">= 10x", "redis-py", peer_mget, peer_mget / mget))
        except PeerMissing as reason:
            rows += [Row("GET", get, "us", "<= 0.25", **times), missing("GET", "redis-py", str(reason))]
            rows.append(Row("MGET of 100", mget, "us"))
    rows.append(_against("LMDB in /dev/shm", _lmdb_us, few, rows[0].value))
    rows.append(_against("dict", _dict_us, few, rows[0].value))
    rows.append(_many(keys))
    return rows


def _against(peer: str, measure: Any, few: list[bytes], ours: float | None) -> Row:
    try:
        theirs = measure(few)
    except PeerMissing as reason:
        return missing("GET", peer, str(reason))
    return Row("GET", ours, "us", "", peer, theirs, theirs / ours if ours else None)


def _dict_us(few: list[bytes]) -> float:
    return per_call_us(dict.fromkeys(few, VALUE).get, few)


def _lmdb_us(few: list[bytes]) -> float:
    try:
        import lmdb
    except ImportError:
        raise PeerMissing("lmdb is not installed (pip install 'shmcache[bench]')") from None
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="bench-lmdb-") as folder, lmdb.open(folder, map_size=64 << 20) as store:
        with store.begin(write=True) as writing:
            for key in few:
                writing.put(key, VALUE)
        with store.begin() as reading:
            return per_call_us(reading.get, few)


def _many(keys: int) -> Row:
    """Random keys of many: each read misses the processor's caches, which the few keys above do not."""
    chosen = random.Random(1)
    with engine(memory_for(keys)) as (owner, reader, _):
        fill(owner, keys)
        wanted = [key_of(chosen.randrange(keys)) for _ in range(CALLS)]
        value = per_call_us(reader.get, wanted, CALLS // 20)
        tail = percentiles(single_calls(reader.get, [(key,) for key in wanted]), clock_overhead_ns())
    return Row(f"GET of {keys:,} random keys", value, "us", "<= 0.6", p50_us=tail.p50_us, p99_us=tail.p99_us, p999_us=tail.p999_us)
