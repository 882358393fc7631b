"""The checks: pure functions of facts. `facts.py` reads the host."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]
MIB = 1 << 20
CONTAINER_DEFAULT_BYTES = 64 * MIB
MIN_FREE_BYTES = 128 * MIB
MIN_OPEN_FILES = 4096
MIN_MEMLOCK_BYTES = 64 * MIB
MIN_KERNEL = (5, 4)
FIRST_SYSTEM_UID = 1000
CLOCK_EARLIEST_S = 1_700_000_000
"""November 2023: a clock before this was never set."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `advice` is empty if there is nothing to do."""

    name: str
    level: Level
    finding: str
    advice: str = ""


def check_space(total_bytes: int, free_bytes: int) -> Check:
    """Room in /dev/shm for regions."""
    finding = f"{free_bytes // MIB} MiB free of {total_bytes // MIB} MiB"
    if total_bytes <= CONTAINER_DEFAULT_BYTES:
        return Check(
            "space in /dev/shm", "fail", finding,
            "this is a container's default of 64 MB: start it with --shm-size=4g (Kubernetes: an emptyDir of medium Memory)",
        )  # fmt: skip
    if free_bytes < MIN_FREE_BYTES:
        return Check(
            "space in /dev/shm", "warn", finding,
            "remove what is stale (shmcache doctor --clean) or enlarge it: mount -o remount,size=8G /dev/shm",
        )  # fmt: skip
    return Check("space in /dev/shm", "ok", finding)


def check_remove_ipc(setting: str | None, uid: int, lingering: bool) -> Check:
    """systemd's RemoveIPC deletes the regions of an ordinary user at logout. `setting` None: no systemd-logind here."""
    name = "systemd RemoveIPC"
    if setting is None:
        return Check(name, "ok", "no systemd-logind on this host")
    if setting.lower() in ("no", "false", "0", "off"):
        return Check(name, "ok", "RemoveIPC=no")
    if uid < FIRST_SYSTEM_UID:
        return Check(name, "ok", f"RemoveIPC=yes spares system users (uid {uid})")
    if lingering:
        return Check(name, "ok", f"uid {uid} lingers: it never logs out")
    return Check(
        name, "fail", f"RemoveIPC=yes: the regions of uid {uid} are deleted when its last session ends",
        "set RemoveIPC=no in /etc/systemd/logind.conf, or run `loginctl enable-linger`, or serve as a system user",
    )  # fmt: skip


def check_huge_pages(shmem_enabled: str | None, mount_huge: str | None) -> Check:
    """`shmem_enabled` is the kernel file's text (the choice in brackets); `mount_huge` the huge= option of /dev/shm."""
    name = "huge pages for shared memory"
    if shmem_enabled is None:
        return Check(name, "warn", "the kernel has no transparent huge pages", "lookups over many GB miss the TLB more often")
    choice = shmem_enabled.partition("[")[2].partition("]")[0] or "never"
    mount = mount_huge or "never"
    finding = f"kernel: {choice}, /dev/shm: huge={mount}"
    if choice == "deny":
        mount = "never"
    if choice == "force" or mount in ("always", "within_size", "advise"):
        return Check(name, "ok", finding)
    return Check(name, "warn", finding, "for instances of many GB: mount -o remount,huge=within_size /dev/shm")


def check_open_files(soft: int, hard: int) -> Check:
    """RLIMIT_NOFILE: sockets of clients, three descriptors per shard."""
    finding = f"{soft} (hard limit {hard})"
    if hard < MIN_OPEN_FILES:
        return Check("open files", "fail", finding, f"raise it to {MIN_OPEN_FILES} or more: LimitNOFILE= or ulimit -Hn")
    if soft < MIN_OPEN_FILES:
        return Check("open files", "ok", f"{finding}: the server raises its own")
    return Check("open files", "ok", finding)


def check_memlock(soft_bytes: int) -> Check:
    """RLIMIT_MEMLOCK: nothing is locked today, so that a small limit only informs. -1 is unlimited."""
    unlimited = soft_bytes < 0
    finding = "unlimited" if unlimited else f"{soft_bytes // 1024} KiB"
    if unlimited or soft_bytes >= MIN_MEMLOCK_BYTES:
        return Check("locked memory", "ok", finding)
    return Check("locked memory", "ok", f"{finding}; regions are not locked, they may be swapped if there is swap")


def check_clock(source: str | None, now_s: float, later_s: float, monotonic_step_s: float) -> Check:
    """Expiry and stamps are wall-clock times: it must be set, and go at the rate of the monotonic clock."""
    finding = f"source {source or 'unknown'}"
    if now_s < CLOCK_EARLIEST_S:
        return Check("clock", "fail", f"{finding}; it says {now_s:.0f} s since 1970", "set the time (chrony, ntpd)")
    drift = abs((later_s - now_s) - monotonic_step_s)
    if drift > 0.05:
        return Check("clock", "warn", f"{finding}; it stepped by {drift * 1000:.0f} ms", "slew the time, do not step it")
    if source in ("hpet", "acpi_pm", "jiffies"):
        return Check("clock", "warn", f"{finding}: each reading is a system call", "use the clock source tsc or kvm-clock")
    return Check("clock", "ok", finding)


def check_kernel(release: str) -> Check:
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < MIN_KERNEL:
        return Check("kernel", "fail", release, "5.4 or later is needed (pidfd)")
    return Check("kernel", "ok", release)


def check_layout(region: str, found: int | None, own: int) -> Check:
    """`found` None: the object is not a region at all."""
    name = f"layout of {region}"
    if found is None:
        return Check(name, "warn", "not a region of shmcache", "a crash while it was made leaves this: shmcache doctor --clean")
    if found != own:
        return Check(name, "fail", f"version {found}, this program has {own}", "restart the instance with --cold")
    return Check(name, "ok", f"version {own}")


def check_stale(instance: str, alive: bool, allocated_bytes: int) -> Check:
    """Regions whose server is gone: kept for a warm restart, or left by a crash."""
    name = f"instance {instance}"
    if alive:
        return Check(name, "ok", f"runs; {allocated_bytes // MIB} MiB")
    return Check(
        name, "warn", f"not running; its regions take {allocated_bytes // MIB} MiB",
        f"`shmcache serve --name {instance}` goes on with them; `shmcache doctor --clean` removes them",
    )  # fmt: skip


def check_workers(instance: str, workers: int, cpus: int) -> Check:
    name = f"workers of {instance}"
    if workers > cpus:
        return Check(name, "warn", f"{workers} workers, {cpus} CPUs", f"serve with --workers {cpus}")
    return Check(name, "ok", f"{workers} workers, {cpus} CPUs")
