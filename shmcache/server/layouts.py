"""The layout versions of the shared memory that this installation reads and writes. `python -m shmcache.server.layouts` prints them.

A supervisor that ran before an upgrade of the package asks this way what its new children would be.
"""

import json
import subprocess
import sys
from typing import Final

from .. import _engine
from ..errors import ConfigError
from ..protocol.directory import DIRECTORY_LAYOUT_VERSION
from ..protocol.persistence import PERSISTENCE_LAYOUT_VERSION
from ..protocol.replication import REPLICATION_LAYOUT_VERSION

_ASK_S_MAX: Final = 10.0


def layouts() -> dict[str, int]:
    """Of this process."""
    return {
        "data": _engine.LAYOUT_VERSION,
        "directory": DIRECTORY_LAYOUT_VERSION,
        "persistence": PERSISTENCE_LAYOUT_VERSION,
        "replication": REPLICATION_LAYOUT_VERSION,
    }


def check_installed() -> None:
    """That a process which is started now has the layouts of this one. Raises ConfigError."""
    command = [sys.executable, "-P", "-m", "shmcache.server.layouts"]
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_S_MAX, check=True).stdout
        installed = dict(json.loads(answer))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(f"the package that is installed now does not start: {error}") from None
    own = layouts()
    changed = [f"{name} {own[name]} -> {installed.get(name)}" for name in own if installed.get(name) != own[name]]
    if changed:
        raise ConfigError(
            f"the package that is installed now has another layout ({', '.join(changed)}): a rolling restart cannot change "
            "that, stop the instance and start it again"
        )


if __name__ == "__main__":
    print(json.dumps(layouts()))
