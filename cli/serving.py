"""`shmcache serve` and `shmcache stop`. The options of `serve` are made from shmcache.config: none is declared here."""

import inspect
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    app.command("serve")(_serve_with_options())
    app.command("stop")(stop)


def _parameter(option: Any) -> inspect.Parameter:
    kind: Any = {bool: bool | None, tuple: list[str] | None}.get(option.kind, str | None)
    flags = f"{option.flag}/--no-{option.flag[2:]}" if option.kind is bool else option.flag
    text = option.doc
    if option.choices:
        text += f" One of {', '.join(option.choices)}."
    unit = f" {option.unit}" if option.unit and option.unit != "bytes" else ""
    text += f" [default: {option.default_text}{unit}]" if option.default_text else ""
    declared = typer.Option(flags, help=text, show_default=False, rich_help_panel=f"[{option.group}]")
    annotation = Annotated[kind, declared]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _serve_with_options() -> Any:
    from shmcache.config import OPTIONS

    def serve(*, config: str | None = None, **given: Any) -> None:
        """Run an instance in the foreground until SIGTERM or Ctrl-C. Options also come from the environment and a file."""
        from shmcache.config import load
        from shmcache.server import run

        arguments = {name: value for name, value in given.items() if value not in (None, [])}
        arguments = {name: ",".join(value) if isinstance(value, list) else value for name, value in arguments.items()}
        raise typer.Exit(run(load(arguments, config)))

    file_option = Annotated[str | None, typer.Option("--config", help="TOML file with options.", show_default=False)]
    parameters = [
        inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=file_option),
        *map(_parameter, OPTIONS),
    ]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return serve


def stop(
    name: Annotated[str, typer.Argument(help="The instance.")] = "default",
    purge: Annotated[bool, typer.Option("--purge", help="Also remove its data from /dev/shm.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the stop.")] = 30.0,
) -> None:
    """Stop an instance of this host. Its data stay for a warm restart, unless --purge."""
    from shmcache.errors import InstanceNotFound
    from shmcache.server import regions
    from shmcache.server import stop as stop_server

    was_running = True
    try:
        stop_server(name, timeout)
    except InstanceNotFound:
        if not purge or not regions.list_objects(name):
            raise
        was_running = False
    words = [f"instance {name} stopped" if was_running else f"instance {name} was not running"]
    if purge:
        from shmcache.config import format_size

        words.append(f"{format_size(regions.purge(name))} given back")
    print("; ".join(words))
