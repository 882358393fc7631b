"""Peers that are measured in the same run: started for it on a unix socket, ended with it."""

import contextlib
import shutil
import socket as sockets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_S_MAX = 10.0


class PeerMissing(Exception):
    """The peer is not installed; the text says what is missing."""


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise PeerMissing(f"{name} is not installed")
    return path


@contextlib.contextmanager
def _running(command: list[str], socket: Path) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_S_MAX
        while not socket.exists():
            if time.monotonic() > until or process.poll() is not None:
                raise PeerMissing(f"{command[0]} did not start")
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port(host: str) -> int:
    """A port of this host's address that nothing listens at just now."""
    with sockets.socket() as probe:
        # An address of another namespace is free there, too, as nothing else is in it.
        probe.bind((host if host.startswith("127.") else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def redis_server(host: str = "", prefix: tuple[str, ...] = ()) -> Iterator[tuple[Any, Path]]:
    """redis-py's client of a fresh redis-server without persistence, and its socket; with `host` it listens at a free port there too, started behind
    the words of `prefix`.
    """
    try:
        import redis
    except ImportError:
        raise PeerMissing("redis-py is not installed (pip install 'shmcache[bench]')") from None
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "redis.sock"
        port = ["--port", str(free_port(host)), "--bind", host, "--protected-mode", "no"] if host else ["--port", "0"]
        command = [*prefix, program("redis-server"), *port, "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", folder, "--repl-diskless-sync-delay", "0"]
        with _running(command, socket):
            client = redis.Redis(unix_socket_path=str(socket))
            client.ping()
            yield client, socket
            client.close()


@contextlib.contextmanager
def memcached_socket() -> Iterator[sockets.socket]:
    """A connection to a fresh memcached over a unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memcached.sock"
        # As root it insists on being told whose rights it takes; -t 1: one thread, as one worker.
        with _running([program("memcached"), "-u", "root", "-s", str(path), "-t", "1"], path):
            connection = sockets.socket(sockets.AF_UNIX)
            connection.connect(str(path))
            try:
                yield connection
            finally:
                connection.close()
