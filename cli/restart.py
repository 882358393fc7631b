"""`shmcache restart --rolling`: the processes of an instance, one after the other, while it serves."""

import json
import time
from typing import Annotated, Any, Final

import typer

from .options import Json

_LOOK_S: Final = 0.05
_ASK_S: Final = 15.0
"""The supervisor looks at the installed package before it answers."""


def register(app: typer.Typer) -> None:
    app.command("restart")(restart)


def restart(
    name: Annotated[str, typer.Argument(help="The instance.")] = "default",
    rolling: Annotated[bool, typer.Option("--rolling", help="One process at a time, while the instance serves.")] = False,
    as_json: Json = False,
) -> None:
    """Restart the workers of an instance of this host one at a time, then its router, relay, hub and keeper; the supervisor stays."""
    from shmcache.errors import ConfigError
    from shmcache.protocol.directory import Directory
    from shmcache.server.paths import socket_folder
    from shmcache.server.requests import ask_supervisor

    if not rolling:
        raise ConfigError(
            "restart: say --rolling. A restart with the supervisor is `shmcache stop` and then the command that started it, "
            "whose options only you know; the data stay in memory meanwhile"
        )
    directory = Directory.open(name)
    folder = socket_folder(directory.snapshot())
    directory.close()
    status = ask_supervisor(folder, name, "restart", timeout=_ASK_S)
    said: dict[str, str] = {}
    while True:
        if not as_json:
            _say(status, said)
        if status["is_over"]:
            break
        time.sleep(_LOOK_S)
        status = ask_supervisor(folder, name, "restarting")
    if as_json:
        print(json.dumps(status))
    elif not status["error"]:
        print(f"instance {name}: {len(status['steps'])} processes restarted in {sum(step['seconds'] for step in status['steps']):.1f} s")
    if status["error"]:
        from shmcache.errors import Unavailable

        raise Unavailable(f"the rolling restart was given up: {status['error']}")


def _say(status: dict[str, Any], said: dict[str, str]) -> None:
    """A line for each stage of each process that is new."""
    for number, step in enumerate(status["steps"], 1):
        stage, role = step["stage"], step["role"]
        if stage == "waiting" or said.get(role) == stage:
            continue
        said[role] = stage
        ending = f"serves again after {step['seconds']:.2f} s, pid {step['pid']}" if stage == "done" else stage
        print(f"[{number}/{len(status['steps'])}] {role}: {ending}", flush=True)
