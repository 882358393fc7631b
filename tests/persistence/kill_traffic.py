"""Clients that write while everything around them is killed, and what they were promised by `aof always`."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

import shmcache
from shmcache.errors import InstanceNotFound, ShmcacheError
from tests.support.history import Event, Recorder, load, version_of, versioned
from tests.support.history_checks import violations
from tests.support.instance import wait_until

WRITERS = 3
KEYS_EACH = 12
GROUP = 3
"""Keys of one MSET, all of one shard: there together or not at all."""
LIST_LENGTH_MAX = 400
CALL_S_MAX = 6.0
"""Longer than an instance needs to come back: most writes outlive a kill."""
RETRY_S = 0.02
SIZES = (0,) * 12 + (700,) * 4 + (5_000,) * 2 + (40_000,)
"""Of values: in the log itself, and beside it."""
_SAFE = 1
"""What the checks know as the number of replicas: here the disk is the one that has it."""


class Writer(threading.Thread):
    """One client. Each of its keys has no other writer; what it did stands in `path`."""

    def __init__(self, number: int, url: str, seed: int, path: Path) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self.turn = threading.Lock()
        """Held while an operation is under way."""
        self.node = "0"
        """Which life of the memory it reads: a cold start may take back what was never acknowledged."""
        self.error: BaseException | None = None
        self.errors: Counter[str] = Counter()
        self.keys = [f"w{number}k{n}" for n in range(KEYS_EACH)]
        self.groups = [[f"{{w{number}g{n}}}{part}" for part in range(GROUP)] for n in range(3)]
        self.counters = [f"w{number}counter{n}" for n in range(2)]
        self.pushed: dict[str, list[tuple[int, bool]]] = {f"w{number}list0": []}
        """List -> what was pushed there, in this order, and whether that was acknowledged."""
        self._prefix = f"w{number}"
        self._url = url
        self._versions: Counter[str] = Counter()
        self._chance = random.Random(f"{seed}/{number}")
        self._recorder = Recorder(path, self.name)
        self._client: shmcache.Client | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            while not self._stopped.wait(0.001):
                with self.turn:
                    try:
                        self._step()
                    except ShmcacheError as error:
                        self.errors[type(error).__name__] += 1
                        self._close()
                if self._client is None:
                    time.sleep(RETRY_S)
        except BaseException as error:
            self.error = error
        finally:
            self._close()
            self._recorder.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _step(self) -> None:
        if self._client is None:
            self._client = shmcache.connect(self._url, timeout=CALL_S_MAX)
        client, draw = self._client, self._chance.random()
        if draw < 0.15:
            self._read(client)
        elif draw < 0.25:
            self._push(client)
        elif draw < 0.35:
            key = self._chance.choice(self.counters)
            with self._recorder.operation("incr", key, session=self.name, ack=_SAFE) as call:
                call.ok(client.incr(key))
        elif draw < 0.5:
            self._write_group(client, self._chance.choice(self.groups))
        else:
            self._write(client, self._chance.choice(self.keys))

    def _read(self, client: shmcache.Client) -> None:
        key = self._chance.choice(self.keys)
        with self._recorder.operation("read", key, session=self.name, node=self.node) as call:
            value = client.get(key)
            call.ok(version_of(key, value))

    def _write(self, client: shmcache.Client, key: str) -> None:
        self._versions[key] += 1
        version, is_deletion = self._versions[key], self._chance.random() < 0.1
        size = self._chance.choice(SIZES)
        kind = "delete" if is_deletion else "write"
        with self._recorder.operation(kind, key, session=self.name, value=version, ack=_SAFE) as call:
            if is_deletion:
                client.delete(key)
            else:
                client.set(key, versioned(key, version, size))
            call.ok()

    def _write_group(self, client: shmcache.Client, keys: list[str]) -> None:
        """Recorded as a write of its first key: that the others are with it is checked apart."""
        self._versions[keys[0]] += 1
        version, size = self._versions[keys[0]], self._chance.choice(SIZES)
        with self._recorder.operation("write", keys[0], session=self.name, value=version, ack=_SAFE) as call:
            client.mset({key: versioned(key, version, size) for key in keys})
            call.ok()

    def _push(self, client: shmcache.Client) -> None:
        key, pushes = next(reversed(self.pushed.items()))
        if len(pushes) >= LIST_LENGTH_MAX:
            key, pushes = f"{self._prefix}list{len(self.pushed)}", []
            self.pushed[key] = pushes
        number = len(pushes)
        pushes.append((number, False))
        client.rpush(key, number)
        pushes[number] = (number, True)


class Traffic:
    """Several writers, on the host and through the router. A context manager: none outlives the block."""

    def __init__(self, local: str, remote: str, seed: int, folder: Path) -> None:
        self._paths = [folder / f"history{n}" for n in range(WRITERS)]
        self._urls = [local if n % 3 < 2 else remote for n in range(WRITERS)]
        self.writers = [Writer(n, self._urls[n], seed, path) for n, path in enumerate(self._paths)]

    def __enter__(self) -> "Traffic":
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers:
            writer.stop()

    def pause(self) -> None:
        """Returns when no operation is under way, and none begins until `go_on`."""
        for writer in self.writers:
            writer.turn.acquire()

    def go_on(self, node: str) -> None:
        """`node`: a name for this life of the memory."""
        for writer in self.writers:
            writer.node = node
            writer.turn.release()

    def events(self) -> list[Event]:
        return load(self._paths)

    def check(self, url: str) -> None:
        """While they pause: what they were promised is there, and nothing that cannot be. AssertionError otherwise."""
        for writer in self.writers:
            assert writer.error is None, f"{writer.name}: {writer.error!r}"
        final: dict[str, int | None] = {}
        with shmcache.connect(url, timeout=20) as client:
            for writer in self.writers:
                for key in [*writer.keys, *(keys[0] for keys in writer.groups)]:
                    final[key] = version_of(key, client.get(key))
                for keys in writer.groups:
                    seen = [version_of(key, client.get(key)) for key in keys]
                    assert len(set(seen)) == 1, f"a torn group: {dict(zip(keys, seen, strict=True))}"
                for key in writer.counters:
                    value = client.get(key)
                    final[key] = int(value) if value is not None else None
                for key, pushes in writer.pushed.items():
                    check_list(key, pushes, [int(element) for element in client.lrange(key, 0, -1)])
        found = violations(self.events(), final)
        assert not found, f"{len(found)} violations:\n" + "\n".join(map(str, found[:10]))


def check_list(key: str, pushes: list[tuple[int, bool]], found: list[int]) -> None:
    """Every acknowledged push, each once, in its order, and no other than unknown ones between."""
    assert found == sorted(set(found)), f"{key}: not in the order of the pushes: {found}"
    assert set(found) <= {number for number, _ in pushes}, f"{key}: pushed by nobody: {found}"
    lost = {number for number, is_acknowledged in pushes if is_acknowledged} - set(found)
    assert not lost, f"{key}: acknowledged and lost: {sorted(lost)}"


def wait_for_instance(url: str, seconds: float) -> None:
    """Until every shard takes a write. AssertionError when the time is over."""

    def takes_writes() -> bool:
        try:
            with shmcache.connect(url, timeout=seconds) as client:
                return bool(client.mset({f"whole{n}": 1 for n in range(20)}))
        except (ShmcacheError, InstanceNotFound):
            return False

    wait_until(takes_writes, seconds, "every shard takes writes")
