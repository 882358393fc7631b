"""Control calls to the other processes of the instance, and requests to its supervisor."""

import asyncio
from pathlib import Path
from typing import Any

from ...client.exchange import Deadline, Request, Target, exchange
from ...errors import CommandFailed, ConfigError, InstanceNotFound, ShmcacheError
from ...limits import RESP_TIMEOUT_S
from ...protocol import frames
from ...protocol.clocks import RemoteClock
from ...protocol.codec import decode_results, encode_control
from ..paths import ipc_endpoint
from ..requests import ask_supervisor


class _ProcessRoute:
    """One process of this host, at its own socket."""

    epoch = 0
    sees_workers = True

    def __init__(self, endpoint: str, where: str) -> None:
        self.where = where
        self.clock = RemoteClock()
        self._target = Target(endpoint, (0, 0))

    def target(self, slot: int, flags: int = 0) -> Target:
        return self._target

    def replaced(self, target: Target, slot: int, flags: int = 0) -> bool:
        return False

    def arrived(self, slot: int, stamp: int) -> bool:
        return True

    def forget(self) -> None:
        """There is nowhere else to look."""

    def wrote(self, *, forwarded: bool) -> None:
        """Control calls write nothing."""


def _result(request: Request) -> Any:
    if not isinstance(request.outcome, bytes):
        assert request.outcome is not None
        raise request.outcome
    result = decode_results(request.outcome)[0]
    if isinstance(result, ShmcacheError):
        raise result
    return result


async def call_process(gateway: Any, part: str, call: str, timeout: float = RESP_TIMEOUT_S, **arguments: Any) -> Any:
    """Result of a control call to the relay or keeper. Raises ShmcacheError."""
    endpoint = ipc_endpoint(Path(gateway.settings["folder"]), gateway.instance, part)
    if not Path(endpoint.removeprefix("ipc://")).exists():
        raise CommandFailed("ERR", f"this instance has no {part}")
    request = Request(0, 0, frames.CONTROL, encode_control(call, arguments))
    await gateway.lanes.run(exchange(_ProcessRoute(endpoint, f"the {part}"), [request], Deadline.after(timeout)))
    return _result(request)


async def call_workers(gateway: Any, call: str, per_shard: list[dict[str, Any]] | None = None, **arguments: Any) -> list[Any]:
    """Results of a control call to every worker. Raises ShmcacheError."""
    gateway.attachment()
    route = gateway.route
    requests = [
        Request(shard, slot, frames.CONTROL, encode_control(call, per_shard[shard] if per_shard else arguments))
        for shard, slot in enumerate(route.slots.slot_of)
    ]
    await gateway.lanes.run(exchange(route, requests, Deadline.after(RESP_TIMEOUT_S)))
    return [_result(request) for request in requests]


async def call_supervisor(gateway: Any, call: str, **arguments: Any) -> dict[str, Any]:
    """The supervisor's answer. Raises CommandFailed."""
    folder, instance = gateway.settings["folder"], gateway.instance
    try:
        return await asyncio.to_thread(ask_supervisor, folder, instance, call, **arguments)
    except (ConfigError, InstanceNotFound) as error:
        raise CommandFailed("ERR", str(error)) from None
