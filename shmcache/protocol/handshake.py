"""Why a connection does not come about: ZeroMQ itself only goes on trying, or silently stops to.

A handshake that is refused by key (AUTH), or because one side uses CURVE and the other does not, ends the
connection for good: libzmq does not try again, the socket is dead. A wrong server key only breaks the
connection off, again and again, as a server does that is being restarted behind a proxy: that is
called a refusal when it has lasted for HANDSHAKE_BROKEN_S.
"""

import time
from itertools import count
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..errors import NotAuthorized
from ..limits import HANDSHAKE_BROKEN_S

_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_numbers = count(1)


class HandshakeWatch:
    """Watches one connecting socket that has one endpoint. To be made before `connect`.

    What happens is kept until `refusal` is called: call it from time to time, or close the watch once the
    connection works.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", endpoint: str, secured: bool) -> None:
        self._socket, self._endpoint, self._secured = socket, endpoint, secured
        # Not `get_monitor_socket`: at its high-water mark, when nobody reads for a while, libzmq's I/O thread
        # waits for the reader, and with it all sockets of the process.
        address = f"inproc://handshakes.{next(_numbers)}"
        socket.monitor(address, _EVENTS)
        self._monitor = socket.context.socket(zmq.PAIR)
        self._monitor.rcvhwm = 0
        self._monitor.connect(address)
        self.fd: int = self._monitor.get(zmq.FD)
        """Readable (edge-triggered) when `refusal` may have something new."""
        self.connected_once = False
        """Whether a handshake ever succeeded: until then nothing can have been sent."""
        self._broken_since: float | None = None
        self._refusal: NotAuthorized | None = None
        # The descriptor tells only of what comes after a look that found nothing.
        self.refusal()

    def refusal(self) -> NotAuthorized | None:
        """The error of a connection that will not come about; None as long as it may."""
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return self._refusal
            kind, value = event["event"], event["value"]
            if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.connected_once, self._broken_since = True, None
            elif kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._refuse("does not accept this client's key: is it on the server's list (authorized)?")
            elif value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                self._refuse(
                    "does not use CURVE, but this client has a server_key: remove it, or turn curve on there"
                    if self._secured
                    else "demands CURVE: give server_key and client_key (docs/security.md)"
                )
            elif self._secured:
                self._broken()

    def _broken(self) -> None:
        now = time.monotonic()
        if self._broken_since is None:
            self._broken_since = now
        elif now - self._broken_since >= HANDSHAKE_BROKEN_S:
            self._refuse("breaks off every handshake: is server_key the key of that server?")

    def _refuse(self, why: str) -> None:
        self._refusal = NotAuthorized(f"{self._endpoint} {why}")

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
