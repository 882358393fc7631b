"""A client beside one node of a cluster, in a process of its own: `python -m tests.support.cluster_client INSTANCE`.

It has the node's clock (a deadline is wall-clock time), survives what happens to the node, and is commanded by JSON
lines: `go` begins a round of traffic in the background, `stop` ends it, `flood` and `dump` are done at once. Each
answer is one line.
"""

import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import shmcache
from shmcache.errors import NotReplicated, ReadOnly, ShmcacheError
from tests.support.history import Call, Recorder, version_of, versioned

CALL_S_MAX = 2.0
ACK_S_MAX = 0.5
PAUSE_S = 0.002
"""Between two operations: the histories of a round stay small enough to be checked in no time."""
RETRY_S = 0.05
LARGE_BYTES = 20_000
FLOOD_BYTES = 1_000
"""Small enough to lie in the log itself; of larger values it has only where they are."""


class Traffic:
    """Writes some keys and reads some, with everything recorded, until it is stopped."""

    def __init__(self, instance: str, order: dict[str, Any]) -> None:
        self._url, self._order = f"shm://{instance}", order
        self.versions: dict[str, int] = dict(order["versions"])
        self._chance = random.Random(order["seed"])
        self._recorder = Recorder(Path(order["path"]), order["session"])
        self._client: shmcache.Client | None = None
        self._stop = threading.Event()
        self.error = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        self._stop.set()
        self._thread.join()
        self._recorder.close()
        return {"versions": self.versions, "error": self.error}

    def _run(self) -> None:
        try:
            while not self._stop.wait(PAUSE_S):
                try:
                    self._step()
                except ReadOnly:
                    self._stop.wait(RETRY_S)
                except NotReplicated:
                    pass
                except ShmcacheError:
                    # A new client after each failure: what a supervisor of a real one does.
                    self._close()
                    self._stop.wait(RETRY_S)
        except BaseException as error:  # also a value that nobody wrote: it is the test's business
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self._close()

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> shmcache.Client:
        if self._client is None:
            self._client = shmcache.connect(self._url, timeout=CALL_S_MAX)
        return self._client

    def _step(self) -> None:
        client, order = self._connected(), self._order
        if self.versions and self._chance.random() < 0.5:
            self._write(client, self._chance.choice(list(self.versions)))
        elif order["counters"] and self._chance.random() < 0.4:
            self._incr(client, self._chance.choice(order["counters"]))
        elif order["reads"]:
            self._read(client, self._chance.choice(order["reads"]))

    def _write(self, client: shmcache.Client, key: str) -> None:
        self.versions[key] += 1
        version, ack = self.versions[key], self._order["ack"] if self._chance.random() < 0.7 else 0
        size = LARGE_BYTES if self._chance.random() < 0.05 else 0
        common = {"session": self._order["session"], "value": version, "node": self._order["node"], "ack": ack}
        is_deletion = self._chance.random() < 0.1
        begun = time.monotonic()
        with self._recorder.operation("delete" if is_deletion else "write", key, **common) as call:
            asking = client.with_options(ack=ack, ack_timeout=ACK_S_MAX)
            try:
                if is_deletion:
                    asking.delete(key)
                else:
                    asking.set(key, versioned(key, version, size))
            except ReadOnly:
                call.fail()
                raise
            call.ok(stamp=self._stamp(version, begun))
        if self._order["forwards"] and call.stamp is not None:
            self._read(client, key, version)

    def _stamp(self, version: int, begun: float) -> int | None:
        """On a replica that forwards, an answered write can be read here: versions stand for the stamps, which clients do
        not see. Not where the write took all its time: then the client has given up waiting for it to arrive.
        """
        in_time = time.monotonic() - begun < CALL_S_MAX / 2
        return version if self._order["forwards"] and in_time else None

    def _incr(self, client: shmcache.Client, key: str) -> None:
        ack = self._order["ack"]
        common = {"session": self._order["session"], "node": self._order["node"], "ack": ack}
        with self._recorder.operation("incr", key, **common) as call:
            try:
                value = client.with_options(ack=ack, ack_timeout=ACK_S_MAX).incr(key)
            except ReadOnly:
                call.fail()
                raise
            call.ok(value)

    def _read(self, client: shmcache.Client, key: str, stamp: int | None = None) -> None:
        common = {"session": self._order["session"], "node": self._order["node"], "stamp": stamp}
        with self._recorder.operation("read", key, **common) as call:
            found(call, key, client.get(key))


def found(call: Call, key: str, value: bytes | None) -> None:
    call.ok(0 if value is None else version_of(key, value))
    call.value = None if value is None else call.value


def flood(instance: str, size: int, deadline_s: float) -> dict[str, Any]:
    """Write that many bytes, each key once; what is refused is left out."""
    written = 0
    until = time.monotonic() + deadline_s
    while written < size and time.monotonic() < until:
        try:
            with shmcache.connect(f"shm://{instance}", timeout=CALL_S_MAX) as client:
                while written < size and time.monotonic() < until:
                    client.set(f"bulk{written}", bytes(FLOOD_BYTES))
                    written += FLOOD_BYTES
        except ShmcacheError:
            time.sleep(RETRY_S)
    return {"written": written}


def dump(instance: str, keys: list[str], counters: list[str]) -> dict[str, Any]:
    """What the keys hold: versions, and the counters' numbers."""
    with shmcache.connect(f"shm://{instance}", timeout=10) as client:
        final: dict[str, int | None] = {key: version_of(key, client.get(key)) for key in keys}
        for key in counters:
            value = client.get(key)
            final[key] = int(value) if value is not None else None
    return {"final": final}


def mark(instance: str, key: str, value: str, *, ack: int) -> dict[str, Any]:
    """A write that everyone acknowledges: the cluster works again."""
    with shmcache.connect(f"shm://{instance}", timeout=20) as client:
        client.with_options(ack=ack, ack_timeout=15).set(key, value)
    return {}


def main(instance: str) -> None:
    traffic: Traffic | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            match order.pop("call"):
                case "go":
                    assert traffic is None, "one at a time"
                    traffic = Traffic(instance, order)
                case "stop":
                    answer = traffic.stop() if traffic is not None else {"versions": {}, "error": ""}
                    traffic = None
                case "flood":
                    answer = flood(instance, **order)
                case "dump":
                    answer = dump(instance, **order)
                case "mark":
                    answer = mark(instance, **order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
