"""`shmcache aof info | verify | repair`: the append-only file in a data folder."""

import json
import time
from typing import Annotated, Any

import typer

from .folder import DataKeyFile, StoppedDir, data_cipher, existing_folder
from .options import Json
from .outcome import REFUSED

aof = typer.Typer(no_args_is_help=True, help="Look at, check and repair an append-only file.")


def register(app: typer.Typer) -> None:
    app.add_typer(aof, name="aof")


@aof.command()
def info(data_dir: StoppedDir, as_json: Json = False) -> None:
    """The files of the log: what they begin with, what they end with."""
    from shmcache.config import format_size
    from shmcache.errors import DamagedFile
    from shmcache.persistence.segments import scan, segment_numbers, segment_path

    from .snapshot.checking import size_of

    folder = existing_folder(data_dir)
    rows: list[dict[str, Any]] = []
    for number in segment_numbers(folder):
        path = segment_path(folder, number)
        row: dict[str, Any] = {"number": number, "file": str(path), "bytes": size_of(path)}
        try:
            part = scan(path)
            row |= {
                "created_ms": part.meta.created_ms,
                "last_ms": part.last_ms,
                "continues": part.meta.continues,
                "shards": len(part.meta.starts),
                "blocks": part.blocks,
                "is_whole": part.is_whole,
                "end": part.end,
                "torn": part.torn.what if part.torn else "",
            }
        except DamagedFile as damage:
            row |= {"error": str(damage)}
        except FileNotFoundError:
            # A running instance has removed it meanwhile.
            continue
        rows.append(row)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        print(f"no append-only file in {folder}")
    for row in rows:
        words = f"{row['number']:>6}  {format_size(row['bytes']):>9}  "
        if "error" in row:
            print(f"{words}damaged: {row['error']}")
            continue
        end = "whole" if row["is_whole"] else f"torn at offset {row['end']}" if row["torn"] else "not ended"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((row["last_ms"] or row["created_ms"]) / 1000))
        print(f"{words}{row['blocks']:>8,} blocks  up to {when}  {'goes on' if row['continues'] else 'begins anew'}, {end}")


@aof.command()
def verify(data_dir: StoppedDir, as_json: Json = False) -> None:
    """Read every block of the log. Damage is named by file and offset, and is exit code 1."""
    from shmcache.persistence.locking import holder_of
    from shmcache.persistence.segments import segment_numbers, segment_path

    from .progress import progress_bar
    from .snapshot.checking import Checked, check_log, print_checked, size_of

    folder = existing_folder(data_dir)
    found, numbers = Checked(), segment_numbers(folder)
    with progress_bar("verify", sum(size_of(segment_path(folder, n)) for n in numbers)) as update:
        check_log(folder, numbers, found, update, False, bool(holder_of(folder)), None)
    print_checked(found, as_json)
    raise typer.Exit(REFUSED if found.damage else 0)


@aof.command()
def repair(
    data_dir: StoppedDir,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only said what would be done.")] = False,
    data_key_file: DataKeyFile = "",
) -> None:
    """Make the folder of a stopped instance readable again: damage is cut out. What is cut off is kept beside, and no start reads it any more."""
    from shmcache.persistence.locking import folder_held
    from shmcache.persistence.repair import inspect
    from shmcache.persistence.repair import repair as carry_out

    folder = existing_folder(data_dir)
    with folder_held(folder, "aof repair"):
        # Without its key everything that is encrypted would look damaged.
        cipher = data_cipher(folder, data_key_file)
        report = inspect(folder, cipher)
        print(report.text)
        if report.is_sound:
            return
        if not yes:
            print("nothing is done without --yes: what is cut off is lost for every later start")
            raise typer.Exit(REFUSED)
        _, kept = carry_out(folder, cipher)
    print("done; what was taken out is kept in " + ", ".join(map(str, kept)))
