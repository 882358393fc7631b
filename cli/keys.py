"""`shmcache get`, `set`, `del`, `scan`: the everyday commands for scripts."""

import sys
from typing import Annotated

import typer

from .options import Timeout, Url


def register(app: typer.Typer) -> None:
    app.command("get")(get)
    app.command("set")(set_)
    app.command("del")(delete)
    app.command("scan")(scan)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def get(key: str, url: Url = None, timeout: Timeout = 5.0) -> None:
    """Write a key's value to stdout, followed by a newline. Exit code 1 if the key is not there."""
    from .connection import open_client
    from .outcome import REFUSED

    with open_client(url, timeout) as client:
        value = client.get(_bytes(key))
    if value is None:
        print("(nil)", file=sys.stderr)
        raise typer.Exit(REFUSED)
    sys.stdout.buffer.write(value + b"\n")


def set_(
    key: str,
    value: Annotated[str, typer.Argument(help="The value; - reads it from stdin.")],
    ex: Annotated[float | None, typer.Option("--ex", help="Expire after this many seconds.")] = None,
    nx: Annotated[bool, typer.Option("--nx", help="Only if the key is not there.")] = False,
    xx: Annotated[bool, typer.Option("--xx", help="Only if the key is there.")] = False,
    keepttl: Annotated[bool, typer.Option("--keepttl", help="Keep the expiry that the key has.")] = False,
    url: Url = None,
    timeout: Timeout = 5.0,
) -> None:
    """Set a key. Exit code 1 if --nx or --xx kept it from being set."""
    from .connection import open_client
    from .outcome import REFUSED

    data = sys.stdin.buffer.read() if value == "-" else _bytes(value)
    with open_client(url, timeout) as client:
        px = None if ex is None else max(1, round(ex * 1000))
        if not client.set(_bytes(key), data, px=px, nx=nx, xx=xx, keepttl=keepttl):
            print("(nil)", file=sys.stderr)
            raise typer.Exit(REFUSED)
    print("OK")


def delete(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...")], url: Url = None, timeout: Timeout = 5.0
) -> None:
    """Delete keys; print how many there were."""
    from .connection import open_client

    with open_client(url, timeout) as client:
        print(client.delete(*map(_bytes, keys)))


def scan(
    match: Annotated[str | None, typer.Option("--match", "-m", help="Glob pattern that keys must match.")] = None,
    count: Annotated[int, typer.Option("--count", help="Keys to look at per step.", min=1)] = 1000,
    kind: Annotated[str | None, typer.Option("--type", help="Only keys of this type.")] = None,
    url: Url = None,
    timeout: Timeout = 5.0,
) -> None:
    """Write all keys to stdout, one a line."""
    from .connection import open_client

    out = sys.stdout.buffer
    with open_client(url, timeout) as client:
        pattern = None if match is None else _bytes(match)
        for key in client.scan_iter(match=pattern, count=count, _type=kind):
            out.write(key + b"\n")
