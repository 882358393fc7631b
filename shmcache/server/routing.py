"""What the router decides: where a request goes, what waits, what is refused. No sockets here."""

import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import ProtocolError, ShmcacheError
from ..limits import ROUTER_BACKLOG_BYTES_MAX
from ..protocol import codec, frames
from ..protocol.clocks import now_us
from ..protocol.directory import SLOTS, DirectorySnapshot
from .replicating import CALLS as RELAY_CALLS
from .stats import router_stats
from .topology import relay_addresses, topology
from .upstream_clock import UpstreamClock

Message = list[bytes]
Key = tuple[bytes, int]
"""Route and request id of a request: its identity as long as it is outstanding."""


@dataclass(slots=True)
class Lane:
    """One shard as the router sees it."""

    generation: int = 0
    up: bool = False
    draining: bool = False
    """Its worker still answers what it was sent, and takes nothing new."""
    pending: set[Key] = field(default_factory=set)
    backlog: deque[tuple[float, Message, frames.Header]] = field(default_factory=deque)
    """What waits for a worker to come: with the monotonic time at which it is refused."""
    backlog_bytes: int = 0


class Routing:
    """State and decisions of the router."""

    def __init__(
        self,
        snapshot: DirectorySnapshot,
        settings: dict[str, Any],
        send_reply: Callable[[Message], None],
        forward: Callable[[int, Message], bool],
        connections: Callable[[], dict[str, int]] = dict,
        clock: Callable[[], float] = time.monotonic,
        forward_shards: Callable[[], int] = int,
    ) -> None:
        """`forward_shards`: how many shards the primary has that writes are forwarded to; 0: not known."""
        self._snapshot = snapshot
        self._shard_of = struct.unpack(f"<{SLOTS}H", snapshot.slots)
        # One more than shards: the last one leads to the primary that a replica forwards writes to.
        self._lanes = [Lane() for _ in range(len(snapshot.shards) + 1)]
        self.upstream = len(snapshot.shards)
        self._forwards = False
        self._upstream_clock = UpstreamClock()
        self._per_client_max: int = settings["outstanding_per_client"]
        self._per_shard_max: int = settings["outstanding_per_shard"]
        self._wait_s: float = settings["unavailable_wait_ms"] / 1000
        self._send_reply, self._forward, self._clock = send_reply, forward, clock
        self._connections = connections
        self._forward_shards = forward_shards
        self._per_client: Counter[bytes] = Counter()
        self._late: list[tuple[Message, frames.Header]] = []
        self._late_bytes = 0
        self._is_closing = False
        self._counts: Counter[str] = Counter()

    @property
    def outstanding(self) -> int:
        """Requests that have no answer yet."""
        return self._per_client.total()

    @property
    def forwarded(self) -> int:
        """Those of them that a worker, or the primary, has."""
        return sum(len(lane.pending) for lane in self._lanes)

    def update(self, snapshot: DirectorySnapshot) -> Iterator[tuple[int, str | None]]:
        """Take note of a changed directory; yields (shard, endpoint or None) of every worker that came or
        went.
        """
        self._snapshot = snapshot
        self._shard_of = struct.unpack(f"<{SLOTS}H", snapshot.slots)
        for lane, record in zip(self._lanes[:-1], snapshot.shards, strict=True):
            if record.state == "draining" and lane.up and record.generation == lane.generation:
                lane.up, lane.draining = False, True
            if record.state == "draining" and lane.draining:
                continue
            up = record.state == "serving"
            if (up, record.generation) == (lane.up, lane.generation) and not lane.draining:
                continue
            lane.draining = False
            # Whether a request that had been forwarded was executed, nobody knows: its client
            # decides what that means.
            for key in lane.pending:
                self._settle(key)
            lane.pending.clear()
            lane.up, lane.generation = up, record.generation
            yield record.shard, record.endpoints[0] if up else None

    def set_forwarding(self, forwards: bool) -> None:
        """Whether writes go to the primary; the process has opened or closed the way there. They wait until `ask_clock` is answered."""
        lane = self._lanes[self.upstream]
        for key in lane.pending:
            self._settle(key)
        lane.pending.clear()
        self._forwards = forwards
        # What waits for the primary's clock waits as for a worker.
        lane.up = False
        self._upstream_clock = UpstreamClock()
        if not forwards:
            self.expire(everything=True)

    def ask_clock(self) -> None:
        """Ask the primary for its clock if it is time to; to be called often."""
        if self._forwards:
            question = self._upstream_clock.question(now_us())
            if question is not None:
                # One that is lost is asked again.
                self._forward(self.upstream, question)

    def flush(self, shard: int) -> None:
        """Forward what has waited for the shard's worker."""
        lane = self._lanes[shard]
        waiting, lane.backlog, lane.backlog_bytes = lane.backlog, deque(), 0
        for _, message, header in waiting:
            self._dispatch(shard, message, header)

    def request(self, message: Message) -> None:
        """Handle one message from a client."""
        self._counts["requests"] += 1
        if len(message) < 3:
            return self._refuse(message[:1], None, "PROTOCOL", "a message is [header][payload]")
        try:
            header = frames.unpack_header(message[-2])
        except ProtocolError as error:
            return self._refuse(message[:-2], None, "PROTOCOL", str(error))
        if header.flags & frames.CONTROL and self._control(message, header):
            return None
        if header.deadline_us and not header.flags & frames.HOST_CLOCK:
            header = frames.to_host_clock(header)
            message[-2] = frames.pack_header(*header)
        if self._is_closing:
            return self._put_aside(message, header)
        shard = self._shard_of[header.slot]
        if self._forwards and not header.flags & (frames.READ_ONLY | frames.CONTROL):
            shard = self.upstream
        client = message[0]
        if self._per_client[client] >= self._per_client_max:
            text = f"{self._per_client_max} requests of this client are outstanding (outstanding_per_client)"
            return self._refuse(message[:-2], header, "LIMIT", text)
        lane = self._lanes[shard]
        if len(lane.pending) + len(lane.backlog) >= self._per_shard_max:
            text = f"{self._per_shard_max} requests for shard {shard} are outstanding (outstanding_per_shard)"
            return self._refuse(message[:-2], header, "LIMIT", text)
        self._per_client[client] += 1
        self._dispatch(shard, message, header)
        return None

    def reply(self, message: Message) -> None:
        """Handle one message from a worker, or from the primary."""
        if message[0] == self._upstream_clock.route:
            self._upstream_clock.answer(message, now_us())
            lane = self._lanes[self.upstream]
            if self._upstream_clock.is_known and not lane.up:
                lane.up = True
                self.flush(self.upstream)
        elif len(message) >= 3:
            key = (message[0], frames.request_id_of(message[-2]))
            for lane in self._lanes:
                if key in lane.pending:
                    lane.pending.discard(key)
                    self._settle(key)
                    if lane is self._lanes[self.upstream]:
                        message[-2] = frames.as_forwarded(message[-2])
                    break
            self._counts["replies"] += 1
            self._send_reply(message)

    # --- the end ------------------------------------------------------------------------------------
    def begin_close(self) -> None:
        """From now on nothing is forwarded; what was is still answered."""
        self._is_closing = True

    def _put_aside(self, message: Message, header: frames.Header) -> None:
        """Kept until `close`: a client that were refused now would be back before this router has gone, and what it sent then lost."""
        if self._late_bytes + len(message[-1]) > ROUTER_BACKLOG_BYTES_MAX:
            return self._refuse(message[:-2], header, "UNAVAILABLE", "the router is about to end; not executed")
        self._late_bytes += len(message[-1])
        self._late.append((message, header))

    def close(self) -> None:
        """Refuse all that was not forwarded, for the clients to try again at the next router."""
        for lane in self._lanes:
            self._late += [(message, header) for _, message, header in lane.backlog]
            lane.backlog, lane.backlog_bytes = deque(), 0
        late, self._late, self._late_bytes = self._late, [], 0
        for message, header in late:
            self._refuse(message[:-2], header, "UNAVAILABLE", "the router ended; not executed")

    def expire(self, everything: bool = False) -> None:
        """Refuse what has waited too long for a worker that does not come; or all that waits for the primary."""
        now = self._clock()
        for shard, lane in enumerate(self._lanes):
            while lane.backlog and (lane.backlog[0][0] <= now or (everything and shard == self.upstream)):
                _, message, header = lane.backlog.popleft()
                lane.backlog_bytes -= len(message[-1])
                self._unavailable(shard, message, header)

    def _dispatch(self, shard: int, message: Message, header: frames.Header) -> None:
        lane = self._lanes[shard]
        if lane.up:
            key = (message[0], header.request_id)
            if key in lane.pending:
                # A client that asks again under the same id: one of the two counts.
                self._settle(key)
            if shard == self.upstream:
                message[-2] = frames.pack_header(*self._upstream_clock.translated(header))
            if self._forward(shard, message):
                lane.pending.add(key)
            else:
                lane.pending.discard(key)
                self._unavailable(shard, message, header)
        elif lane.backlog_bytes + len(message[-1]) > ROUTER_BACKLOG_BYTES_MAX:
            self._unavailable(shard, message, header)
        else:
            lane.backlog.append((self._clock() + self._wait_s, message, header))
            lane.backlog_bytes += len(message[-1])

    def _unavailable(self, shard: int, message: Message, header: frames.Header) -> None:
        self._settle((message[0], header.request_id))
        self._refuse(
            message[:-2], header, "UNAVAILABLE", f"shard {shard} has no worker at present; not executed"
        )

    def _settle(self, key: Key) -> None:
        self._per_client[key[0]] -= 1
        if self._per_client[key[0]] <= 0:
            del self._per_client[key[0]]

    def _control(self, message: Message, header: frames.Header) -> bool:
        """Answer a control call that concerns the router; False if it is one for a worker."""
        try:
            call, arguments = codec.decode_control(message[-1])
        except ProtocolError as error:
            self._refuse(message[:-2], header, "PROTOCOL", str(error))
            return True
        result: Any
        if call == "topology":
            result = topology(self._snapshot, self._forward_shards() if self._forwards else 0)
        elif call == "clock":
            result = {"us": now_us()}
        elif call == "channels":
            result = {"endpoints": list(self._snapshot.hub_endpoints[2:4])}
        elif call == "stats" and arguments.get("router"):
            result = router_stats(self._figures())
        elif call == "replication":
            try:
                result = relay_addresses(self._snapshot.instance)
            except ShmcacheError as error:
                self._refuse(message[:-2], header, "ERR", str(error))
                return True
        elif call in RELAY_CALLS:
            self._refuse(message[:-2], header, "PROTOCOL", f"{call!r} is between the relay and its workers")
            return True
        else:
            return False
        answer = frames.pack_header(0, header.slot, self._snapshot.epoch, header.request_id, 0)
        self._send_reply([*message[:-2], answer, codec.encode_results([result])])
        return True

    def _figures(self) -> dict[str, Any]:
        return {
            "requests": self._counts["requests"],
            "replies": self._counts["replies"],
            "refused": self._counts["refused"],
            "outstanding": self.outstanding,
            "waiting": sum(len(lane.backlog) for lane in self._lanes),
            **self._connections(),
        }

    def _refuse(self, route: Message, header: frames.Header | None, code: str, text: str) -> None:
        self._counts["refused"] += 1
        slot, request_id = (header.slot, header.request_id) if header else (0, 0)
        answer = frames.pack_header(frames.ERROR, slot, self._snapshot.epoch, request_id, 0)
        self._send_reply([*route, answer, codec.encode_error(code, text)])
