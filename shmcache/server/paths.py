"""Where an instance keeps its unix sockets."""

import grp
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError, Unavailable
from ..limits import SOCKET_PATH_BYTES_MAX
from ..protocol.directory import DirectorySnapshot


def runtime_dir(configured: str = "", environ: Mapping[str, str] = os.environ) -> Path:
    """The folder: as configured, else `$SHMCACHE_RUNTIME_DIR`, else the user's own."""
    if configured or environ.get("SHMCACHE_RUNTIME_DIR"):
        return Path(configured or environ["SHMCACHE_RUNTIME_DIR"]).absolute()
    if environ.get("XDG_RUNTIME_DIR"):
        return Path(environ["XDG_RUNTIME_DIR"], "shmcache")
    return Path(f"/tmp/shmcache-{os.getuid()}")


def group_id(group: str) -> int:
    """Id of a group; -1 (leave as it is) for the empty name. Raises ConfigError if there is none."""
    if not group:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"group: there is no group {group!r} on this host") from None


def prepare_runtime_dir(folder: Path, gid: int) -> None:
    """Make the folder, for the user (and the group) only. Raises ConfigError if somebody else could plant
    sockets there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ConfigError(f"runtime_dir: {folder} is not a folder of the user that starts the server")
        if gid >= 0:
            os.chown(folder, -1, gid)
        folder.chmod(0o750 if gid >= 0 else 0o700)
    except OSError as error:
        raise ConfigError(f"runtime_dir: {folder}: {error.strerror}") from None


def ipc_endpoint(folder: Path, instance: str, part: str) -> str:
    """`ipc://` endpoint of a worker (`w0`) or the router. Raises ConfigError when the path is too long for a
    socket.
    """
    path = folder / f"{instance}.{part}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(
            f"runtime_dir: {path} is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a unix socket's path: "
            "choose a shorter folder or instance name"
        )
    return f"ipc://{path}"


def socket_folder(snapshot: DirectorySnapshot) -> Path:
    """Where an instance that runs keeps its sockets: where those are that its directory names. Raises Unavailable."""
    endpoints = [*snapshot.router_endpoints, *(e for record in snapshot.shards for e in record.endpoints)]
    for endpoint in endpoints:
        if endpoint.startswith("ipc://"):
            return Path(endpoint.removeprefix("ipc://")).parent
    raise Unavailable(f"instance {snapshot.instance!r} is {snapshot.state}: it has no socket yet")


def remove_socket(endpoint: str) -> None:
    """Remove the socket file of an ipc endpoint, if there is one; nothing else is touched."""
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass


def bell_path(folder: str | Path, instance: str, part: str) -> Path:
    """Socket file of a process' doorbell."""
    return Path(folder, f"{instance}.{part}.bell")
