"""Settings of the server's ZeroMQ sockets, and how many peers each has."""

import contextlib
import os
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..limits import (
    HANDSHAKE_MS_MAX,
    HIGH_WATER_MESSAGES,
    LISTEN_BACKLOG_CONNECTIONS,
)
from .paths import remove_socket


def limit_router(socket: "zmq.Socket[bytes]", message_bytes: int) -> None:
    """Bound what strangers can make this listening socket hold: message size, queues, half-open and dead
    connections.
    """
    socket.maxmsgsize = message_bytes
    socket.rcvhwm = HIGH_WATER_MESSAGES
    socket.sndhwm = HIGH_WATER_MESSAGES
    socket.linger = 0
    socket.handshake_ivl = HANDSHAKE_MS_MAX
    socket.backlog = LISTEN_BACKLOG_CONNECTIONS


def listen(socket: "zmq.Socket[bytes]", endpoint: str, gid: int) -> str:
    """Bind it; returns the endpoint with the port in force. At ipc a dead predecessor's file is replaced, and a group (`gid` >= 0) may connect.

    Raises zmq.ZMQError that says where.
    """
    is_local = endpoint.startswith("ipc://")
    if is_local:
        remove_socket(endpoint)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise zmq.ZMQError(error.errno, f"cannot listen at {endpoint}: {error.strerror}") from None
    if is_local and gid >= 0:
        path = endpoint.removeprefix("ipc://")
        os.chown(path, -1, gid)
        os.chmod(path, 0o660)
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return bound.rstrip(b"\0").decode()


def keep_alive(socket: "zmq.Socket[bytes]") -> None:
    """Find peers on other hosts that vanished without a word, within two minutes.

    By TCP, not by ZeroMQ's heartbeats: libzmq walks all timers to cancel one. When 10,000 connections with
    heartbeats break together, its I/O thread computes for 5.6 s and everyone waits; without, for 0.4 s.
    """
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = 60
    socket.tcp_keepalive_intvl = 15
    socket.tcp_keepalive_cnt = 4


class ConnectionCounter:
    """Number of peers that are connected to a socket, those included whose handshake is not over yet."""

    _FAILURES: Final = (
        zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    )
    # The first two carry the descriptor, which tells the peers apart; EVENT_HANDSHAKE_SUCCEEDED carries none.
    _EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _FAILURES

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        # Without a filter of its own the PAIR socket keeps its context from ending: `close` must end it too.
        self._monitor = socket.get_monitor_socket(self._EVENTS)
        self._peers: set[int] = set()
        self.failed = 0
        """Handshakes that failed: a key refused, CURVE on one side only, not ZeroMQ, broken off."""

    @property
    def count(self) -> int:
        return len(self._peers)

    def update(self) -> None:
        """Take note of what happened since the last call."""
        with contextlib.suppress(zmq.Again):
            while True:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
                # A handshake that fails or is not finished in time ends in `disconnected` too.
                if event["event"] == zmq.EVENT_ACCEPTED:
                    self._peers.add(event["value"])
                elif event["event"] & self._FAILURES:
                    self.failed += 1
                else:
                    self._peers.discard(event["value"])

    def close(self) -> None:
        """Stop counting."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
