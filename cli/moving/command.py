"""`shmcache snapshot export` and `import`: data as a stream of records."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from ..folder import DataDir, DataKeyFile, data_cipher
from ..options import Json
from ..outcome import REFUSED

File = Annotated[str, typer.Argument(metavar="FILE|-", help="A file; - is stdin or stdout. A name that ends in .zst is zstd.")]
Target = Annotated[
    str | None,
    typer.Argument(metavar="NAME|URL", envvar="SHMCACHE_URL", help="The instance: a name on this host, or a URL. Default: default", show_default=False),
]
Keep = Annotated[bool, typer.Option("--keep/--replace", help="Keys that are there already stay / get the new value.")]


class Encoding(StrEnum):
    JSON = "json"
    MSGPACK = "msgpack"


def export(
    file: File,
    name: Annotated[str, typer.Argument(help="An instance of this host.")] = "default",
    data_dir: DataDir = None,
    number: Annotated[int | None, typer.Option("--number", help="With --data-dir: that snapshot as it is, without the log.", min=1)] = None,
    encoding: Annotated[Encoding, typer.Option("--format", help="Of the records.")] = Encoding.JSON,
    data_key_file: DataKeyFile = "",
    as_json: Json = False,
) -> None:
    """Write all keys of an instance, or of a data folder, as a stream that other programs can read (docs/persistence.md)."""
    from shmcache.errors import ConfigError

    from ..folder import existing_folder
    from ..progress import progress_bar
    from .reading import FolderSource, LiveSource
    from .stream import StreamWriter

    if number is not None and data_dir is None:
        raise ConfigError("--number goes with --data-dir: of a running instance the present state is exported")
    if data_dir is not None:
        source: FolderSource | LiveSource = FolderSource(existing_folder(data_dir), number, data_cipher(data_dir, data_key_file))
    else:
        source = LiveSource(name)
    about = {"created_ms": time.time_ns() // 1_000_000, "source": source.about}
    with _output(file) as out, progress_bar("export", source.keys or None, "keys") as update:
        writer = StreamWriter(out, encoding.value, compressed=file.endswith(".zst"), about=about)
        for record in source:
            writer.write(record)
            if writer.records % 1_000 == 0:
                update(writer.keys, max(source.keys, writer.keys))
        writer.end()
    found = {"keys": writer.keys, "records": writer.records, "source": source.about, "file": file}
    text = json.dumps(found) if as_json else f"{writer.keys:,} keys of {source.about} written to {file}"
    print(text, file=sys.stderr if file == "-" else sys.stdout)


@contextlib.contextmanager
def _output(file: str) -> Iterator[BinaryIO]:
    """Under another name until it is whole; a file that is there is not replaced."""
    from shmcache.errors import ConfigError

    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.exists():
        raise ConfigError(f"{path} exists")
    beside = path.with_name(f"{path.name}.unfinished")
    try:
        with beside.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def import_(
    file: File,
    url: Target = None,
    keep: Keep = False,
    as_json: Json = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for one batch.", min=0.001)] = 30.0,
) -> None:
    """Write the records of a stream, or of a Redis dump file, into an instance. Exit code 1 if some could not be stored."""
    from ..connection import open_client
    from ..progress import progress_bar
    from .loading import Loader
    from .stream import BadStream

    with _input(file) as (source, size), open_client(url, timeout) as client, progress_bar("import", size or None) as update:
        loader = Loader(client, keep=keep, timeout=timeout)
        word, records = _records(source, file)
        seen = 0
        try:
            for place, record in records:
                loader.add(f"{word} {place}", record)
                seen += 1
                if seen % 1_000 == 0 and size:
                    update(source.tell())
        except BadStream:
            # What stands before the bad line is good.
            loader.flush()
            raise
        loader.flush()
    report(loader.counts, as_json)


def report(counts: Any, as_json: bool, **more: Any) -> None:
    """What became of it, and the exit code."""
    print(json.dumps(counts.to_json() | more) if as_json else counts.text())
    raise typer.Exit(REFUSED if counts.other else 0)


@contextlib.contextmanager
def _input(file: str) -> Iterator[tuple[io.BufferedReader, int]]:
    """The stream and its size, 0 if nobody knows."""
    if file == "-":
        assert isinstance(sys.stdin.buffer, io.BufferedReader)
        yield sys.stdin.buffer, 0
        return
    with Path(file).open("rb", buffering=1 << 18) as source:
        yield source, os.fstat(source.fileno()).st_size


def _records(source: io.BufferedReader, file: str) -> tuple[str, Iterator[tuple[int, Any]]]:
    """What a place is called, and places and records."""
    from shmcache.errors import ConfigError

    from .rdb import read_rdb
    from .stream import is_rdb, read_stream

    if not is_rdb(source):
        return "line", read_stream(source, file)
    if file == "-":
        raise ConfigError("a Redis dump file is read by its name, not from stdin")
    return "key", read_rdb(Path(file))
