"""An S3 server on this machine for a test, and a wire to it that can stand still."""

import contextlib
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator

from tests.support.instance import wait_until

BUCKET = "bucket"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(port: int) -> dict[str, str]:
    """Variables by which a server process finds the store."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


class S3:
    """What a test does with the server, without the library under test."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"s3://{BUCKET}/some/prefix"
        self.environment = environment(port)

    def _call(self, method: str, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data=data, method=method)
        # Not looked at, but without it this would be an anonymous call.
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def make_bucket(self) -> None:
        self._call("PUT", BUCKET)

    def get(self, name: str) -> bytes:
        return self._call("GET", f"{BUCKET}/some/prefix/{name}")

    def put(self, name: str, data: bytes) -> None:
        self._call("PUT", f"{BUCKET}/some/prefix/{name}", data)

    def delete(self, name: str) -> None:
        self._call("DELETE", f"{BUCKET}/some/prefix/{name}")

    def names(self) -> list[str]:
        """All of them, without the prefix."""
        page = self._call("GET", f"{BUCKET}?list-type=2&max-keys=1000").decode()
        return [part.split("</Key>")[0].removeprefix("some/prefix/") for part in page.split("<Key>")[1:]]


@contextlib.contextmanager
def s3_server(port: int = 0, *, bucket: bool = True) -> Iterator[S3]:
    """A server with nothing in it but (unless told otherwise) a bucket."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def listens() -> bool:
            assert process.poll() is None, "the S3 server has ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_until(listens, 60, "the S3 server listens")
        store = S3(port)
        if bucket:
            store.make_bucket()
        yield store
    finally:
        process.kill()
        process.wait()


class Valve:
    """A wire to a TCP server. `budget` bytes more go to the server, then it stands still until there is more; None: no limit."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._budget: int | None = None
        self._condition = threading.Condition()
        self._closed = False
        self.passed = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def set(self, budget: int | None) -> None:
        with self._condition:
            self._budget = budget
            self._condition.notify_all()

    @property
    def is_shut(self) -> bool:
        with self._condition:
            return self._budget is not None and self._budget <= 0

    def _accept(self) -> None:
        while True:
            try:
                theirs, _ = self._listener.accept()
                ours = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._sockets += [theirs, ours]
            for source, target, limited in ((theirs, ours, True), (ours, theirs, False)):
                thread = threading.Thread(target=self._carry, args=(source, target, limited), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, limited: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if limited:
                    with self._condition:
                        self._condition.wait_for(lambda: self._closed or self._budget is None or self._budget > 0)
                        if self._budget is not None:
                            self._budget -= len(data)
                        self.passed += len(data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for found in self._sockets:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for found in self._sockets:
            found.close()
