"""`shmcache import redis://...`: copy a Redis that runs."""

import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from shmcache.limits import REDIS_PAGE_KEYS_MAX

from ..options import Json
from .command import Keep, Target, report


def register(app: typer.Typer) -> None:
    app.command("import")(import_)


def import_(
    source: Annotated[
        str,
        typer.Argument(metavar="redis://[USER:PASSWORD@]HOST:PORT/DB", help="Also rediss:// and unix://. A password may stand in REDISCLI_AUTH instead."),
    ],
    url: Target = None,
    match: Annotated[str, typer.Option("--match", "-m", help="Only keys that match this glob pattern.", show_default=False)] = "",
    rate: Annotated[int, typer.Option("--rate", help="Keys per second at most; 0: as fast as it goes.", min=0)] = 0,
    page: Annotated[int, typer.Option("--page", help="Keys to ask for at a time.", min=1, max=REDIS_PAGE_KEYS_MAX)] = 1000,
    keep: Keep = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an import that was interrupted.")] = False,
    state: Annotated[
        Path | None, typer.Option("--state", help="File in which an interrupted import is noted. Default: named by the source, here.", show_default=False)
    ] = None,
    as_json: Json = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for one batch.", min=0.001)] = 30.0,
) -> None:
    """Copy a running Redis: strings, hashes, lists, sets, sorted sets, with their expiry. Exit code 1 if there were values of other types; they are counted."""
    from shmcache.errors import ConfigError

    from ..connection import client_url, open_client
    from ..progress import progress_bar

    if not source.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigError(f"{source!r} is no redis://, rediss:// or unix:// address; files: shmcache snapshot import FILE")
    from .loading import Loader
    from .redis_copy import RedisSource, State, copy

    origin = RedisSource(source)
    path = state or Path(f"shmcache-import-{re.sub(r'[^A-Za-z0-9._-]+', '-', origin.shown.partition('://')[2])}.json")
    progress = State(origin.shown, client_url(url) or "shm://default", match)
    if resume:
        progress.go_on(path)

    def say(text: str) -> None:
        print(f"shmcache: {text}", file=sys.stderr)

    began = time.monotonic()
    with open_client(url, timeout) as client:
        origin.open()
        # How many of the keys match is not known before the end.
        with progress_bar("import", None if match else origin.keys, "keys") as update:
            loader = Loader(client, keep=keep, timeout=timeout)
            try:
                copy(origin, loader, progress, path, update, say, page=min(page, rate) if rate else page, rate=rate)
            except BaseException:
                if path.exists():
                    say(f"{progress.seen:,} keys are copied; go on with the same words and --resume (state: {path})")
                raise
            finally:
                origin.close()
    report(loader.counts, as_json, seconds=round(time.monotonic() - began, 3), source=origin.shown)
