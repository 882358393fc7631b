"""`shmcache snapshot save | list | info | verify | delete | restore | export | import`."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..folder import DataDir, DataKeyFile, StoppedDir, data_cipher, existing_folder, find_folder, keeper_call
from ..moving.command import export, import_
from ..options import Json
from ..outcome import REFUSED

Name = Annotated[str, typer.Option("--name", help="A running instance of this host, whose folder it is.")]
Number = Annotated[int, typer.Argument(help="Of the snapshot.", min=1)]

_POLL_S = 0.1

snapshot = typer.Typer(no_args_is_help=True, help="Make, check, go back to, and move snapshots.")


def register(app: typer.Typer) -> None:
    snapshot.command("export")(export)
    snapshot.command("import")(import_)
    app.add_typer(snapshot, name="snapshot")


@snapshot.command()
def save(
    name: Annotated[str, typer.Argument(help="An instance of this host.")] = "default",
    as_json: Json = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for it.", min=0.001)] = 3600.0,
) -> None:
    """Make a snapshot now; returns when it is on the disk. It has every write that was answered before."""
    from shmcache.config import format_size
    from shmcache.errors import CacheTimeout

    from ..progress import progress_bar

    until = time.monotonic() + timeout
    began = time.monotonic()
    with progress_bar("snapshot", None) as update:

        def wait(number: int) -> dict[str, Any]:
            """Until that snapshot is not being made any more; the keeper's status then."""
            while True:
                status: dict[str, Any] = keeper_call(name, "status")
                making = status["making"]
                if not making or making["number"] != number:
                    return status
                update(making["bytes"], max(making["bytes"], making["expected_bytes"]))
                if time.monotonic() > until:
                    raise CacheTimeout(f"snapshot {number} is not done within {timeout:g} s; it goes on")
                time.sleep(_POLL_S)

        making = keeper_call(name, "status")["making"]
        if making:
            # It may lack writes that came after it had begun.
            wait(making["number"])
        number = keeper_call(name, "save", {"wait": False})["number"]
        last = wait(number)["last_snapshot"] or {"number": 0}
    if last["number"] < number:
        from ..outcome import fail

        fail(f"snapshot {number} failed: {keeper_call(name, 'status')['last_error']}")
    found = {"number": number, "keys": last["keys"], "bytes": last["bytes"], "seconds": round(time.monotonic() - began, 3)}
    if as_json:
        print(json.dumps(found))
    else:
        print(f"snapshot {number}: {found['keys']:,} keys, {format_size(found['bytes'])}, {found['seconds']:.2f} s")


