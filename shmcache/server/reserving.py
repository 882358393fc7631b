"""The RESP port is the instance's for as long as it runs, whichever of its gateways live."""

import socket
import time

from ..errors import ConfigError
from ..limits import RESP_BIND_S_MAX


def reserve_port(host: str, port: int) -> socket.socket:
    """A bound socket that never listens: gateways bind beside it (SO_REUSEPORT), strangers cannot. Port 0 takes a free one.

    Raises ConfigError if somebody has the port. One that is just being given up is waited for.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    until = time.monotonic() + RESP_BIND_S_MAX
    while True:
        try:
            # SO_REUSEPORT alone would let two instances of one user share a port, and their clients.
            with _bound(family, host, port, shared=False) as sole:
                port = port or sole.getsockname()[1]
            return _bound(family, host, port, shared=True)
        except OSError as error:
            if time.monotonic() >= until:
                raise ConfigError(f"resp: cannot listen at {host}:{port}: {error.strerror or error}") from None
            time.sleep(0.1)


def _bound(family: int, host: str, port: int, *, shared: bool) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
    except BaseException:
        found.close()
        raise
    return found
