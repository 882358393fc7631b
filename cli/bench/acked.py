"""Many connections that each wait for the answer before they send again, in one process: what a server acknowledges per second.

Bytes are prepared beforehand and go over plain unix sockets, RESP or ZeroMQ's wire format (ZMTP 3.0, which is a greeting and then lengths and
bytes), so that the client costs both servers the same, and little.
"""

import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from shmcache.protocol import codec, frames

from .region import VALUE, key_of
from .timing import Percentiles, percentiles

_GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY: Final = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER" + b"\x08Identity" + struct.pack(">I", 0)
_MORE: Final = 1
_COMMAND: Final = 4
_TIMEOUT_S: Final = 30.0


@dataclass
class Acked:
    """What was measured."""

    per_s: float
    times: Percentiles


def _frame(flags: int, body: bytes) -> bytes:
    return bytes((flags, len(body))) + body if len(body) < 256 else struct.pack(">BQ", flags | 2, len(body)) + body


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the server closed the connection")
        data += part
    return data


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_TIMEOUT_S)
    connection.connect(path)
    return connection


def _our_connection(path: str) -> socket.socket:
    connection = _connect(path)
    connection.sendall(_GREETING)
    _receive(connection, len(_GREETING))
    connection.sendall(_frame(_COMMAND, _READY))
    _, size = _receive(connection, 2)
    _receive(connection, size)
    return connection


def _our_request(key: bytes) -> bytes:
    return _frame(_MORE, frames.pack_header()) + _frame(0, codec.encode_commands([(b"SET", key, VALUE)]))


def _redis_request(key: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(VALUE), VALUE)


_OUR_REPLY: Final = 2 + frames.HEADER_BYTES + 2 + len(codec.encode_results([True]))
_REDIS_REPLY: Final = len(b"+OK\r\n")


def ours(endpoint: str, connections: int, seconds: float) -> Acked:
    """SETs at a worker's ipc endpoint."""

    def check(reply: bytes) -> None:
        if reply[3] & frames.ERROR:
            raise codec.decode_error(reply[4 + frames.HEADER_BYTES :])

    path = endpoint.removeprefix("ipc://")
    return _measure([_our_connection(path) for _ in range(connections)], _our_request, _OUR_REPLY, check, seconds)


def redis(path: str, connections: int, seconds: float) -> Acked:
    """SETs at Redis' unix socket."""

    def check(reply: bytes) -> None:
        if reply != b"+OK\r\n":
            raise ConnectionError(f"Redis answers {reply!r}")

    return _measure([_connect(path) for _ in range(connections)], _redis_request, _REDIS_REPLY, check, seconds)


def _measure(connections: list[socket.socket], request, reply_bytes: int, check, seconds: float) -> Acked:  # type: ignore[no-untyped-def]
    clock = time.perf_counter_ns
    poll = select.epoll()
    by_fd = {connection.fileno(): connection for connection in connections}
    requests = {fd: request(key_of(n)) for n, fd in enumerate(by_fd)}
    sent = dict.fromkeys(by_fd, 0)
    times = []
    try:
        for fd, connection in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            sent[fd] = clock()
            connection.sendall(requests[fd])
        begun = clock()
        until = begun + int(seconds * 1e9)
        while (now := clock()) < until:
            for fd, _ in poll.poll(_TIMEOUT_S):
                reply = by_fd[fd].recv(4096)
                if len(reply) < reply_bytes:
                    reply += _receive(by_fd[fd], reply_bytes - len(reply))
                check(reply)
                now = clock()
                times.append(now - sent[fd])
                sent[fd] = now
                by_fd[fd].send(requests[fd])
        return Acked(len(times) / (now - begun) * 1e9, percentiles(np.array(times)))
    finally:
        poll.close()
        for connection in connections:
            connection.close()
