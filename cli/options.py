"""Options that several commands share."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

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
ServerKey = Annotated[
    str | None,
    typer.Option(
        "--server-key",
        help="By tcp: the server's public key, or its file. Also SHMCACHE_SERVER_KEY.",
        show_default=False,
    ),
]
ClientKey = Annotated[
    str | None,
    typer.Option(
        "--client-key",
        help="By tcp: the file of this client's key pair. Also SHMCACHE_CLIENT_KEY.",
        show_default=False,
    ),
]
_KEYS: dict[str, Any] = {"server_key": ServerKey, "client_key": ClientKey}


def add_key_options(app: typer.Typer) -> None:
    """Give every command that speaks to another host (--url, --against) the options of CURVE too.

    They set the variables that clients look at, so that no command has to pass them on.
    """
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_key_options(group.typer_instance)
    for command in app.registered_commands:
        if command.callback is not None and {"url", "against"} & inspect.signature(command.callback).parameters.keys():
            command.callback = _with_keys(command.callback)


def _with_keys(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(**given: Any) -> Any:
        for name in _KEYS:
            value = given.pop(name)
            if value is not None:
                os.environ[f"SHMCACHE_{name.upper()}"] = value
        return function(**given)

    signature = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _KEYS.items()
    ]
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    command.__annotations__ = function.__annotations__ | _KEYS
    return command
