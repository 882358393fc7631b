"""One process that reads on the host until SIGTERM: `python -m tests.chaos.reader URL SEED LEDGER...`.
 It checks each value against the bounds in the writers' ledgers, and in between reads keys that nobody
writes, which must never have to wait for a worker. Ends with code 0 and one JSON line, or with code 1 and the
first thing that was wrong.
"""

import json
import random
import sys
import time
from pathlib import Path

from shmcache.client.blocking import Client
from shmcache.errors import ShmcacheError
from tests.chaos.items import keys_of, live_problem
from tests.chaos.ledger import Ledger
from tests.chaos.writer import StopFlag, connect

STEADY_KEYS = 500
RECENT_ITEMS = 60
BURST_READS = 100
PAUSE_S = 0.005
WAITED_S = 0.05
"""A read that takes longer has waited: for a worker, or for a core of a busy machine."""


def steady_key(number: int) -> bytes:
    return b"steady:%d" % number


def steady_value(number: int) -> bytes:
    return b"%d" % number * 16


def check_written(cache: Client, ledger: Ledger, writer: int, chance: random.Random) -> str | None:
    """Read one key of one item that may be written just now; returns what is wrong with it."""
    count = len(ledger)
    if not count:
        return None
    number = (
        chance.randrange(max(0, count - RECENT_ITEMS), count)
        if chance.random() < 0.9
        else chance.randrange(count)
    )
    kind, acknowledged, _, _ = ledger.item(number)
    keys = keys_of(kind, writer, number)
    place = chance.randrange(len(keys))
    found = cache.get(keys[place])
    return live_problem(kind, place, keys[place], found, acknowledged, ledger.intended(number))


def main(url: str, seed: str, *paths: str) -> int:
    """Read until SIGTERM or until something is wrong; returns the exit code."""
    stop, chance = StopFlag(), random.Random(seed)
    ledgers = [Ledger(Path(path)) for path in paths]
    tally = {"reads": 0, "steady_reads": 0, "steady_gap_ms_max": 0.0, "steady_waits": 0, "unanswered": 0}
    cache = connect(url, stop)
    while cache is not None and not stop.set:
        for _ in range(BURST_READS):
            writer = chance.randrange(len(ledgers))
            number = chance.randrange(STEADY_KEYS)
            try:
                problem = check_written(cache, ledgers[writer], writer, chance)
                # A read of a bucket that a worker died in waits for the next worker; no other does.
                asked = time.monotonic()
                if cache.get(steady_key(number)) != steady_value(number):
                    problem = f"{steady_key(number)!r} is wrong"
            except ShmcacheError as error:
                tally["unanswered"] += 1
                print(f"reader: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            if problem:
                print(f"reader: {problem}", file=sys.stderr, flush=True)
                return 1
            gap = time.monotonic() - asked
            tally["reads"] += 1
            tally["steady_reads"] += 1
            tally["steady_waits"] += gap > WAITED_S
            tally["steady_gap_ms_max"] = max(tally["steady_gap_ms_max"], round(gap * 1000, 2))
        time.sleep(PAUSE_S)
    print(json.dumps(tally), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
