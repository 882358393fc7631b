"""A load generator that costs next to nothing while it runs: batches of SET encoded beforehand, a few of them in flight.

With a client library, this process would be the slowest part of what it measures.
"""

import abc
import socket as sockets

import zmq

from shmcache.protocol import codec, frames

from .region import VALUE, key_of

BATCH = 100
IN_FLIGHT = 4
PREPARED_MAX = 10_000
"""Batches: a million keys."""
TIMEOUT_S = 30.0
_REPLY_BYTES = BATCH * len(b"+OK\r\n")


class Generator(abc.ABC):
    """Batches of one system, and how they are sent."""

    def __init__(self, keys: int) -> None:
        self._batches = max(1, keys // BATCH)
        self._payloads = [self._payload(n) for n in range(min(self._batches, PREPARED_MAX))]

    def write(self, number: int) -> None:
        """Write batch `number`, of the keys from number * BATCH on (all over again after the last); returns when at most IN_FLIGHT are not answered."""
        number %= self._batches
        self._send(self._payloads[number] if number < len(self._payloads) else self._payload(number))

    def fill(self) -> None:
        """Write each key once."""
        for number in range(self._batches):
            self.write(number)
        self.settle()

    @staticmethod
    @abc.abstractmethod
    def _payload(number: int) -> bytes: ...
    @abc.abstractmethod
    def _send(self, payload: bytes) -> None: ...
    @abc.abstractmethod
    def settle(self) -> None:
        """Until all is answered."""

    @abc.abstractmethod
    def close(self) -> None: ...


def _keys(batch: int) -> list[bytes]:
    return [key_of(n) for n in range(batch * BATCH, (batch + 1) * BATCH)]


class OurGenerator(Generator):
    """Straight to the worker of an instance that has one."""

    def __init__(self, endpoint: str, keys: int) -> None:
        super().__init__(keys)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvtimeo = int(TIMEOUT_S * 1000)
        self._socket.connect(endpoint)
        self._flying = 0
        self._head = frames.pack_header()

    @staticmethod
    def _payload(number: int) -> bytes:
        return codec.encode_commands([(b"SET", key, VALUE) for key in _keys(number)])

    def _send(self, payload: bytes) -> None:
        self._socket.send_multipart([self._head, payload])
        self._flying += 1
        self._receive(IN_FLIGHT)

    def _receive(self, most: int) -> None:
        while self._flying > most:
            head, payload = self._socket.recv_multipart()
            if frames.unpack_header(head).flags & frames.ERROR:
                raise codec.decode_error(payload)
            self._flying -= 1

    def settle(self) -> None:
        self._receive(0)

    def close(self) -> None:
        self._context.destroy(linger=0)


class RedisGenerator(Generator):
    """Over Redis' unix socket."""

    def __init__(self, path: str, keys: int) -> None:
        super().__init__(keys)
        self._socket = sockets.socket(sockets.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(path)
        self._missing_bytes = 0

    @staticmethod
    def _payload(number: int) -> bytes:
        words = b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n"
        return b"".join(words % (len(key), key, len(VALUE), VALUE) for key in _keys(number))

    def _send(self, payload: bytes) -> None:
        self._socket.sendall(payload)
        self._missing_bytes += _REPLY_BYTES
        self._receive(IN_FLIGHT * _REPLY_BYTES)

    def _receive(self, most: int) -> None:
        while self._missing_bytes > most:
            self._missing_bytes -= len(self._socket.recv(65536))

    def settle(self) -> None:
        self._receive(0)

    def close(self) -> None:
        self._socket.close()
