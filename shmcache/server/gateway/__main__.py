"""The gateway process. `python -m shmcache.server.gateway SETTINGS`."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from typing import Any

import uvloop

from ...errors import InstanceNotFound, ShmcacheError, Unavailable
from ...limits import LISTEN_BACKLOG_CONNECTIONS, RESP_BIND_S_MAX, RESP_HANDSHAKE_S_MAX
from .. import exit_codes
from ..child import report, start_child
from ..logs import configure_logs, logger
from . import catalogue
from .connection import Connection
from .gateway import Gateway
from .tracking import Table

_RETRY_S = 0.02


async def _attached(gateway: Gateway, stop: asyncio.Event) -> None:
    """Wait until the instance serves."""
    while not stop.is_set():
        try:
            gateway.route.attach()
            return
        except (InstanceNotFound, Unavailable):
            await asyncio.sleep(_RETRY_S)


async def _listen(gateway: Gateway, settings: dict[str, Any], context: ssl.SSLContext | None) -> asyncio.Server:
    """Raises OSError if the port stays taken."""
    patience = {"ssl_handshake_timeout": RESP_HANDSHAKE_S_MAX} if context is not None else {}
    host, port = settings["host"], settings["port"]
    until = gateway.loop.time() + RESP_BIND_S_MAX
    while True:
        try:
            own = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            own.bind((host, port))
            return await gateway.loop.create_server(lambda: Connection(gateway), sock=own, ssl=context, backlog=LISTEN_BACKLOG_CONNECTIONS, **patience)
        except OSError:
            own.close()
            if gateway.loop.time() >= until:
                raise
            await asyncio.sleep(0.1)


async def _serve(settings: dict[str, Any], log: Any) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    catalogue.complete()
    gateway = Gateway(settings, loop, log)
    certificates, servers = gateway.certificates, []
    if certificates is not None:
        loop.add_signal_handler(signal.SIGHUP, lambda: certificates.review(always=True))
    gateway.tracking = Table(gateway)
    await _attached(gateway, stop)
    for at, context in ((settings, None), (settings["tls"], certificates and certificates.context)):
        if not at or not at["listen"]:
            continue
        try:
            servers.append(await _listen(gateway, at, context))
        except OSError as error:
            report(settings, error=f"resp: cannot listen at {at['listen']}: {error.strerror or error}", kind="Listen")
            return exit_codes.START_FAILED
    housekeeping = loop.create_task(gateway.housekeeping())
    report(settings, ready=True, port=settings["port"])
    await stop.wait()
    for server in servers:
        server.close()
    housekeeping.cancel()
    gateway.close()
    return exit_codes.STOPPED


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    settings, _ = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="gateway", instance=settings["instance"], pid=os.getpid())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, log))
    except ShmcacheError as error:
        report(settings, error=f"resp: {error}", kind="Start")
        return exit_codes.START_FAILED


if __name__ == "__main__":
    sys.exit(main())
