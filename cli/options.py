"""Options that several commands share."""

from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        envvar="SHMCACHE_URL",
        help="Instance to use: shm://NAME on this host, tcp://HOST:PORT elsewhere. Default: shm://default",
        show_default=False,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for an answer.", min=0.001)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
