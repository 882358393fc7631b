"""The relay process: what `shmcache.replication.relay` decides, carried out with sockets. `python -m shmcache.server.relay SETTINGS`.

    admin    ROUTER at ipc://   operators on this host: status and changes of role
    peers    ROUTER at tcp://   other instances: greetings, gaps, copies, acknowledgements
    log      PUB at tcp://      the published logs
    workers  DEALER per shard   records to apply, roles
    bell     rung by workers after a write while the relay sleeps
"""

import os
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import zmq

from .. import _engine
from ..errors import ConfigError, InstanceNotFound, ProtocolError, ResponseError, ShmcacheError
from ..limits import (
    CHANNEL_UPSTREAMS_MAX,
    COPIED_FRAME_BYTES_MAX,
    PUBLISH_QUEUE_FRAMES,
    RELAY_POLL_MS,
)
from ..protocol import codec, frames
from ..protocol.directory import Directory
from ..protocol.doorbell import Doorbell, Ringer
from ..protocol.replication import ReplicationRegion
from ..protocol.security import Security
from ..replication.applying import Applier, ApplyFailed
from ..replication.frames import seal, unseal
from ..replication.relay import Relay
from ..replication.shipping import OwnLogs, Publisher
from . import exit_codes
from .child import StopFlag, report, start_child
from .libraries import LibrariesFile, Watched
from .logs import configure_logs, logger
from .paths import bell_path, remove_socket
from .relay_calls import RelayCalls
from .relay_wires import SocketWires, read_reply
from .selecting import Selector
from .sockets import keep_alive, limit_router, listen

_START_S_MAX: Final = 60.0


