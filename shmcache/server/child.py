"""What every child process of the supervisor does first, and how it reports back."""

import ctypes
import json
import os
import signal
import sys
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1


class StopFlag:
    """Set by SIGTERM. SIGINT is ignored: Ctrl-C reaches the whole terminal group, but the supervisor orders
    the stop.
    """

    def __init__(self) -> None:
        self.set = False
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, *_: object) -> None:
        self.set = True


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the supervisor ends in any way."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # It may have ended before the call above: then nobody would ever tell.
    if os.getppid() != parent_pid:
        os._exit(0)


def start_child() -> tuple[dict[str, Any], StopFlag]:
    """Settings from the command line (one JSON object) and the flag that asks for a stop."""
    settings = json.loads(sys.argv[1])
    stop = StopFlag()
    die_with_parent(settings["supervisor_pid"])
    return settings, stop


def report(settings: dict[str, Any], **fields: Any) -> None:
    """Tell the supervisor, in one line, that this process is ready, or why it cannot be."""
    try:
        os.write(settings["report_fd"], json.dumps(fields).encode() + b"\n")
    except BrokenPipeError:
        pass
