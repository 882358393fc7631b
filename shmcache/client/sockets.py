"""ZeroMQ sockets of this process: one context, made anew in a forked child, which never touches its parent's
sockets.
"""

import os
from typing import TYPE_CHECKING, Any, Final

import zmq

from ..limits import CHANNEL_RECEIVE_MESSAGES, CLIENT_OUTSTANDING_MAX, CLIENT_POLL_MS, MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from ..protocol.handshake import HandshakeWatch
    from .access import Access

MORE_NOW: Final = int(zmq.SNDMORE | zmq.DONTWAIT)
"""Flags of a first frame. As int: combining pyzmq's enums takes a microsecond."""
_SOCKETS_MAX = 65535
_context: "zmq.Context[zmq.Socket[bytes]] | None" = None
_left_alone: list[Any] = []
"""What a forked child inherited: collecting it would close the parent's sockets' descriptors."""


def _after_fork() -> None:
    global _context
    if _context is not None:
        _left_alone.append(_context)
        _context = None


os.register_at_fork(after_in_child=_after_fork)


def leave_alone(inherited: Any) -> None:
    """Keep sockets of the parent process from being collected in this one."""
    _left_alone.append(inherited)


def _own_context() -> "zmq.Context[zmq.Socket[bytes]]":
    global _context
    if _context is None:
        _context = zmq.Context()
        _context.set(zmq.MAX_SOCKETS, _SOCKETS_MAX)
    return _context


def open_dealer(
    endpoint: str, access: "Access | None" = None
) -> "tuple[zmq.Socket[bytes], HandshakeWatch | None]":
    """A DEALER that connects in the background and drops what is unsent at close; `recv` waits
    CLIENT_POLL_MS. By tcp with what tells why it does not connect; `close_dealer` closes both.
    """
    socket = _own_context().socket(zmq.DEALER)
    socket.set(zmq.RCVTIMEO, CLIENT_POLL_MS)
    _prepare(socket, endpoint, CLIENT_OUTSTANDING_MAX)
    watch = None
    if endpoint.startswith("tcp://"):
        from ..protocol.handshake import HandshakeWatch

        if access is not None:
            access.secure(socket)
        watch = HandshakeWatch(socket, endpoint, access is not None)
    socket.connect(endpoint)
    return socket, watch


def open_sub(endpoint: str, access: "Access | None" = None) -> "zmq.Socket[bytes]":
    """A SUB that connects in the background."""
    socket = _own_context().socket(zmq.SUB)
    _prepare(socket, endpoint, CHANNEL_RECEIVE_MESSAGES)
    if access is not None and endpoint.startswith("tcp://"):
        access.secure(socket)
    socket.connect(endpoint)
    return socket


def _prepare(socket: "zmq.Socket[bytes]", endpoint: str, queue_messages: int) -> None:
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, queue_messages)
    socket.set(zmq.RCVHWM, queue_messages)
    socket.set(zmq.MAXMSGSIZE, 2 * MESSAGE_BYTES_MAX)
    # A worker is back within a fraction of a second; the default waits 100 ms between attempts.
    socket.set(zmq.RECONNECT_IVL, 10)
    socket.set(zmq.RECONNECT_IVL_MAX, 200)
    if endpoint.startswith("tcp://"):
        socket.set(zmq.TCP_KEEPALIVE, 1)
        socket.set(zmq.HEARTBEAT_IVL, 10_000)
        socket.set(zmq.HEARTBEAT_TIMEOUT, 30_000)


def close_dealer(socket: "zmq.Socket[bytes]", watch: "HandshakeWatch | None") -> None:
    """Close what `open_dealer` opened."""
    if watch is not None:
        watch.close()
    socket.close()
