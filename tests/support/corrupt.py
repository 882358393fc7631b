"""A TCP proxy that flips bytes. On a wire TCP's checksum finds damage and sends again; here the damage
arrives, as from a bad memory module or a middlebox, and only the application's own checksums can find it.
"""

import contextlib
import dataclasses
import random
import socket
import threading
from typing import Literal

_CHUNK_BYTES = 65_536
_CONNECT_S_MAX = 5.0
_JOIN_S_MAX = 5.0


@dataclasses.dataclass(frozen=True)
class Damage:
    """What to flip. A marker is found also where it lies across two reads; then the flipped byte is in the
    last.
    """

    marker: bytes = b""
    occurrence: int = 1
    """The n-th occurrence of the marker in one direction of one connection is damaged, once."""
    share: float = 0.0
    """Without a marker: probability that a payload (what one read returns) gets a flipped byte."""
    longer_than: int = 0
    """Only payloads longer than that many bytes; spares short control frames."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.share <= 1.0 and self.occurrence >= 1 and self.longer_than >= 0):
            raise ValueError(f"share is between 0 and 1, occurrence from 1 on: {self}")


class Corrupter:
    """One direction of one connection: pure, chunk in, chunk out."""

    def __init__(self, damage: Damage, seed: int) -> None:
        self.damage, self._chance = damage, random.Random(seed)
        self._tail = b""
        self._seen = 0
        self.flips = 0

    def pass_on(self, chunk: bytes) -> bytes:
        """The same bytes, or one of them flipped."""
        position = self._marked(chunk) if self.damage.marker else self._random(chunk)
        if position is None:
            return chunk
        self.flips += 1
        flipped = bytearray(chunk)
        flipped[position] ^= 1 << self._chance.randrange(8)
        return bytes(flipped)

    def _random(self, chunk: bytes) -> int | None:
        if len(chunk) <= self.damage.longer_than or self._chance.random() >= self.damage.share:
            return None
        return self._chance.randrange(len(chunk))

    def _marked(self, chunk: bytes) -> int | None:
        marker = self.damage.marker
        # What could be the beginning of a marker that ends in this chunk; a match needs a byte of the chunk.
        text, before = self._tail + chunk, len(self._tail)
        self._tail = text[max(0, len(text) - len(marker) + 1) :]
        position = None
        at = text.find(marker)
        while at >= 0:
            self._seen += 1
            if self._seen == self.damage.occurrence:
                position = self._chance.randrange(max(0, at - before), at + len(marker) - before)
            at = text.find(marker, at + 1)
        return position


class CorruptingProxy:
    """Forwards each connection to `target`. Made inside a host (`with host.inside()`), it listens and
    connects there: its threads are born in that namespace.
    """

    def __init__(
        self,
        target: tuple[str, int],
        damage: Damage,
        *,
        direction: Literal["to_server", "to_client", "both"] = "both",
        address: str = "127.0.0.1",
        port: int = 0,
        seed: int = 1,
    ) -> None:
        self._target, self._direction, self._seed = target, direction, seed
        self._damage = damage
        self._lock = threading.Lock()
        self._corrupters: list[Corrupter] = []
        self._damaged: list[Corrupter] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._listener = socket.create_server((address, port))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._spawn(self._accept)

    @property
    def flips(self) -> int:
        """Bytes flipped so far, over all connections."""
        with self._lock:
            return sum(corrupter.flips for corrupter in self._corrupters)

    def change(self, damage: Damage) -> None:
        """For all connections from now on; `Damage()` lets everything pass."""
        with self._lock:
            self._damage = damage
            for corrupter in self._damaged:
                corrupter.damage = damage

    def close(self) -> None:
        """Close all connections and end."""
        with self._lock:
            self._is_closed = True
            sockets, threads = [self._listener, *self._sockets], list(self._threads)
        for each in sockets:
            # Wakes the thread that blocks in it; close() alone would not.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_JOIN_S_MAX)
        for each in sockets:
            each.close()

    def __enter__(self) -> "CorruptingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, _CONNECT_S_MAX)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                if self._is_closed:
                    client.close()
                    server.close()
                    return
                self._sockets += [client, server]
                self._forward(client, server, damaged=self._direction != "to_client")
                self._forward(server, client, damaged=self._direction != "to_server")

    def _forward(self, source: socket.socket, sink: socket.socket, *, damaged: bool) -> None:
        seed = self._seed * 1000 + len(self._corrupters)
        corrupter = Corrupter(self._damage if damaged else Damage(), seed)
        self._corrupters.append(corrupter)
        if damaged:
            self._damaged.append(corrupter)
        self._spawn(_pump, source, sink, corrupter)

    def _spawn(self, *call: object) -> None:
        thread = threading.Thread(target=call[0], args=call[1:], daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)


def _pump(source: socket.socket, sink: socket.socket, corrupter: Corrupter) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(corrupter.pass_on(chunk))
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
