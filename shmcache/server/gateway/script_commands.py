"""SCRIPT KILL and FUNCTION KILL, which must not wait for the script that they end; the rest of SCRIPT and FUNCTION goes to the workers.

A worker that runs a script for longer than a moment leaves a file beside its socket; a file `.kill` beside that asks it to end the script.
"""

from pathlib import Path
from typing import Any

from ...errors import ResponseError
from .arguments import word
from .connection import Connection
from .rows import ROWS, command, wrong_arity

_SCRIPT, _FUNCTION = ROWS["SCRIPT"], ROWS["FUNCTION"]


def _kill(client: Connection) -> str:
    folder, instance = Path(client.gateway.settings["folder"]), client.gateway.instance
    running = list(folder.glob(f"{instance}.w*.script"))
    if not running:
        raise ResponseError("NOTBUSY", "No scripts in execution right now.")
    for marker in running:
        marker.with_suffix(".kill").touch(mode=0o600)
    return "OK"


async def _carry_out(client: Connection, args: list[Any]) -> Any:
    name = args[0].upper().decode("latin-1")
    if word(args[1]) == "KILL":
        if len(args) != 2:
            raise wrong_arity(f"{name}|kill")
        return _kill(client)
    if word(args[1]) == "HELP":
        return [f"{name} <subcommand> [<arg> ...]. Subcommands: " + ("EXISTS, FLUSH, KILL, LOAD" if name == "SCRIPT" else "DELETE, DUMP, FLUSH, KILL, LIST, LOAD, RESTORE, STATS")]
    return await client.gateway.ask(name, *args[1:])


@command("SCRIPT", -2, _SCRIPT.summary, "noscript")
async def script(client: Connection, args: list[Any]) -> Any:
    return await _carry_out(client, args)


@command("FUNCTION", -2, _FUNCTION.summary, "noscript")
async def function(client: Connection, args: list[Any]) -> Any:
    return await _carry_out(client, args)