class RelayProcess:
    """The sockets of one relay, and its loop. It is the `Host` of the relay's decisions."""

    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._settings, self._log = settings, log
        self._directory = Directory.open(settings["instance"])
        self.context = zmq.Context(io_threads=1)
        self.security = Security.from_settings(settings, log)
        self.selector = Selector()
        self._admin, self._peers = self._router(), self._router()
        keep_alive(self._peers)
        self._peers.router_handover = 1
        self._log_socket = self.context.socket(zmq.PUB)
        self._log_socket.sndhwm = PUBLISH_QUEUE_FRAMES
        self._log_socket.linger = 0
        self._workers: dict[int, zmq.Socket[bytes]] = {}
        self._once: dict[zmq.Socket[bytes], str] = {}
        self._wires: list[SocketWires] = []
        self._numbers = count(1)
        self._ringer = Ringer()
        self._bell = Doorbell(bell_path(settings["folder"], settings["instance"], "relay"), settings["gid"])
        self._worker_bells: list[str] = []
        self._version = -1
        self._hub: tuple[str, int] = ("", 0)
        self._hub_socket: zmq.Socket[bytes] | None = None
        self._told_hub: Any = None

    def _router(self) -> "zmq.Socket[bytes]":
        socket = self.context.socket(zmq.ROUTER)
        limit_router(socket, self._settings["message_bytes"])
        return socket

    def bind(self) -> tuple[str, str]:
        """Listen; returns the endpoints for other instances (empty without a tcp address). Raises zmq.ZMQError."""
        listen(self._admin, self._settings["endpoint"], self._settings["gid"])
        address = self._settings["relay_listen"]
        if not address:
            return "", ""
        host, _, port = address.rpartition(":")
        following = self._settings.get("log_listen") or (f"{host}:{int(port) + 1}" if int(port) else f"{host}:*")
        endpoints = []
        for socket, endpoint in ((self._peers, address if int(port) else f"{host}:*"), (self._log_socket, following)):
            self.security.server(socket, endpoint)
            endpoints.append(listen(socket, endpoint, -1))
        return endpoints[0], endpoints[1]

    def start(self, stop: StopFlag) -> Relay | None:
        """Wait for the workers, then map their regions and take up the role. None if a stop was asked for meanwhile."""
        until = time.monotonic() + _START_S_MAX
        while not stop.set:
            snapshot = self._directory.snapshot()
            if snapshot.router_endpoints and all(r.state == "serving" and r.endpoints for r in snapshot.shards):
                break
            if time.monotonic() > until:
                raise InstanceNotFound("not all workers and the router have come up")
            time.sleep(0.01)
        else:
            return None
        settings = self._settings
        settings["announce"] = settings["announce"] or named_host(snapshot.router_endpoints)
        region = ReplicationRegion.take(settings["instance"], len(snapshot.shards), gid=settings["gid"])
        folder, name = settings["folder"], settings["instance"]
        self._worker_bells = [str(bell_path(folder, name, f"w{shard}")) for shard in range(len(snapshot.shards))]
        logs = OwnLogs(snapshot)
        publisher = Publisher(logs, self._publish, compress=settings["compress"])
        applier = Applier(snapshot, self._to_worker, own_node=settings["node"])
        libraries = Watched(LibrariesFile(folder, name, settings["gid"]))
        self.relay = Relay(snapshot, region, logs, publisher, applier, self, libraries, settings, self._log)
        self._calls = RelayCalls(self.relay, self._directory, self._ring_workers)
        for socket in (self._admin, self._peers):
            self.selector.add(socket, lambda message, socket=socket: self._on_call(socket, message))
        self.selector.add_bell(self._bell.fileno(), self._bell.silence)
        self._follow_directory()
        return self.relay

    def unwatch(self, socket: Any) -> None:
        """Close a socket of `selector`."""
        self.selector.remove(socket)
        socket.close(linger=0)

    # --- the loop -----------------------------------------------------------------------------------
    def run(self, stop: StopFlag) -> None:
        """Serve until `stop` is set."""
        relay, publisher = self.relay, self.relay.publisher
        while not stop.set:
            now = time.monotonic()
            identity = relay.identity
            more = publisher.step(identity.history, identity.epoch, now)
            if self._directory.version != self._version:
                self._follow_directory()
            relay.tick(now)
            self._tell_hub()
            self.selector.run(0 if more or not publisher.may_sleep() else RELAY_POLL_MS)
            for link in relay.links.values():
                link.flush()
        relay.save()

    def close(self) -> None:
        """Stop listening."""
        self.selector.close()
        self._bell.close()
        self._ringer.close()
        self.security.close()
        self.context.destroy(linger=200)
        remove_socket(self._settings["endpoint"])

    # --- out ----------------------------------------------------------------------------------------
    def _publish(self, message: list[bytes]) -> None:
        # For a small frame, telling Python when ZeroMQ is done with it costs more than a copy.
        self._log_socket.send_multipart(message, copy=len(message[-1]) < COPIED_FRAME_BYTES_MAX)

    def _to_worker(self, shard: int, message: list[bytes]) -> None:
        try:
            self._workers[shard].send_multipart(message, zmq.NOBLOCK)
            self.selector.used(self._workers[shard])
        except (zmq.Again, KeyError):
            # The applier gives it to the next worker.
            self._log.warning("a worker does not take records", shard=shard)

    def _ring_workers(self, shards: list[int]) -> None:
        for shard in shards:
            self._ringer.ring(self._worker_bells[shard])

    def wires(self, address: str) -> SocketWires:
        wires = SocketWires(self, address, lambda: self.relay.links.get(address), self._on_upstream_request)
        self._wires.append(wires)
        return wires

    def drop_wires(self) -> None:
        for wires in self._wires:
            wires.close()
        self._wires.clear()

    def ask_once(self, endpoint: str, call: str, arguments: dict[str, Any]) -> None:
        # One at a time: what the one before has not brought by now, it will not bring.
        for old in list(self._once):
            del self._once[old]
            self.unwatch(old)
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        try:
            self.security.client(socket, endpoint)
        except ConfigError as error:
            self._log.error("no keys for another instance", endpoint=endpoint, reason=str(error))
            socket.close()
            return
        socket.connect(endpoint)
        message = [frames.pack_header(flags=frames.CONTROL, request_id=next(self._numbers)), codec.encode_control(call, arguments)]
        # "replication" goes to a router, which seals nothing.
        is_sealed = call != "replication"
        socket.send_multipart(seal(message) if is_sealed else message)
        self._once[socket] = call
        self.selector.add(socket, lambda message: self._on_once(socket, message, is_sealed))

    def _on_once(self, socket: Any, message: list[bytes], is_sealed: bool) -> None:
        inner = unseal(message) if is_sealed else message
        if inner is None:
            return self._log.debug("a damaged answer was dropped")
        call = self._once.pop(socket, "")
        self.unwatch(socket)
        self.relay.answered(call, read_reply(inner))

    def request(self, route: list[bytes], call: str, arguments: dict[str, Any]) -> None:
        head = frames.pack_header(flags=frames.CONTROL, request_id=next(self._numbers))
        self._reply(self._peers, seal([*route, head, codec.encode_control(call, arguments)]))

    def _reply(self, socket: Any, message: list[bytes]) -> None:
        try:
            socket.send_multipart(message, zmq.NOBLOCK)
            self.selector.used(socket)
        except zmq.ZMQError as error:
            self._log.debug("reply dropped", reason=error.strerror)

    # --- in -----------------------------------------------------------------------------------------
    def _follow_directory(self) -> None:
        self._version = self._directory.version
        snapshot = self._directory.snapshot()
        self._hub = (snapshot.hub_endpoints[0] if snapshot.hub_endpoints else "", snapshot.hub_generation)
        for shard in self.relay.applier.update(snapshot):
            if shard in self._workers:
                self.unwatch(self._workers.pop(shard))
            endpoints = snapshot.shards[shard].endpoints
            if snapshot.shards[shard].state == "serving" and endpoints:
                socket = self.context.socket(zmq.DEALER)
                limit_router(socket, -1)
                socket.connect(endpoints[0])
                self._workers[shard] = socket
                self.selector.add(socket, lambda message, shard=shard: self._on_worker(shard, message))
                self.relay.applier.resend(shard)

    def _tell_hub(self) -> None:
        """Channels go the way of the data: this instance's hub joins that of its primary, or of its peers."""
        endpoint, generation = self._hub
        upstreams = sorted(self.relay.links)
        wanted = (generation, upstreams)
        if not endpoint or wanted == self._told_hub or (self._told_hub is None and not upstreams):
            return
        self._told_hub = wanted
        if self._hub_socket is not None:
            self.unwatch(self._hub_socket)
        socket = self._hub_socket = self.context.socket(zmq.DEALER)
        socket.connect(endpoint)
        head = frames.pack_header(flags=frames.CONTROL, request_id=next(self._numbers))
        socket.send_multipart([head, codec.encode_control("upstream", {"endpoints": upstreams[:CHANNEL_UPSTREAMS_MAX]})])
        self.selector.add(socket, lambda message: self._log.info("channels joined", upstream=upstreams, answer=str(read_reply(message))[:200]))

    def _on_worker(self, shard: int, message: list[bytes]) -> None:
        try:
            self.relay.applier.answer(shard, message)
        except ApplyFailed as failure:
            self._log.error("records cannot be applied", shard=failure.shard, reason=failure.reason)
            self.relay.applier.forget()
            for link in self.relay.links.values():
                link.fail(f"shard {failure.shard} cannot apply: {failure.reason}")

    def _on_upstream_request(self, call: str, arguments: dict[str, Any], answer: Any) -> None:
        """An upstream asks something of this replica, over the link's own connection."""
        if call == "promote":
            self.relay.promote(int(arguments["epoch"]), fence=True)
            answer("promoted", {"replica": self.relay.identity.replica_id, "epoch": self.relay.identity.epoch})

    def _on_call(self, socket: Any, message: list[bytes]) -> None:
        # The other relays' calls come sealed, those of operators' tools do not.
        is_sealed = socket is self._peers and len(message) == 4
        inner = unseal(message) if is_sealed else message
        if inner is None or len(inner) < 3:
            return self._log.debug("a damaged call was dropped")
        self._carry_out(socket, inner, seal if is_sealed else list)

    def _carry_out(self, socket: Any, message: list[bytes], finished: Callable[[list[bytes]], list[bytes]]) -> None:
        route = message[:-2]

        def send(head: bytes, payload: bytes) -> None:
            self._reply(socket, finished([*route, head, payload]))

        try:
            header = frames.unpack_header(message[-2])
        except ProtocolError as error:
            return send(frames.pack_header(frames.ERROR), codec.encode_error("PROTOCOL", str(error)))

        def reply(result: Any) -> None:
            if isinstance(result, Exception):
                code = result.code if isinstance(result, ResponseError) else "ERR"
                text = result.message if isinstance(result, ResponseError) else str(result)
                head = frames.pack_header(frames.ERROR, request_id=header.request_id)
                return send(head, codec.encode_error(code, text))
            send(frames.pack_header(request_id=header.request_id), codec.encode_results([result]))

        try:
            if not header.flags & frames.CONTROL:
                raise ProtocolError("a relay answers control calls only")
            call, arguments = codec.decode_control(message[-1])
            result = self._calls.carry_out(call, arguments, route, reply, trusted=socket is self._admin)
        except _engine.Busy as error:
            # Nothing was done: whoever asks again is answered.
            return reply(ResponseError("BUSY", str(error)))
        except (ShmcacheError, _engine.EngineError) as error:
            return reply(error)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            return reply(ResponseError("PROTOCOL", f"the arguments of the call are not as documented: {error!r}"))
        if result is not None:
            reply(result)


def named_host(endpoints: tuple[str, ...]) -> str:
    """The first tcp address that others can use as it stands."""
    tcp = [endpoint for endpoint in endpoints if endpoint.startswith("tcp://")]
    return next((endpoint for endpoint in tcp if not endpoint.startswith(("tcp://0.0.0.0:", "tcp://[::]:"))), "")


def main() -> int:
    """Relay until SIGTERM; returns the exit code."""
    settings, stop = start_child()
    configure_logs(settings["log_level"], settings["log_format"])
    log = logger(process="relay", instance=settings["instance"], pid=os.getpid())
    process = RelayProcess(settings, log)
    try:
        endpoints = process.bind()
        relay = process.start(stop)
    except (zmq.ZMQError, ShmcacheError, _engine.EngineError, OSError) as error:
        report(settings, error=f"relay: {error}", kind=type(error).__name__)
        return exit_codes.START_FAILED
    if relay is not None:
        relay.begin(endpoints, lambda: report(settings, ready=True, endpoints=list(endpoints)))
        process.run(stop)
    process.close()
    return exit_codes.STOPPED


if __name__ == "__main__":
    sys.exit(main())
