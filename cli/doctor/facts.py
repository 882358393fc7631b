"""What the host says: reads files and limits, decides nothing."""

import os
import platform
import resource
import time
from pathlib import Path

from . import checks
from .checks import Check


def read_text(path: str) -> str | None:
    """Text of a file, None if it is not there."""
    try:
        return Path(path).read_text()
    except OSError:
        return None


def mount_option(mounts: str, point: str, option: str) -> str | None:
    """Value of `option=` of the file system mounted at `point`, from the text of /proc/mounts."""
    value = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[1] == point:
            given = dict(part.partition("=")[::2] for part in fields[3].split(","))
            value = given.get(option)
    return value


def remove_ipc_setting() -> str | None:
    """RemoveIPC as logind has it ("yes" is its default); None without logind."""
    if not Path("/run/systemd/system").exists():
        return None
    setting = "yes"
    drop_ins = sorted(Path("/etc/systemd/logind.conf.d").glob("*.conf"))
    for path in [Path("/etc/systemd/logind.conf"), *drop_ins]:
        for line in (read_text(str(path)) or "").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "RemoveIPC":
                setting = value.strip()
    return setting


def host_checks() -> list[Check]:
    """Checks that concern the host, not an instance."""
    space = os.statvfs("/dev/shm")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    memlock, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    source = read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    now, monotonic = time.time(), time.monotonic()
    time.sleep(0.1)
    later, step = time.time(), time.monotonic() - monotonic
    uid = os.getuid()
    lingers = any(Path("/var/lib/systemd/linger").glob(_user_name(uid)))
    unlimited = 1 << 30
    return [
        checks.check_space(space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize),
        checks.check_remove_ipc(remove_ipc_setting(), uid, lingers),
        checks.check_huge_pages(
            read_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
            mount_option(read_text("/proc/mounts") or "", "/dev/shm", "huge"),
        ),
        checks.check_open_files(soft, unlimited if hard == resource.RLIM_INFINITY else hard),
        checks.check_memlock(-1 if memlock == resource.RLIM_INFINITY else memlock),
        checks.check_clock(source.strip() if source else None, now, later, step),
        checks.check_kernel(platform.release()),
    ]


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def instance_checks() -> list[Check]:
    """Checks of each instance that has objects in /dev/shm."""
    from shmcache import _engine
    from shmcache.server import regions

    found = []
    objects = regions.list_objects()
    cpus = len(os.sched_getaffinity(0))
    for name in sorted({item.instance for item in objects}):
        mine = [item for item in objects if item.instance == name]
        found.append(
            checks.check_stale(name, regions.supervisor_alive(name), sum(item.allocated_bytes for item in mine))
        )
        data = [item.name for item in mine if item.name.endswith(".data")]
        found.append(checks.check_workers(name, len(data), cpus))
        for region in data:
            found.append(checks.check_layout(region, _layout_version(region), _engine.LAYOUT_VERSION))
    return found


def _layout_version(region: str) -> int | None:
    """Version in a data region's header: this engine's own if it accepts it, else the number that stands there."""
    from shmcache import _engine
    from shmcache.server import regions

    with regions.opened(region) as fd:
        try:
            return int(_engine.region_info(fd)["layout_version"])
        except _engine.LayoutMismatch:
            # The header begins with the magic (8 bytes) and the version (4 bytes).
            header = os.pread(fd, 12, 0)
            return int.from_bytes(header[8:12], "little") if header[:8].strip(b"\0") else None
        except _engine.EngineError:
            return None
