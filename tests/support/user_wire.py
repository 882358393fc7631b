"""A switch in user space: forwards Ethernet frames between ports with commanded impairments.

    python -m tests.support.user_wire SOCKET SEED PORT...

For kernels without the netem qdisc, and the same on all others. Port i is an interface whose host has the MAC
`mac(i)`. Commands are JSON lines on the unix socket; the program ends when its standard input does, so that
it never outlives its starter.
"""

import contextlib
import heapq
import itertools
import json
import selectors
import socket
import sys
import time
from typing import Any

from tests.support.impairment import QUEUE_BYTES_MAX, Impairment, Link

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_BUFFER_BYTES = 16 << 20
_FRAMES_PER_TURN_MAX = 64
_FRAME_BYTES_MAX = 65_536


def mac(host: int) -> str:
    """Address of a host's interface; locally administered."""
    return f"02:77:00:00:00:{host:02x}"


class Switch:
    """The ports, a link per direction, and the frames that are held back."""

    def __init__(self, ports: list[str], seed: int) -> None:
        self._ports = [_open_port(name) for name in ports]
        self._by_mac = {bytes.fromhex(mac(host).replace(":", "")): host for host in range(len(ports))}
        pairs = itertools.permutations(range(len(ports)), 2)
        self.links = {pair: Link(seed * 1000 + number) for number, pair in enumerate(pairs)}
        self._held: list[tuple[float, int, tuple[int, int], bytes]] = []
        self._held_bytes = 0
        self._order = itertools.count()

    def register(self, selector: selectors.BaseSelector) -> None:
        for host, port in enumerate(self._ports):
            selector.register(port, selectors.EVENT_READ, host)

    def receive(self, source: int) -> None:
        """Take what a port has, a bounded number of frames."""
        for _ in range(_FRAMES_PER_TURN_MAX):
            try:
                frame = self._ports[source].recv(_FRAME_BYTES_MAX)
            except OSError:
                # Nothing more, or the interface went down for a moment.
                return
            destination = self._by_mac.get(frame[:6])
            if destination is not None:
                if destination != source:
                    self._accept((source, destination), frame)
            elif frame[0] & 1:
                for host in range(len(self._ports)):
                    if host != source:
                        self._accept((source, host), frame)

    def _accept(self, pair: tuple[int, int], frame: bytes) -> None:
        now = time.monotonic()
        for due, shaped in self.links[pair].accept(frame, now):
            if due <= now and not self._held:
                self._send(pair, shaped)
            elif self._held_bytes + len(shaped) > QUEUE_BYTES_MAX:
                self.links[pair].counts["overflow"] += 1
            else:
                self._held_bytes += len(shaped)
                heapq.heappush(self._held, (due, next(self._order), pair, shaped))

    def release(self) -> float | None:
        """Send what is due; seconds until the next frame is, or None."""
        while self._held:
            wait_s = self._held[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            _, _, pair, frame = heapq.heappop(self._held)
            self._held_bytes -= len(frame)
            if self.links[pair].is_cut:
                # The cable was cut while the frame was in it.
                self.links[pair].counts["cut"] += 1
            else:
                self._send(pair, frame)
        return None

    def _send(self, pair: tuple[int, int], frame: bytes) -> None:
        try:
            self._ports[pair[1]].send(frame)
        except OSError:
            self.links[pair].counts["overflow"] += 1
        else:
            self.links[pair].counts["sent"] += 1

    def command(self, call: str, source: int, destination: int, **arguments: Any) -> dict[str, int]:
        """Change one direction; returns its counters."""
        link = self.links[source, destination]
        if call == "set":
            link.change(Impairment(**arguments))
        elif call == "cut":
            link.is_cut = bool(arguments["is_cut"])
        elif call != "counts":
            raise ValueError(f"no such command: {call}")
        return dict(link.counts)


def _open_port(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    port.setblocking(False)
    # Bursts must not be lost here: what is lost is commanded.
    port.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    port.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    port.bind((name, 0))
    return port


class Control:
    """The unix socket: one JSON line in, one out."""

    def __init__(self, switch: Switch, path: str) -> None:
        self._switch = switch
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(8)

    def register(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._listener, selectors.EVENT_READ, self)

    def serve(self) -> None:
        """One connection, one command."""
        connection = self._listener.accept()[0]
        with connection, connection.makefile("rw") as stream, contextlib.suppress(OSError):
            connection.settimeout(1.0)
            try:
                reply = {"counts": self._switch.command(**json.loads(stream.readline()))}
            except (KeyError, TypeError, ValueError) as error:
                reply = {"error": repr(error)}
            stream.write(json.dumps(reply) + "\n")


def main() -> None:
    """Forward until standard input ends."""
    path, seed, *ports = sys.argv[1:]
    with selectors.SelectSelector() as selector:
        # select(2) has microseconds, epoll only milliseconds: delays are exact to a fraction of one.
        switch = Switch(ports, int(seed))
        switch.register(selector)
        control = Control(switch, path)
        control.register(selector)
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        print("ready", flush=True)
        while True:
            for key, _ in selector.select(switch.release()):
                if key.data is None:
                    return
                if key.data is control:
                    control.serve()
                else:
                    switch.receive(key.data)


if __name__ == "__main__":
    main()
