"""`shmcache bench`: the group of benchmarks."""

import typer


def register(app: typer.Typer) -> None:
    from .replay_command import replay
    from .suite import add_suite

    group = typer.Typer(help="Benchmarks, each against a named peer in the same run.", no_args_is_help=True)
    group.command("replay")(replay)
    add_suite(group)
    app.add_typer(group, name="bench")
