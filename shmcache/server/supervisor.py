"""The supervisor: starts an instance's processes, keeps them running, stops them in order."""

import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError, ShmcacheError
from ..limits import READERS_STOP_S_MAX, ROUTER_STOP_S_MAX, WORKER_STOP_S_MAX, WORKERS_HEAD_START_S
from ..protocol.directory import DirectoryWriter
from . import exit_codes
from .children import Child
from .layouts import check_installed
from .requests import RequestServer
from .restarts import has_failed, recent, restart_delay_s
from .rolling import Rolling

_LOOP_S_MAX: Final = 1.0


class StartFailed(ShmcacheError):
    """A child says that the world does not let it start."""


class Supervisor:
    """Workers, router and whatever else an instance has, from the first start to the ordered stop."""

    def __init__(
        self,
        directory: DirectoryWriter,
        workers: list[Child],
        router: Child,
        relay: Child | None,
        on_demand: dict[str, Child],
        requests: tuple[Path, int],
        log: Any,
        on_ready: Callable[[int], None],
        hub: Child | None = None,
        keeper: Child | None = None,
        metrics: Child | None = None,
        *,
        workers_first: bool = False,
        gateways: Sequence[Child] = (),
    ) -> None:
        """`on_ready` is called once, with the number of keys, when all children serve. `workers_first`: the others get no core from them
        while they start.

        `on_demand`: children by role that are started when somebody asks for them; `requests`: socket for that, group.
        """
        self._directory, self._workers, self._router, self._log = directory, workers, router, log
        self._relay = relay
        self._on_demand = on_demand
        self._on_ready = on_ready
        self._hub, self._keeper, self._metrics = hub, keeper, metrics
        self._gateways = gateways
        self._children = [*workers, router, *(child for child in (relay, hub, keeper, metrics) if child), *gateways]
        self._workers_first = workers_first
        self._keys = [0] * len(workers)
        self._serving = False
        self._signals = 0
        self._rolling: Rolling | None = None
        self._selector = selectors.DefaultSelector()
        self._wake, wake_write = socket.socketpair()
        self._wake.setblocking(False)
        wake_write.setblocking(False)
        self._wake_write = wake_write
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        self._requests = RequestServer(*requests, self._selector, self._on_request)

    def run(self) -> int:
        """Supervise until a signal asks for the stop; returns the exit code. Raises StartFailed, with no
        child left.
        """
        try:
            for child in self._children:
                if self._workers_first and child not in self._workers:
                    child.restart_at = time.monotonic() + WORKERS_HEAD_START_S
                else:
                    self._start(child)
            while not self._signals:
                self._step(_LOOP_S_MAX)
        except StartFailed:
            self._kill_all()
            raise
        except BaseException:
            self._log.exception("supervisor failed")
            self._kill_all()
            raise
        return self._stop()

    def close(self) -> None:
        """Give back signals and descriptors."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        self._requests.close()
        self._selector.close()
        self._wake.close()
        self._wake_write.close()

    def _on_signal(self, *_: object) -> None:
        self._signals += 1

    def _on_wake(self) -> None:
        self._wake.recv(4096)

    def _on_request(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Somebody on this host asks for a child that was not needed so far, or for other children than these."""
        match call:
            case "start":
                return self._start_on_demand(str(arguments["role"]))
            case "restart":
                return self._restart()
            case "notify" if self._hub is not None:
                # Its successor, too, shall tell what CONFIG SET asked for.
                self._hub.settings["notify"] = str(arguments["letters"])
                return {}
            case "stop":
                # Somebody who speaks to the RESP port, in the name of this user, says SHUTDOWN.
                self._log.info("asked to stop")
                self._signals += 1
                return {}
            case "restarting" if self._rolling is not None:
                return self._rolling.status()
        raise ConfigError(f"the supervisor knows no call {call!r}")

    def _start_on_demand(self, role: str) -> dict[str, Any]:
        child = self._on_demand.get(role)
        if child is not None and child not in self._children:
            self._log.info("child started on demand", role=role)
            self._children.append(child)
            self._relay = child if role == "relay" else self._relay
            self._start(child)
        found = next((child for child in self._children if child.role == role), None)
        if found is None:
            raise ConfigError(f"there is no process {role!r}")
        return {"pid": found.pid, "ready": found.ready}

    # --- rolling restart ----------------------------------------------------------------------------
    def _restart(self) -> dict[str, Any]:
        """Begin a rolling restart. Raises ConfigError if this is not the time for one."""
        if self._rolling is not None and not self._rolling.is_over:
            raise ConfigError("a rolling restart is under way")
        absent = [child.role for child in self._children if not child.ready]
        if not self._serving or self._signals or absent:
            raise ConfigError(f"the instance is not whole: {', '.join(absent) or 'it stops'}; try again when all its processes serve")
        check_installed()
        turns = [(worker, WORKER_STOP_S_MAX) for worker in self._workers] + [(self._router, ROUTER_STOP_S_MAX)]
        turns += [(child, READERS_STOP_S_MAX) for child in (self._relay, self._hub, self._keeper) if child is not None]
        turns += [(child, ROUTER_STOP_S_MAX) for child in self._gateways]
        self._log.info("rolling restart", processes=len(turns))
        self._rolling = Rolling(turns, lambda: self._children, self._end)
        self._rolling.step()
        return self._rolling.status()

    def _end(self, child: Child, by_force: bool) -> None:
        """End one process, in order if it is not overdue."""
        if by_force:
            self._log.warning("child killed", roles=[child.role])
            return child.signal(signal.SIGKILL)
        if child in self._workers:
            self._directory.update_shard(self._workers.index(child), state="draining")
        child.signal(signal.SIGTERM)

    def _roll(self) -> None:
        rolling = self._rolling
        if rolling is None or rolling.is_over or self._signals:
            return
        rolling.step()
        if rolling.error:
            self._log.error("rolling restart given up", reason=rolling.error)
        elif rolling.is_over:
            self._log.info("rolling restart done")

    def _step(self, wait_s: float) -> None:
        """Wait for events, at most until the next restart is due, and handle them."""
        now = time.monotonic()
        due = [child.restart_at for child in self._children if child.restart_at is not None]
        wait_s = max(0.0, min([wait_s, *(at - now for at in due)]))
        for key, _ in self._selector.select(wait_s):
            # An earlier event of the same turn may have ended what this one belongs to.
            if key.fileobj in self._selector.get_map():
                key.data()
        now = time.monotonic()
        for child in self._children:
            if child.restart_at is not None and child.restart_at <= now and not self._signals:
                self._start(child)
        self._roll()

    def _start(self, child: Child) -> None:
        child.start()
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._on_death(child))
        self._selector.register(child.report_fd, selectors.EVENT_READ, lambda: self._on_report(child))
        if child in self._workers:
            self._directory.update_shard(self._workers.index(child), owner_pid=child.pid)

    def _on_report(self, child: Child) -> None:
        reports = child.hear()
        if reports is None:
            self._selector.unregister(child.report_fd)
            return
        for report in reports:
            if report.get("ready"):
                self._on_child_ready(child, report)
            elif not self._serving and not child.was_ready:
                raise StartFailed(report["error"])
            else:
                self._log.error("child cannot start", role=child.role, reason=report["error"])

    def _on_child_ready(self, child: Child, report: dict[str, Any]) -> None:
        child.ready = child.was_ready = True
        child.failed_starts = 0
        if child is self._router:
            # The ports that were free at the first start stay the instance's.
            child.settings["listen"] = report["endpoints"]
            self._directory.update(router_endpoints=tuple(report["endpoints"]))
        elif child is self._relay:
            relay, log = report["endpoints"]
            child.settings |= {"relay_listen": relay, "log_listen": log}
        elif child is self._hub:
            child.settings["listen"] = report["endpoints"]
            self._directory.update(
                hub_endpoints=tuple(report["endpoints"]),
                hub_pid=child.pid,
                hub_generation=report["generation"],
            )
        elif child is self._metrics:
            child.settings["port"] = report["port"]
        elif child is self._keeper or child in self._gateways:
            pass
        else:
            shard = self._workers.index(child)
            # From here on the region is formatted, and holds the options in force with their live changes.
            child.settings |= {"create": False, "apply_options": False}
            self._keys[shard] = report["recovery"].get("keys", 0)
            self._directory.update_shard(
                shard,
                generation=report["generation"],
                state="serving",
                endpoints=(child.settings["endpoint"],),
            )
            self._log.info("shard ready", shard=shard, generation=report["generation"], **report["recovery"])
        if self._directory.current.state == "starting" and all(worker.ready for worker in self._workers):
            # Who is on this host needs nothing else.
            self._directory.update(state="serving")
            for other in self._children:
                if not other.pid and not other.was_ready and not other.failed_starts:
                    other.restart_at = time.monotonic()
        if not self._serving and all(child.ready for child in self._children):
            self._serving = True
            self._on_ready(sum(self._keys))

    def _on_death(self, child: Child) -> None:
        pid, served = child.pid, child.ready
        reports = child.hear()
        self._selector.unregister(child.pidfd)
        if child.report_fd in self._selector.get_map():
            self._selector.unregister(child.report_fd)
        code = child.reap()
        if self._rolling is not None and self._rolling.expects(child):
            self._on_planned_death(child)
            return
        now = time.monotonic()
        child.deaths = [*recent(child.deaths, now), now]
        child.failed_starts += not served
        series = len(child.deaths) if served else child.failed_starts
        failed = has_failed(series, served)
        if child is self._hub:
            self._directory.update(hub_pid=0)
        elif child in self._workers:
            state = "failed" if failed else "down"
            self._directory.update_shard(self._workers.index(child), owner_pid=0, state=state)
        if self._signals:
            return
        for report in reports or []:
            if "error" in report and not self._serving and not child.was_ready:
                raise StartFailed(report["error"])
        delay = restart_delay_s(series, served)
        child.restart_at = now + delay
        fields = {
            "role": child.role,
            "pid": pid,
            "exit": code,
            "deaths": series,
            "restart_in_s": delay,
        }
        if failed:
            self._log.error("child dies at every start", **fields)
        else:
            self._log.warning("child died, starting it again", **fields)

    def _on_planned_death(self, child: Child) -> None:
        """It was asked to end: its successor starts at once, and nothing is counted against it."""
        if child is self._hub:
            self._directory.update(hub_pid=0)
        elif child in self._workers:
            self._directory.update_shard(self._workers.index(child), owner_pid=0, state="down")
        if not self._signals:
            child.restart_at = time.monotonic()

    def _kill_all(self) -> None:
        self._signals = max(self._signals, 1)
        for child in self._children:
            child.restart_at = None
            if child.pid:
                child.signal(signal.SIGKILL)
                child.reap()

    def _await_keeper(self) -> None:
        """A keeper that is just being started again has to take up the logs before it is told to end: what it did not read is not on the disk."""
        keeper = self._keeper
        if keeper is None or not self._serving:
            return
        if not keeper.pid:
            self._start(keeper)
        until = time.monotonic() + READERS_STOP_S_MAX
        while keeper.pid and not keeper.ready and time.monotonic() < until and self._signals < 2:
            self._step(until - time.monotonic())

    def _stop(self) -> int:
        self._directory.update(state="stopping")
        self._log.info("stopping")
        # The hub and the keeper last: they read what happens to the keys until then.
        readers = [child for child in (self._hub, self._keeper) if child]
        others = [child for child in self._children if child not in self._workers and child not in readers]
        self._await_keeper()
        groups = ((others, ROUTER_STOP_S_MAX), (self._workers, WORKER_STOP_S_MAX), (readers, READERS_STOP_S_MAX))
        for group, patience_s in groups:
            for child in group:
                child.restart_at = None
                self._end(child, False)
            until = time.monotonic() + patience_s
            while any(child.pid for child in group) and time.monotonic() < until and self._signals < 2:
                self._step(until - time.monotonic())
        if self._signals > 1:
            self._log.warning("stop forced by a second signal")
        overdue = [child.role for child in self._children if child.pid]
        if overdue:
            self._log.warning("children killed", roles=overdue)
        self._kill_all()
        return exit_codes.FORCED if self._signals > 1 else exit_codes.STOPPED
