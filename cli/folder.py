"""Which data folder a command works on, and calls to the keeper that writes it."""

from pathlib import Path
from typing import Annotated, Any

import typer

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="A data folder, instead of that of a running instance.", show_default=False)
]
StoppedDir = Annotated[
    Path, typer.Option("--data-dir", envvar="SHMCACHE_DATA_DIR", help="The data folder of an instance that does not run.")
]
DataKeyFile = Annotated[
    str, typer.Option("--data-key-file", envvar="SHMCACHE_DATA_KEY_FILE", help="Of data that are encrypted.", show_default=False)
]


def data_cipher(folder: Path, key_file: str) -> Any:
    """The keys of what is in a folder; None if nothing needs any. Raises ConfigError, WrongKey if what is there is encrypted with another one."""
    from shmcache.persistence.recovery import check_keys
    from shmcache.server.restoring import open_cipher

    cipher = open_cipher(key_file)
    check_keys(folder, cipher)
    return cipher


def keeper_call(name: str, call: str, arguments: dict[str, Any] | None = None, timeout: float = 5.0) -> Any:
    """A control call to an instance's keeper. Raises InstanceNotFound if there is none, Unavailable, CacheTimeout, ResponseError."""
    from shmcache.errors import InstanceNotFound, Unavailable
    from shmcache.protocol.persistence import PersistenceRegion
    from shmcache.server.regions import supervisor_alive

    from .connection import call_process, process_endpoint

    if not supervisor_alive(name):
        raise InstanceNotFound(f"instance {name!r} is not running; for what it left on disk name its folder with --data-dir")
    PersistenceRegion.open(name).close()
    if not Path(process_endpoint(name, "keeper").removeprefix("ipc://")).exists():
        raise Unavailable(f"the keeper of instance {name!r} is not up (yet)")
    return call_process(name, "keeper", call, arguments, timeout)


def existing_folder(path: Path) -> Path:
    """The folder itself. Raises ConfigError if it is no data folder."""
    from shmcache.errors import ConfigError
    from shmcache.persistence.segments import FOLDER as LOG
    from shmcache.persistence.snapshots import FOLDER as SNAPSHOTS

    if not path.is_dir():
        raise ConfigError(f"{path} is not a folder")
    if not (path / SNAPSHOTS).is_dir() or not (path / LOG).is_dir():
        raise ConfigError(f"{path} is not a data folder: it has no {SNAPSHOTS}/ and {LOG}/")
    return path


def find_folder(name: str, data_dir: Path | None) -> Path:
    """The folder that was named, else that of a running instance."""
    return existing_folder(data_dir if data_dir is not None else Path(keeper_call(name, "status")["data_dir"]))
