"""Clients of a cluster under faults: writers that wait for replicas, readers at each node; what they do is recorded."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import shmcache
from shmcache.errors import NotEnoughReplicas, ReadOnly, ShmcacheError
from tests.support.cluster import Node, RealCluster
from tests.support.history import Call, Recorder, version_of, versioned

KEYS = 4
"""Per writer and round."""
VALUE_BYTES = 700
CALL_S_MAX = 2.0
ACK_S_MAX = 1.0
_PAUSE_S = 0.003


class Load:
    """Threads that write and read keys of a round until they are told to stop.

    Keys have the round's number in them, so that each round's history stands by itself.
    """

    def __init__(self, cluster: RealCluster, folder: Path, round_number: int, *, writers: int = 2) -> None:
        self._cluster, self._round = cluster, round_number
        self._stop = threading.Event()
        self._ack = len(cluster.nodes) - 1
        self.paths: list[Path] = []
        self._threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []
        written = {number: [f"r{round_number}.w{number}.k{n}" for n in range(KEYS)] for number in range(writers)}
        self._forwarded = f"r{round_number}.f"
        self.keys = [*(key for keys in written.values() for key in keys), self._forwarded]
        self.counters = [f"r{round_number}.c"]
        for number, keys in written.items():
            self._spawn(folder, f"w{number}", lambda recorder, keys=keys, n=number: self._write(recorder, keys, n))
        for node in cluster.nodes:
            self._spawn(folder, f"n{node.number}", lambda recorder, node=node: self._read(recorder, node))
        self._spawn(folder, "f", self._forward)

    def _spawn(self, folder: Path, name: str, work: Callable[[Recorder], None]) -> None:
        path = folder / f"r{self._round}.{name}.jsonl"
        self.paths.append(path)

        def run() -> None:
            recorder = Recorder(path, name)
            try:
                work(recorder)
            except BaseException as error:
                self.failures.append(error)
            finally:
                recorder.close()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """All clients end; may be called again."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    # --- clients ------------------------------------------------------------------------------------
    def _write(self, recorder: Recorder, keys: list[str], number: int) -> None:
        chance = random.Random(self._round * 100 + number)
        versions = dict.fromkeys(keys, 0)
        with Clients(lambda: self._cluster.primary, self._ack) as clients:
            while not self._stop.is_set():
                kind = chance.random()
                if kind < 0.2:
                    key = self.counters[0]
                    with recorder.operation("incr", key, session=f"w{number}", ack=self._ack) as call, clients.outcome(call):
                        call.ok(int(clients.get().incr(key)))
                else:
                    key = chance.choice(keys)
                    version = versions[key] = versions[key] + 1
                    operation = "delete" if kind < 0.3 else "write"
                    with recorder.operation(operation, key, session=f"w{number}", value=version, ack=self._ack) as call, clients.outcome(call):
                        if operation == "delete":
                            clients.get().delete(key)
                        else:
                            clients.get().set(key, versioned(key, version, VALUE_BYTES))
                        call.ok()
                time.sleep(_PAUSE_S)

    def _read(self, recorder: Recorder, node: Node) -> None:
        with Clients(lambda: node, 0) as clients:
            while not self._stop.is_set():
                for key in self.keys:
                    with recorder.operation("read", key, session=recorder.process, node=recorder.process) as call, clients.outcome(call):
                        seen = version_of(key, clients.get().get(key))
                        if node.is_settled:
                            call.ok(seen)
                time.sleep(_PAUSE_S)

    def _forward(self, recorder: Recorder) -> None:
        """Writes through a replica, and reads there what it wrote. A version is its own stamp: later ones are larger."""
        key, version = self._forwarded, 0
        node = self._cluster.nodes[-1]
        with Clients(lambda: node, self._ack) as clients:
            while not self._stop.is_set():
                version += 1
                written = False
                with (
                    recorder.operation("write", key, session="f", value=version, stamp=version, ack=self._ack) as call,
                    clients.outcome(call, forwarded=True),
                ):
                    clients.get().set(key, versioned(key, version, VALUE_BYTES))
                    call.ok()
                    written = True
                if written:
                    with recorder.operation("read", key, session="f", stamp=version, node="f") as call, clients.outcome(call):
                        seen = version_of(key, clients.get().get(key))
                        if node.is_settled:
                            call.ok(seen)
                time.sleep(_PAUSE_S)


class Clients:
    """A client of the node that counts now; what its errors mean."""

    def __init__(self, node: Callable[[], Node], ack: int) -> None:
        self._node, self._ack = node, ack
        self._client: shmcache.Client | None = None
        self._name = ""

    def get(self) -> shmcache.Client:
        name = self._node().instance.name
        if self._client is None or name != self._name:
            self._close()
            self._client = shmcache.connect(f"shm://{name}", timeout=CALL_S_MAX, ack=self._ack, ack_timeout=ACK_S_MAX)
            self._name = name
        return self._client

    @contextlib.contextmanager
    def outcome(self, call: Call, *, forwarded: bool = False) -> Iterator[None]:
        """Refused is failed; every other error leaves it open whether it was executed.

        A forwarded write that is refused may have been executed, too: the client asks again when the replica dies, and one that has just come back
        and does not know its primary yet refuses.
        """
        try:
            yield
        except (ReadOnly, NotEnoughReplicas):
            if not forwarded:
                call.fail()
            time.sleep(0.05)
        except ShmcacheError:
            self._close()
            time.sleep(0.02)

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
