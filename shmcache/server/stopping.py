"""Stop an instance from another process."""

import os
import select
import signal

from ..errors import CacheTimeout, InstanceNotFound
from ..protocol.directory import Directory
from .regions import supervisor_alive


def stop(instance: str, timeout: float = 40.0) -> int:
    """Ask the supervisor of an instance on this host to stop and wait for it; returns its pid.

    Raises InstanceNotFound if none runs, CacheTimeout if it is still there after `timeout` seconds.
    """
    directory = Directory.open(instance)
    pid = directory.snapshot().supervisor_pid
    directory.close()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise InstanceNotFound(f"instance {instance!r} does not run (pid {pid} is gone)") from None
    try:
        # Asked after the descriptor is open: while the lock is held, this pid cannot be anybody else's.
        if not supervisor_alive(instance):
            raise InstanceNotFound(f"instance {instance!r} does not run (it left its regions behind)")
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise CacheTimeout(f"instance {instance!r} (pid {pid}) has not stopped within {timeout:g} s")
    finally:
        os.close(pidfd)
    return pid
