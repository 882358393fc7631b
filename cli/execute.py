"""`shmcache exec`: any command of the table, its reply in redis-cli's style."""

import sys
from typing import Annotated

import typer

from .options import Timeout, Url


def register(app: typer.Typer) -> None:
    app.command(
        "exec",
        # Words after the command's name are its own, also those that look like options (INCRBY n -5).
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )(execute)


def execute(
    words: Annotated[list[str], typer.Argument(help="The command and its arguments, e.g. SET greeting hello EX 60")],
    url: Url = None,
    timeout: Timeout = 5.0,
    raw: Annotated[bool, typer.Option("--raw", help="Write data as they are.")] = False,
) -> None:
    """Run one command and print its reply as redis-cli does."""
    from . import reply
    from .connection import raw_reply

    # Arguments that are not UTF-8 reach Python as surrogates; this gives their bytes back.
    result = raw_reply(url, [word.encode("utf-8", "surrogateescape") for word in words], timeout)
    if raw or words[0].upper() == "INFO":
        sys.stdout.buffer.write(reply.raw(result) + b"\n")
    else:
        print(reply.formatted(result))
