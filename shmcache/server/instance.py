"""One server from the configuration to the exit code: what surrounds the supervisor's loop."""

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from .. import _engine
from ..config import Config, format_size
from ..errors import ConfigError, InstanceExists, NoSpace, ShmcacheError
from ..persistence.locking import hold_folder
from ..protocol.directory import DirectoryWriter, new_snapshot
from ..protocol.security import Security, security_settings
from . import exit_codes
from .children import Child
from .libraries import LibrariesFile
from .logs import configure_logs, logger
from .paths import group_id, prepare_runtime_dir, runtime_dir
from .plan import (
    Plan,
    gateway_settings,
    hub_settings,
    keeper_settings,
    make_plan,
    metrics_settings,
    needs_relay,
    relay_settings,
    router_settings,
    worker_settings,
)
from .porting import addresses, begin_port, end_port, forget_users
from .regions import (
    SHM,
    check_space,
    had_relay,
    list_objects,
    needed_bytes,
    remove_regions,
)
from .requests import requests_path
from .restoring import (
    begin_as_replica,
    find_data,
    restore_libraries,
    take_region,
)
from .supervisor import Supervisor


def run(config: Config) -> int:
    """Run an instance in the foreground until SIGTERM or SIGINT; returns one of `exit_codes`.

    Prints one line on stdout when ready; what keeps it from starting is one line on stderr.
    """
    configure_logs(config.log.log_level, config.log.log_format)
    try:
        return _run(config)
    except ConfigError as error:
        return _complain(error, exit_codes.BAD_CONFIG)
    except InstanceExists as error:
        return _complain(error, exit_codes.INSTANCE_EXISTS)
    except (ShmcacheError, OSError) as error:
        return _complain(error, exit_codes.START_FAILED)


def _complain(error: Exception, code: int) -> int:
    print(f"shmcache: {error}", file=sys.stderr)
    return code


def _run(config: Config) -> int:
    started = time.monotonic()
    gid = group_id(config.instance.group)
    folder = runtime_dir(config.instance.runtime_dir)
    # Later starts have larger epochs, so that remote clients see that the slot table may be another one.
    plan = make_plan(config, os.sched_getaffinity(0), folder, gid, epoch=int(time.time()))
    Security(**security_settings(config)).check(
        [*config.network.listen, *([config.replication.relay_listen] if config.replication.relay_listen else [])],
        [*config.replication.peers, *([config.replication.replica_of] if config.replication.replica_of else [])],
    )
    router = Child("router", "shmcache.server.router", router_settings(config, plan))
    relay = Child("relay", "shmcache.server.relay", relay_settings(config, plan))
    hub = None
    if config.channels.channels or config.resp.resp or config.resp.resp_tls:
        # Redis clients expect that they can subscribe.
        hub = Child("hub", "shmcache.server.hub", hub_settings(config, plan))
    kept = keeper_settings(config, plan)
    keeper = Child("keeper", "shmcache.server.keeper", kept) if kept else None
    measured = metrics_settings(config, plan)
    metrics = Child("metrics", "shmcache.server.metrics", measured) if measured else None
    ported = gateway_settings(config, plan)
    gateways = [Child(f"gateway {item['number']}", "shmcache.server.gateway", item) for item in ported]
    settings = [worker_settings(config, plan, shard, create=True) for shard in range(plan.workers)]
    prepare_runtime_dir(folder, gid)
    log = logger(process="supervisor", instance=plan.instance, pid=os.getpid())
    try:
        directory = DirectoryWriter.create(
            new_snapshot(plan.instance, plan.workers, plan.epoch), mode=0o640 if gid >= 0 else 0o600, gid=gid
        )
    except OSError as error:
        raise NoSpace(
            f"cannot create the directory of {plan.instance!r} in /dev/shm: {error.strerror}"
        ) from None
    held = -1
    ports: list[socket.socket] = []
    try:
        if gateways:
            ports = begin_port(config, plan, ported, log)
        if config.persistence.data_dir:
            held = hold_folder(Path(config.persistence.data_dir), f"instance {plan.instance}")
        found = find_data(config, plan, log)
        _check_space(config, plan, log)
        restore_libraries(config, plan, found, log)
        take_region(config, plan, found)
        warm = found.warm
        for item in settings:
            item["restore"] = found.settings()
            if found.begins_as_replica(config):
                item["replica_of"] = config.replication.replica_of
        for shard in warm:
            settings[shard]["create"] = False
        workers = [Child(f"worker {item['shard']}", "shmcache.server.worker", item) for item in settings]

        def announce(keys: int) -> None:
            endpoints = [e for e in directory.current.router_endpoints if e.startswith("tcp:")]
            print(
                f"shmcache {plan.instance!r} is ready: {plan.workers} worker(s), "
                f"{format_size(config.memory.memory)}, "
                f"{found.text(keys)}, "
                f"{', '.join(endpoints) or 'this host only'}, "
                + (f"metrics at http://{_metrics_address(metrics)}/metrics, " if metrics else "")
                + addresses(ported)
                + f"pid {os.getpid()}, "
                f"started in {time.monotonic() - started:.2f} s",
                flush=True,
            )

        asked_for = relay if needs_relay(config) or had_relay(plan.instance, bool(warm)) else None
        begin_as_replica(config, plan, found)
        supervisor = Supervisor(
            directory,
            workers,
            router,
            asked_for,
            {"relay": relay},
            (requests_path(folder, plan.instance), plan.gid),
            log,
            announce,
            hub,
            keeper,
            metrics,
            workers_first=bool(warm),
            gateways=gateways,
        )
        try:
            code = supervisor.run()
        finally:
            supervisor.close()
        _leave(config, plan, log)
        return code
    except BaseException:
        # A start that failed must not leave half-made regions; those of an earlier run are kept.
        if config.instance.ephemeral:
            remove_regions(plan.instance)
        raise
    finally:
        with contextlib.suppress(OSError):
            directory.retire()
        directory.close()
        end_port(ports)
        if ports:
            forget_users(plan)
        if held >= 0:
            os.close(held)


def _metrics_address(metrics: Child) -> str:
    """With the port in force."""
    return f"{metrics.settings['listen'].rpartition(':')[0]}:{metrics.settings['port']}"


def _check_space(config: Config, plan: Plan, log: Any) -> None:
    """Say what is to be expected of this host's memory. Raises NoSpace."""
    space = os.statvfs(SHM)
    own = sum(item.allocated_bytes for item in list_objects(plan.instance))
    warning = check_space(
        needed_bytes(config.memory.memory, config.memory.log_size, plan.workers),
        space.f_blocks * space.f_frsize,
        space.f_bavail * space.f_frsize + own,
    )
    if warning:
        log.warning("little space in /dev/shm", detail=warning)
    if _engine.DEBUG_BUILD:
        log.warning("this is a debug build of the engine: slow")


def _leave(config: Config, plan: Plan, log: Any) -> None:
    """After the stop: keep the regions for a warm start, or remove them."""
    if config.instance.ephemeral:
        LibrariesFile(plan.folder, plan.instance, plan.gid).remove()
        log.info("stopped, regions removed", freed_bytes=remove_regions(plan.instance))
        return
    kept = sum(item.allocated_bytes for item in list_objects(plan.instance))
    log.info("stopped, regions stay in /dev/shm for a warm start", kept_bytes=kept, kept=format_size(kept))
