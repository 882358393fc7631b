"""One client process that writes until SIGTERM: `python -m tests.chaos.writer URL LEDGER WRITER SEED`.

Ends with code 0, or with a traceback and code 1 when it was answered something that cannot be.
"""

import random
import signal
import sys
import time
from pathlib import Path

import shmcache
from shmcache.client.blocking import Client
from shmcache.errors import InstanceNotFound, OutcomeUnknown, ShmcacheError, Unavailable
from tests.chaos.items import KINDS, NOT_REPEATABLE, keys_of, write
from tests.chaos.ledger import LIVES, Ledger

OPEN_ITEMS = 40
CONNECT_S_MAX = 30.0
CALL_S_MAX = 15.0


class StopFlag:
    """Set by SIGTERM."""

    def __init__(self) -> None:
        self.set = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.set = True


def connect(url: str, stop: StopFlag) -> Client | None:
    """A client; None if it was stopped before there was a server. Raises what `connect` does, in the end."""
    until = time.monotonic() + CONNECT_S_MAX
    while not stop.set:
        try:
            return shmcache.connect(url, timeout=CALL_S_MAX)
        except (InstanceNotFound, Unavailable):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    return None


def step(cache: Client, ledger: Ledger, writer: int, number: int) -> bool:
    """Write the item's next version; False if it failed and the item must be left alone."""
    kind = ledger.item(number).kind
    version = ledger.intend(number)
    try:
        write(cache, kind, keys_of(kind, writer, number), version)
    except ShmcacheError as error:
        print(f"writer {writer}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        ledger.give_up(number, refused=kind in NOT_REPEATABLE and not isinstance(error, OutcomeUnknown))
        return False
    ledger.acknowledge(number, version)
    return True


def main(url: str, path: str, writer: str, seed: str) -> None:
    """Write random items until SIGTERM; an item given up, also by a former life, is replaced by a new one."""
    stop, chance = StopFlag(), random.Random(seed)
    ledger = Ledger(Path(path))
    ledger.count(LIVES)
    numbers = [number for number in range(len(ledger)) if ledger.is_open(number)]
    cache = connect(url, stop)
    while cache is not None and not stop.set:
        if len(numbers) < OPEN_ITEMS:
            numbers.append(ledger.add(chance.choice(KINDS)))
        at = chance.randrange(len(numbers))
        if not step(cache, ledger, int(writer), numbers[at]):
            del numbers[at]


if __name__ == "__main__":
    main(*sys.argv[1:])
