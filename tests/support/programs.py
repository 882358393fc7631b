"""Programs that are not ours and that some tests need: found, or the reason why a test cannot run."""

import os
import shutil

import pytest

_SYSTEM_PATHS = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def find_program(name: str) -> str | None:
    """Path of an installed program, or None."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATHS)


def program_or_skip(name: str) -> str:
    """Path of an installed program. Without it the test is skipped, but with CI=true it fails: there all must run."""
    path = find_program(name)
    if path is not None:
        return path
    reason = f"{name} is not installed (scripts/test installs it when run as root)"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)
