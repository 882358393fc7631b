"""The doctor's checks: each level from facts alone."""

import pytest

from shmcache.cli.doctor import checks, facts

GIB = 1 << 30


def test_a_containers_default_space_fails_with_the_remedy():
    """64 MB of /dev/shm is named as the container default, with the flag that changes it."""
    check = checks.check_space(64 << 20, 60 << 20)
    assert check.level == "fail"
    assert "--shm-size" in check.advice


@pytest.mark.parametrize(("free", "level"), [(GIB, "ok"), (1 << 20, "warn")])
def test_little_free_space_warns(free: int, level: str):
    """A large /dev/shm that is nearly full is a warning."""
    assert checks.check_space(4 * GIB, free).level == level


@pytest.mark.parametrize(
    ("setting", "uid", "lingering", "level"),
    [(None, 1000, False, "ok"), ("no", 1000, False, "ok"), ("yes", 0, False, "ok"), ("yes", 1000, True, "ok"), ("yes", 1000, False, "fail")],
)  # fmt: skip
def test_remove_ipc_concerns_ordinary_users_that_log_out(setting: str | None, uid: int, lingering: bool, level: str):
    """Only RemoveIPC=yes with an ordinary user who does not linger deletes regions."""
    assert checks.check_remove_ipc(setting, uid, lingering).level == level


@pytest.mark.parametrize(
    ("kernel", "mount", "level"),
    [("always [advise] never", None, "warn"), ("always [never]", "always", "ok"), ("[force] never", None, "ok"), ("[deny] never", "always", "warn"), (None, None, "warn")],
)  # fmt: skip
def test_huge_pages_follow_the_mount_unless_the_kernel_overrules(kernel: str | None, mount: str | None, level: str):
    """/dev/shm's huge= decides; force and deny of the kernel overrule it."""
    assert checks.check_huge_pages(kernel, mount).level == level


def test_limits_clock_kernel_layout_and_workers():
    """Each of the small checks tells good from bad."""
    assert checks.check_open_files(1024, 1024).level == "fail"
    assert checks.check_open_files(1024, 65536).level == "ok"
    assert checks.check_memlock(-1).level == "ok"
    assert checks.check_clock("tsc", 0.0, 0.1, 0.1).level == "fail"
    assert checks.check_clock("tsc", 1.8e9, 1.8e9 + 5, 0.1).level == "warn"
    assert checks.check_clock("hpet", 1.8e9, 1.8e9 + 0.1, 0.1).level == "warn"
    assert checks.check_clock("tsc", 1.8e9, 1.8e9 + 0.1, 0.1).level == "ok"
    assert checks.check_kernel("4.19.0-1").level == "fail"
    assert checks.check_kernel("6.1.0-18-amd64").level == "ok"
    assert checks.check_layout("r", 2, 1).level == "fail"
    assert checks.check_layout("r", None, 1).level == "warn"
    assert checks.check_stale("x", False, 1 << 20).level == "warn"
    assert checks.check_workers("x", 8, 2).level == "warn"


def test_mount_options_are_those_of_the_last_mount_on_the_point():
    """/proc/mounts lists covered mounts too; the last one counts."""
    mounts = "tmpfs /dev/shm tmpfs rw,huge=never 0 0\ntmpfs /dev/shm tmpfs rw,huge=always,inode64 0 0\n"
    assert facts.mount_option(mounts, "/dev/shm", "huge") == "always"
    assert facts.mount_option(mounts, "/tmp", "huge") is None