def _moment(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


@snapshot.command("list")
def list_(
    name: Annotated[str, typer.Argument(help="A running instance of this host.")] = "default", data_dir: DataDir = None, as_json: Json = False
) -> None:
    """The snapshots that there are, oldest first."""
    from shmcache.config import format_size
    from shmcache.errors import DamagedFile
    from shmcache.persistence.snapshots import read_manifest, snapshot_numbers

    from .checking import summary

    folder = find_folder(name, data_dir)
    rows: list[dict[str, Any]] = []
    for number in snapshot_numbers(folder):
        try:
            rows.append(summary(folder, read_manifest(folder, number)))
        except DamagedFile as damage:
            rows.append({"number": number, "error": str(damage)})
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        print(f"no snapshot in {folder}")
    for row in rows:
        if "error" in row:
            print(f"{row['number']:>6}  damaged: {row['error']}")
            continue
        log = f"{len(row['segments'])} file(s), {format_size(row['log_bytes'])} of log follow" if row["segments"] else "no log follows"
        print(f"{row['number']:>6}  {_moment(row['ended_ms'])}  {row['keys']:>12,} keys  {format_size(row['bytes']):>9}  {log}")


@snapshot.command()
def info(number: Number, name: Name = "default", data_dir: DataDir = None, as_json: Json = False) -> None:
    """Everything that the manifest of one snapshot says."""
    from dataclasses import asdict

    from shmcache.config import format_size
    from shmcache.persistence.snapshots import read_manifest, snapshot_folder

    from .checking import is_needed, summary

    folder = find_folder(name, data_dir)
    manifest = read_manifest(folder, number)
    found = summary(folder, manifest) | {"is_needed": is_needed(folder, number)}
    if as_json:
        print(json.dumps({**found, "manifest": asdict(manifest)}, indent=1))
        return
    log = f"segments {found['segments'][0]} to {found['segments'][-1]}, {format_size(found['log_bytes'])}" if found["segments"] else "none"
    print(
        f"snapshot {number} of instance {manifest.instance}, release {manifest.release or 'unknown'}, in {snapshot_folder(folder, number)}\n"
        f"  begun    {_moment(manifest.began_ms)}, done {(manifest.ended_ms - manifest.began_ms) / 1000:.2f} s later\n"
        f"  keys     {manifest.keys:,}\n"
        f"  size     {format_size(manifest.bytes)} ({format_size(found['raw_bytes'])} before compression)\n"
        f"  log      {log}\n"
        f"  key      {manifest.key or 'not encrypted'}\n"
        f"  needed   {'yes: a cold start would begin with older data without it' if found['is_needed'] else 'no'}"
    )
    for shard in manifest.shards:
        print(f"  shard {shard.shard}  {shard.keys:,} keys  {format_size(shard.bytes)}  {shard.blocks} blocks  up to log position {shard.end}")


@snapshot.command()
def verify(
    number: Annotated[int | None, typer.Argument(help="One snapshot and the log that follows it; without: all there is.", min=1)] = None,
    name: Name = "default",
    data_dir: DataDir = None,
    data_key_file: DataKeyFile = "",
    as_json: Json = False,
) -> None:
    """Read every block of a snapshot and of the log that follows it. Damage is named by file and offset, and is exit code 1."""
    from shmcache.persistence.locking import holder_of

    from ..progress import progress_bar
    from .checking import bytes_to_check, check, print_checked

    folder = find_folder(name, data_dir)
    cipher = data_cipher(folder, data_key_file)
    with progress_bar("verify", bytes_to_check(folder, number)) as update:
        found = check(folder, number, update, in_use=bool(holder_of(folder)), cipher=cipher)
    print_checked(found, as_json)
    raise typer.Exit(REFUSED if found.damage else 0)


@snapshot.command()
def delete(
    number: Number,
    name: Name = "default",
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Also the one that a cold start needs, or a damaged one.")] = False,
) -> None:
    """Delete a snapshot. Refused for one without which a cold start would begin with older data."""
    from shmcache.errors import ConfigError
    from shmcache.persistence.files import OS_FILES
    from shmcache.persistence.snapshots import read_manifest, remove_snapshot, snapshot_numbers

    from .checking import is_needed

    folder = find_folder(name, data_dir)
    if number not in snapshot_numbers(folder):
        read_manifest(folder, number)
    if not force and is_needed(folder, number):
        raise ConfigError(f"snapshot {number} is needed: without it a cold start would begin with older data. --force deletes it all the same")
    remove_snapshot(OS_FILES, folder, number)
    print(f"snapshot {number} deleted")


@snapshot.command()
def restore(
    data_dir: StoppedDir,
    number: Annotated[int | None, typer.Argument(help="The snapshot to go back to.", min=1)] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Instead: say how to go back to a moment (`2026-11-24T18:00:00Z`, or unix seconds).")
    ] = None,
    data_key_file: DataKeyFile = "",
) -> None:
    """Prepare the folder of a stopped instance, so that its next `serve --cold` begins with a snapshot; newer files are moved aside."""
    from shmcache.errors import ConfigError
    from shmcache.persistence.locking import folder_held

    from ..progress import progress_bar
    from .checking import bytes_to_check
    from .restoring import prepare

    folder = existing_folder(data_dir)
    if (number is None) == (until is None):
        raise ConfigError("say either the number of a snapshot or --until")
    if until is not None:
        return _explain(folder, until)
    assert number is not None
    cipher = data_cipher(folder, data_key_file)
    with folder_held(folder, "snapshot restore"), progress_bar("verify", bytes_to_check(folder, number)) as update:
        done = prepare(folder, number, update, cipher)
    if done.aside is not None:
        print(f"moved to {done.aside}: {len(done.snapshots)} newer snapshot(s), {len(done.segments)} file(s) of the log")
    print(
        f"snapshot {number} ({done.manifest.keys:,} keys, {_moment(done.manifest.ended_ms)}) is sound and what the next cold start begins with:\n"
        f"  shmcache serve --cold --name {done.manifest.instance} --data-dir {folder} ..."
    )


def _explain(folder: Path, until: str) -> None:
    """Nothing has to be moved for a moment: a start with --until finds its snapshot and cuts the log by itself."""
    from shmcache.config import load
    from shmcache.errors import ConfigError
    from shmcache.persistence.recovery import find_restore

    moment = load({"until": until}, environ={}).persistence.until
    found = find_restore(folder, moment)
    if found is None:
        raise ConfigError(f"there is nothing in {folder}")
    source = f"snapshot {found.snapshot.number}" if found.snapshot else "the beginning of the log"
    log = f" and segments {found.segments[0]} to {found.segments[-1]} of the log, up to then" if found.segments else "; no log follows it"
    print(
        f"for {_moment(moment)} a start reads {source}{log}. Nothing has to be prepared:\n"
        f"  shmcache serve --cold --until {until} --data-dir {folder} ...\n"
        "It makes a new snapshot of that state; what is later stays in the folder until it is retired, and later starts do not read it."
    )
