"""`shmcache doctor`: print the checks; with --clean remove what crashed servers left."""

import dataclasses
import json
from typing import Annotated

import typer

from ..options import Json

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    clean: Annotated[bool, typer.Option("--clean", help="Remove the regions of instances that do not run.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before removing.")] = False,
    as_json: Json = False,
) -> None:
    """Check this host and the instances on it; say what to do. Exit code 1 if a check fails."""
    from .facts import host_checks, instance_checks

    removed = _clean(yes, quiet=as_json) if clean else []
    checks = host_checks() + instance_checks()
    if as_json:
        print(json.dumps({"checks": [dataclasses.asdict(check) for check in checks], "removed": removed}, indent=1))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{_MARKS[check.level]}  {check.name:<{width}}  {check.finding}")
            if check.advice:
                print(f"{'':6}{'':<{width}}  -> {check.advice}")
    if any(check.level == "fail" for check in checks):
        raise typer.Exit(1)


def _clean(yes: bool, quiet: bool) -> list[str]:
    """Purge every instance whose supervisor is gone and whose owners are, too."""
    from shmcache.server import regions

    removed = []
    objects = regions.list_objects()
    for name in sorted({item.instance for item in objects}):
        mine = [item for item in objects if item.instance == name]
        if any(item.in_use for item in mine) or regions.supervisor_alive(name):
            continue
        size = sum(item.allocated_bytes for item in mine) // (1 << 20)
        if not yes and not typer.confirm(f"Remove the {len(mine)} objects of {name} ({size} MiB)?"):
            continue
        regions.purge(name)
        removed.append(name)
        if not quiet:
            print(f"removed {name} ({size} MiB)")
    return removed
