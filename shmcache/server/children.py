"""Child processes of the supervisor: started, watched by pidfd, heard through a pipe."""

import json
import os
import signal
import subprocess
import sys
from typing import Any, Final

_REPORT_BYTES_MAX: Final = 65_536


class Child:
    """One role (a worker's or the router's) and the process that fills it at present."""

    def __init__(self, role: str, module: str, settings: dict[str, Any]) -> None:
        self.role, self._module, self.settings = role, module, settings
        self.deaths: list[float] = []
        self.failed_starts = 0
        """In a row, since it served last."""
        self.restart_at: float | None = None
        self.was_ready = False
        self.ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self.pidfd = self.report_fd = -1
        self._heard = b""

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start a process; `pidfd` and `report_fd` are to be watched for reading."""
        assert self._process is None
        self.restart_at, self.ready, self._heard = None, False, b""
        self.report_fd, theirs = os.pipe()
        os.set_blocking(self.report_fd, False)
        settings = self.settings | {"supervisor_pid": os.getpid(), "report_fd": theirs}
        try:
            self._process = subprocess.Popen(
                # -P: a file of ours shall not be shadowed by one in the working directory.
                [sys.executable, "-P", "-m", self._module, json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs],
            )
        finally:
            os.close(theirs)
        self.pidfd = os.pidfd_open(self._process.pid)

    def hear(self) -> list[dict[str, Any]] | None:
        """Reports that have come; None once the process has closed its end."""
        try:
            data = os.read(self.report_fd, _REPORT_BYTES_MAX)
        except BlockingIOError:
            return []
        if not data:
            return None
        *lines, self._heard = (self._heard + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def reap(self) -> int:
        """Collect a process that has ended; returns its exit code (negative: the signal)."""
        assert self._process is not None
        code = self._process.wait()
        os.close(self.pidfd)
        os.close(self.report_fd)
        self._process, self.ready, self.pidfd, self.report_fd = None, False, -1, -1
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process: by pidfd, which can never mean another one."""
        if self._process is not None:
            signal.pidfd_send_signal(self.pidfd, number)
