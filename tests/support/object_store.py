"""An S3 server on this machine for a test, and a wire to it that can stand still."""

import contextlib
import socket
import subprocess
import sys
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
