"""The metrics process: figures of an instance in Prometheus' format, over HTTP. `python -m shmcache.server.metrics SETTINGS`.

A process of its own, beside those that it reports on: none of them waits for a scrape or shares an interpreter with it, whichever of them is
killed the others' figures go on being served (and `shmcache_up` says who is missing), and if it is killed itself the supervisor starts it again and
nobody else notices. In the supervisor it would survive as much, but there a fault of HTTP would end the instance.
"""

import os
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..errors import ShmcacheError
from ..limits import METRICS_CONNECTION_S_MAX, METRICS_CONNECTIONS_MAX
from ..protocol.curve import is_loopback
from . import exit_codes
from .child import report, start_child
from .logs import configure_logs, logger
from .measuring.families import collect
from .measuring.gather import Gatherer

_POLL_S = 0.2


class _Instance(Collector):
    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer = gatherer
        try:
            self._version = metadata.version("shmcache")
        except metadata.PackageNotFoundError:
            self._version = "unknown"

    def collect(self) -> Any:
        return collect(self._gatherer.figures(), self._version)


class MetricsServer(ThreadingHTTPServer):
    """GET /metrics, for a bounded number of connections at a time."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry, log: Any) -> None:
        """Listens. Raises OSError."""
        self.registry, self.log = registry, log
        self._places = threading.BoundedSemaphore(METRICS_CONNECTIONS_MAX)
        if ":" in host:
            import socket

            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service for a name that nobody needs.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that went away in the middle, mostly."""
        self.log.debug("connection failed", reason=repr(sys.exc_info()[1]))


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = METRICS_CONNECTION_S_MAX

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in ("/metrics", "/"):
            return self._answer(404, "text/plain; charset=utf-8", b"the metrics are at /metrics\n")
        encode: Callable[[Any], bytes]
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        try:
            body = encode(self.server.registry)
        except ShmcacheError as error:
            return self._answer(503, "text/plain; charset=utf-8", f"{error}\n".encode())
        except Exception:
            self.server.log.exception("no metrics")
            return self._answer(500, "text/plain; charset=utf-8", b"a fault of this server; its log says more\n")
        self._answer(200, content_type, body)

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "shmcache"

    def log_message(self, format: str, *args: Any) -> None:
        self.server.log.debug("request", detail=format % args)


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    settings, stop = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="metrics", instance=settings["instance"], pid=os.getpid())
    host, port = settings["host"], settings["port"]
    registry = CollectorRegistry(auto_describe=False)
    try:
        gatherer = Gatherer(settings["instance"], settings["relay"])
        server = MetricsServer(host, port, registry, log)
    except (OSError, ShmcacheError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        report(settings, error=f"metrics: cannot listen at {host}:{port}: {reason}", kind="Listen")
        return exit_codes.START_FAILED
    registry.register(_Instance(gatherer))
    server.timeout = _POLL_S
    if not is_loopback(f"tcp://{settings['listen']}"):
        log.warning("metrics are readable without a key, and not encrypted, for all who reach this address", listen=settings["listen"])
    report(settings, ready=True, port=server.server_port)
    while not stop.set:
        server.handle_request()
    server.server_close()
    gatherer.close()
    return exit_codes.STOPPED


if __name__ == "__main__":
    sys.exit(main())
