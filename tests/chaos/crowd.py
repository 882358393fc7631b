"""The clients of an instance under attack: writers and readers as processes, brought back when they are
killed.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shmcache
from shmcache.client.blocking import Client
from tests.chaos.items import final_problem, keys_of
from tests.chaos.ledger import ACKNOWLEDGED, LIVES, REFUSED, UNKNOWN, Ledger
from tests.chaos.reader import STEADY_KEYS, steady_key, steady_value
from tests.support.instance import RunningInstance, wait_until

_ROOT = Path(__file__).resolve().parents[2]
_STOP_S_MAX = 60.0


def _heeds_sigterm(process: "subprocess.Popen[str]") -> bool:
    """Whether it has a handler for SIGTERM by now, or has ended."""
    if process.poll() is not None:
        return True
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> signal.SIGTERM - 1 & 1)


class Crowd:
    """Writers (half on the host, half through the router) and readers (all on the host). A context manager:
    no process of it outlives the block.
    """

    def __init__(self, instance: RunningInstance, writers: int = 3, readers: int = 2) -> None:
        self._instance, self._readers = instance, readers
        self._paths = [instance.folder / f"ledger{writer}" for writer in range(writers)]
        self.ledgers = [Ledger(path, create=True) for path in self._paths]
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self._starts = 0

    def __enter__(self) -> "Crowd":
        with shmcache.connect(self._instance.url) as cache:
            cache.mset({steady_key(number): steady_value(number) for number in range(STEADY_KEYS)})
        for writer in range(len(self._paths)):
            self.start_writer(writer)
        for reader in range(self._readers):
            paths = [str(path) for path in self._paths]
            self._start(f"reader {reader}", "reader", self._instance.url, str(reader), *paths)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()
        for ledger in self.ledgers:
            ledger.close()

    def start_writer(self, writer: int) -> None:
        """Start a life of a writer; its seed is another one each time."""
        self._starts += 1
        url = self._instance.tcp if writer % 2 else self._instance.url
        self._start(
            f"writer {writer}", "writer", url, str(self._paths[writer]), str(writer), str(self._starts)
        )

    def _start(self, name: str, program: str, *arguments: str) -> None:
        with (self._instance.folder / "clients.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"tests.chaos.{program}", *arguments],
                cwd=_ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_busy(self) -> None:
        """Wait until every writer has written."""
        wait_until(
            lambda: all(ledger.tally(ACKNOWLEDGED) > 50 for ledger in self.ledgers), 30, "writers write"
        )

    def kill_writer(self, writer: int) -> None:
        """`kill -9` a writer and start its next life."""
        process = self.processes.pop(f"writer {writer}")
        process.kill()
        process.communicate()
        assert process.returncode in (-signal.SIGKILL,), f"writer {writer} had ended:\n{self.log()}"
        self.start_writer(writer)

    def check_alive(self) -> None:
        """AssertionError if a client has ended by itself, with what it said."""
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.log()}"

    def stop(self) -> dict[str, Any]:
        """Have all end in order; returns what readers and ledgers counted. AssertionError if one found a
        fault.
        """
        # A life that has just begun still dies of the signal that is to end it in order.
        wait_until(lambda: all(map(_heeds_sigterm, self.processes.values())), _STOP_S_MAX, "clients take signals")
        self.check_alive()
        for process in self.processes.values():
            process.terminate()
        counted: dict[str, Any] = {}
        while self.processes:
            name, process = self.processes.popitem()
            try:
                output, _ = process.communicate(timeout=_STOP_S_MAX)
            finally:
                process.kill()
            assert process.returncode == 0, f"{name} ended with {process.returncode}:\n{self.log()}"
            for field, value in (json.loads(output) if output else {}).items():
                counted[field] = (
                    max(counted[field], value)
                    if field.endswith("max") and field in counted
                    else (counted.get(field, 0) + value)
                )
        fields = {"acknowledged": ACKNOWLEDGED, "unknown": UNKNOWN, "refused": REFUSED, "writer_lives": LIVES}
        totals = {name: sum(ledger.tally(field) for ledger in self.ledgers) for name, field in fields.items()}
        return counted | totals | {"items": sum(map(len, self.ledgers))}

    def problems(self, cache: Client) -> Iterator[str]:
        """What is wrong with the items, now that nobody writes, as one client sees them."""
        for writer, ledger in enumerate(self.ledgers):
            for number in range(len(ledger)):
                kind, acknowledged, intended, refused = ledger.item(number)
                keys = keys_of(kind, writer, number)
                problem = final_problem(kind, keys, cache.mget(keys), acknowledged, intended, refused)
                if problem:
                    yield problem

    def keys_found(self, cache: Client) -> int:
        """How many keys of items and steady keys exist: no others should."""
        names = [
            key
            for writer, ledger in enumerate(self.ledgers)
            for number in range(len(ledger))
            for key in keys_of(ledger.item(number).kind, writer, number)
        ]
        return int(cache.exists(*names, *map(steady_key, range(STEADY_KEYS))))

    def log(self) -> str:
        """The last of what the clients said."""
        path = self._instance.folder / "clients.log"
        return path.read_text()[-4000:] if path.exists() else ""
