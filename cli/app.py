"""The command tree. One module per group of commands; each adds its own to the app.

Exit codes: 0 done, 1 the request was refused (or the key is not there), 2 no connection or wrong usage.
"""

import importlib
import os
import sys

import typer

from .options import add_key_options

_GROUPS: dict[str, tuple[str, ...]] = {
    "serving": ("serve", "stop"),
    "restart": ("restart",),
    "status": ("status",),
    "execute": ("exec",),
    "keys": ("get", "set", "del", "scan"),
    "channels": ("publish", "subscribe"),
    "stats.command": ("stats",),
    "log": ("log",),
    "replication": ("replicas", "replicate", "promote", "demote", "switchover", "verify"),
    "doctor.command": ("doctor",),
    "bench.command": ("bench",),
    "curve_keys": ("keys",),
    "snapshot.command": ("snapshot",),
    "aof": ("aof",),
    "moving.redis_command": ("import",),
}
"""Module -> the commands that it registers, so that `shmcache get` imports one of them only."""


def build(modules: tuple[str, ...] = tuple(_GROUPS)) -> typer.Typer:
    """App with the commands of the named modules."""
    app = typer.Typer(
        name="shmcache",
        help="A Redis-like cache in POSIX shared memory.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def root(
        version: bool = typer.Option(False, "--version", help="Print the version and exit."),
        url: str | None = typer.Option(None, "--url", "-u", help="The same as --url of a command.", show_default=False),
    ) -> None:
        if url is not None:
            os.environ["SHMCACHE_URL"] = url
        if version:
            from importlib.metadata import version as installed_version

            print(installed_version("shmcache"))
            raise typer.Exit

    for module in modules:
        importlib.import_module(f".{module}", __package__).register(app)
    add_key_options(app)
    return app


def modules_for(arguments: list[str]) -> tuple[str, ...]:
    """The module of the command that is asked for; all of them for help, a typing error, or nothing."""
    if arguments:
        for module, commands in _GROUPS.items():
            if arguments[0] in commands:
                return (module,)
    return tuple(_GROUPS)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code; errors are one line on stderr."""
    from .outcome import one_line_errors

    words = sys.argv[1:] if arguments is None else arguments
    with one_line_errors():
        app = build(modules_for(words))
        app(args=words, prog_name="shmcache")
