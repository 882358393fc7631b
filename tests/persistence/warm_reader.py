"""One process that reads on the host until SIGTERM, through every restart: `python -m tests.persistence.warm_reader URL KEYS TIMEOUT`.

Every key must hold its value each time. Ends with code 0 and one JSON line: reads, errors by name, the longest call; or with code 1 at a wrong value.
"""

import json
import sys
import time
from collections import Counter

import shmcache
from shmcache.errors import ShmcacheError
from tests.chaos.writer import StopFlag


def value_of(number: int) -> bytes:
    return b"%d:" % number * 20


def main(url: str, keys: str, timeout: str) -> None:
    stop = StopFlag()
    reads, longest = 0, 0.0
    errors: Counter[str] = Counter()
    with shmcache.connect(url, timeout=float(timeout)) as cache:
        while not stop.set:
            for number in range(int(keys)):
                began = time.monotonic()
                try:
                    found = cache.get(b"warm%d" % number)
                except ShmcacheError as error:
                    errors[type(error).__name__] += 1
                else:
                    assert found == value_of(number), (number, found)
                reads += 1
                longest = max(longest, time.monotonic() - began)
            time.sleep(0.002)
    print(json.dumps({"reads": reads, "errors": errors, "longest_s": round(longest, 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
