"""The relay: everything that one instance has to do with others. Decides; `shmcache.server.relay` has the sockets.

Roles change here: a replica follows one upstream by a `Link`; a primary follows nobody; two-way peers are primaries that have a link to each
other. Every relay publishes its own logs, whatever its role, so replicas can be chained.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from shmcache.errors import ConfigError, ResponseError
from shmcache.limits import IDENTITY_SAVE_MS, PEERS_MAX, REVIEW_MS, SWITCHOVER_S_MAX
from shmcache.protocol.directory import DirectorySnapshot
from shmcache.protocol.names import check_address
from shmcache.protocol.replication import Fork, Identity, ReplicationRegion, Word, new_identity

from .acks import Acknowledgements
from .applying import Applier
from .fencing import Fencer
from .greeting import lost_writes
from .libraries import Libraries, Store
from .link import Link, Wires
from .lost import save_lost
from .shipping import Copy, OwnLogs, Publisher, fetch
from .switchover import Switchover
from .timeline import Timeline


class Host(Protocol):
    """What the relay needs of its process."""

    def wires(self, address: str) -> Wires: ...
    def ask_once(self, endpoint: str, call: str, arguments: dict[str, Any]) -> None:
        """The answer comes to `Relay.answered`."""

    def request(self, route: list[bytes], call: str, arguments: dict[str, Any]) -> None:
        """Ask a follower something, over the connection that it made."""

    def drop_wires(self) -> None:
        """Close every link's sockets."""


class Relay:
    """State and decisions of one instance's relay."""

    def __init__(
        self,
        snapshot: DirectorySnapshot,
        region: ReplicationRegion,
        logs: OwnLogs,
        publisher: Publisher,
        applier: Applier,
        host: Host,
        libraries: Store,
        settings: dict[str, Any],
        log: Any,
    ) -> None:
        self.snapshot, self.region, self.logs, self.publisher, self.applier = snapshot, region, logs, publisher, applier
        self._host, self._settings, self._log = host, settings, log
        identity = region.identity()
        assert identity is not None, "the region was taken"
        self.identity: Identity = identity
        self.acks = Acknowledgements(region, settings["replicas"], settings["lag_bytes_max"])
        self.links: dict[str, Link] = {}
        self.libraries = Libraries(libraries, log)
        self._copies: dict[tuple[str, int], Copy] = {}
        self._fencer: Fencer | None = None
        self._switchover: Switchover | None = None
        self._save_at = self._review_at = 0.0
        self._dirty = False
        self.lost_writes = 0
        self._timelines = [Timeline() for _ in range(logs.shards)]
        self.paused = False
        region.store(Word.FORWARD_WRITES, int(settings["forward_writes"]))

    # --- identity -----------------------------------------------------------------------------------
    def _change(self, **changes: Any) -> None:
        """Note who this instance is now; in the region before anything follows from it."""
        self.identity = replace(self.identity, **changes)
        self.region.store_identity(self.identity)
        self.region.store(Word.EPOCH, self.identity.epoch)
        self.region.store(Word.IS_REPLICA, int(self.identity.role == "replica"))

    def begin(self, endpoints: tuple[str, str], done: Callable[[], None]) -> None:
        """Take up the role; `done` is called when all workers have it."""
        configured = self._settings["replica_of"]
        self._change(relay_endpoint=endpoints[0], log_endpoint=endpoints[1])
        if configured != self.identity.configured:
            self._change(configured=configured, role="replica" if configured else "primary", upstream=configured)
        elif configured and self.identity.role == "primary":
            self._log.warning("it was promoted live and stays the primary", replica_of=configured, epoch=self.identity.epoch)
        if self.identity.role == "replica":
            self._follow(self.identity.upstream)
        for address in self._settings["peers"][:PEERS_MAX]:
            self._add_link(address, merge=True)
        if self.identity.fence:
            self._begin_fencing(self.identity.fence)
        self._tell_workers(done)

    def _tell_workers(self, done: Callable[[], None] = lambda: None) -> None:
        arguments = {
            "replica": self.identity.role == "replica",
            "primary": self.identity.upstream,
            "epoch": self.identity.epoch,
            "paused": self.paused,
        }
        self.applier.everywhere("role", arguments, done)

    # --- links --------------------------------------------------------------------------------------
    def _add_link(self, address: str, *, merge: bool) -> Link:
        hello = {"name": self.snapshot.instance, "router": self._settings["announce"], "node": self._settings["node"]}
        link = Link(
            address,
            self._host.wires(address),
            self.applier,
            lambda: self.identity,
            lambda name, fields: self._on_link(link, name, fields),
            hello,
            self.heads,
            merge=merge,
        )
        self.links[address] = link
        return link

    def heads(self) -> dict[int, int]:
        """The ends of the own logs."""
        return self.publisher.log_ends()

    def followers(self, now: float) -> list[dict[str, Any]]:
        """One row per follower, with what it lacks."""
        self._note_logs(now)
        return self.acks.table(self.heads(), now, lambda shard, position: self._timelines[shard].behind(position, now))

    def _note_logs(self, now: float) -> None:
        seqs = self.publisher.log_seqs()
        for shard, end in self.heads().items():
            self._timelines[shard].note(end, seqs[shard], now)

    def _follow(self, address: str) -> None:
        self._drop_links()
        self._add_link(address, merge=False)

    def _drop_links(self) -> None:
        self.links.clear()
        self._host.drop_wires()

    def _on_link(self, link: Link, name: str, fields: dict[str, Any]) -> None:
        if self.links.get(link.address) is not link:
            # Given up, but a worker still had something of it.
            return
        match name:
            case "welcome":
                welcome = fields["welcome"]
                self._log.info(
                    "following", upstream=link.address, upstream_name=welcome.instance, epoch=welcome.epoch, copying=fields["copying"]
                )
                if not link.merge:
                    self.region.clear_stamps()
                    self.region.store(Word.UPSTREAM_SHARDS, welcome.shards)
                    if welcome.fork is not None and not self._follows(welcome.history):
                        self._count_lost(link, welcome.fork)
                    followed = link.followed()
                    if followed is not None:
                        # Before anything is applied: from then on the own logs go on past the fork.
                        self._change(followed={link.address: followed})
                    if welcome.epoch != self.identity.epoch:
                        self._change(epoch=welcome.epoch)
                        self._tell_workers()
            case "copy" if not link.merge:
                self._log.info("full copy begins", upstream=link.address, shards=fields["shards"])
                # Whoever follows this instance must not take this in-between for a state of anything.
                self._change(syncing=True, followed={})
            case "copied":
                self._log.info("full copy of a shard is complete", upstream=link.address, **fields)
                if not link.is_copying:
                    self._copied(link)
            case "current":
                self._dirty = True
                for shard, state in enumerate(link.shards):
                    self.region.store_stamp(shard, state.applied_stamp)
            case "refused" | "down":
                if not link.merge:
                    # The next one that answers there may be another, with an older clock.
                    self.region.clear_stamps()
                self._log.warning(f"link {name}", upstream=link.address, **fields)
            case _:
                pass

    def _copied(self, link: Link) -> None:
        followed = link.followed()
        assert followed is not None
        if link.merge:
            self._change(followed=self.identity.followed | {link.address: followed})
            return
        # What the own logs hold no longer leads from their beginning to these data: another lineage.
        self._change(syncing=False, followed={link.address: followed}, history=new_identity().history, fork=None)

    def _follows(self, history: int) -> bool:
        """Whether it has had data of that history already: then what its own logs hold behind the fork is not its own."""
        return any(followed.history == history for followed in self.identity.followed.values())

    def _count_lost(self, link: Link, fork: Fork) -> None:
        """This instance was the primary before: what its successor never got is given up now, not in silence."""
        lost = lost_writes(fork, self.identity, self.heads())
        if not lost:
            return
        count, missed_bytes, path = save_lost(self.logs, lost, self._settings["lost_writes_folder"], self.snapshot.instance)
        self.lost_writes += count
        self._log.warning(
            "writes that were never replicated are dropped",
            upstream=link.address, records=count, beyond_ring_bytes=missed_bytes, saved_to=str(path) if path else "",
        )  # fmt: skip

    # --- changes of role ----------------------------------------------------------------------------
    def replicate(self, address: str) -> None:
        """Become a replica of `address`. Raises ConfigError."""
        check_address(address)
        if self._settings["peers"]:
            raise ConfigError("this instance has two-way peers: it cannot be a replica as well")
        if self.identity.role == "replica" and self.identity.upstream == address and self.links:
            return
        self._log.info("becoming a replica", upstream=address)
        self._fencer = None
        # Before the router forwards anything: they are of another upstream, and of other shards.
        self.region.clear_stamps()
        self._change(role="replica", upstream=address, fence="")
        self._follow(address)
        self._tell_workers()

    def promote(self, epoch: int | None = None, *, fence: bool = True) -> None:
        """Become the primary with a new epoch. What was received is applied first."""
        if self.identity.role == "primary":
            self._resume()
            return
        upstream = self.identity.upstream
        followed = self.identity.followed.get(upstream)
        fork = self.identity.fork
        for link in self.links.values():
            followed = link.followed() or followed
        if followed is not None:
            fork = Fork(followed.history, self.identity.epoch + 1, followed.positions, self.heads())
        if self.identity.syncing:
            self._log.warning("promoted in the middle of a full copy: the data are a mixture of old and new")
        self._drop_links()
        self._change(
            role="primary", upstream="", epoch=epoch or self.identity.epoch + 1, followed={}, fork=fork, syncing=False,
            fence=upstream if fence else "",
        )  # fmt: skip
        self._log.info("promoted", epoch=self.identity.epoch)
        self._tell_workers()
        if fence and upstream:
            self._begin_fencing(upstream)

    def _begin_fencing(self, address: str) -> None:
        def arguments() -> dict[str, Any]:
            return {"epoch": self.identity.epoch, "router": self._settings["announce"], "replica": self.identity.replica_id}

        self._fencer = Fencer(address, self._host.ask_once, arguments)

    def fenced(self, epoch: int, router: str) -> bool:
        """Another instance says that it has replaced this one. True if this one is no primary any more."""
        if epoch <= self.identity.epoch and self.identity.role == "primary":
            return False
        if self.identity.role == "primary":
            self._log.warning("replaced by another primary", primary=router, epoch=epoch)
            switchover, self._switchover = self._switchover, None
            self.paused = False
            if switchover is not None and switchover.target.router == router:
                # What it said itself was lost.
                switchover.reply({"primary": router, "epoch": epoch})
            if router:
                self.replicate(router)
            else:
                self._change(role="replica", upstream="")
                self._tell_workers()
        return True

    def answered(self, call: str, result: Any) -> None:
        """The answer to `ask_once`."""
        if self._fencer is not None:
            self._fencer.answer(call, result)
            if self._fencer.done:
                self._fencer = None
                self._change(fence="")

    # --- planned switch-over ------------------------------------------------------------------------
    def switchover(self, to: str, route: list[bytes], reply: Callable[[Any], None]) -> None:
        """Hand the role over to a follower, by its name, id or address. Raises ConfigError."""
        if self.identity.role != "primary":
            raise ConfigError("only a primary can hand its role over")
        found = [f for f in self.acks.followers.values() if to in (f.replica_id, f.name, f.router) and f.is_connected(time.monotonic())]
        if len(found) != 1:
            raise ConfigError(f"{len(found)} connected replicas are called {to!r}")
        if not found[0].router:
            raise ConfigError(f"{to!r} does not announce where it is reached: start it with --listen or --announce")
        self.paused = True
        self._switchover = Switchover(found[0], time.monotonic() + SWITCHOVER_S_MAX, reply)
        self._log.info("switch-over begins", to=found[0].name)
        self._tell_workers(self._switchover.writes_have_stopped)

    def _resume(self) -> None:
        if self.paused:
            self.paused, self._switchover = False, None
            self._tell_workers()

    def promoted(self, replica_id: str, epoch: int) -> None:
        """The follower that was asked has taken the role."""
        switchover = self._switchover
        if switchover is None or switchover.target.replica_id != replica_id:
            return
        self._switchover, self.paused = None, False
        self.replicate(switchover.target.router)
        switchover.reply({"primary": switchover.target.router, "epoch": epoch})

    def _drive_switchover(self, now: float) -> None:
        switchover = self._switchover
        if switchover is None:
            return
        if switchover.ready_to_hand_over(self.heads(), now):
            self._host.request(switchover.target.route, "promote", {"epoch": self.identity.epoch + 1})
            switchover.asked_at = now
        if now > switchover.until:
            if switchover.asked_at is not None:
                # It may have taken the role: then it will say so, and only then does anyone know. No writes until then.
                self._log.error("the replica was asked to take over and has not answered; no writes until it is known", to=switchover.target.name)
                switchover.reply(ResponseError("UNAVAILABLE", "the replica has not answered; `shmcache promote` takes the role back"))
                self._switchover = None
            else:
                self._log.warning("switch-over given up: the replica did not catch up in time", to=switchover.target.name)
                switchover.reply(ResponseError("TIMEOUT", "the replica did not catch up in time; nothing has changed"))
                self._resume()

    # --- what others ask ----------------------------------------------------------------------------
    def hello(self, route: list[bytes], arguments: dict[str, Any], now: float) -> dict[str, Any]:
        """Answer to a follower that connects. Raises ResponseError."""
        if not arguments["merge"] and int(arguments["epoch"]) > self.identity.epoch:
            self._log.error("a replica has seen a newer primary than this instance", epoch=arguments["epoch"])
            raise ResponseError("FENCED", f"epoch {arguments['epoch']} exists; this instance has {self.identity.epoch}")
        if not self.acks.hello(arguments["replica"], arguments["name"], arguments["router"], route, now):
            raise ResponseError("LIMIT", "no row for another replica")
        fork = self.identity.fork
        self.publisher.attend(True)
        self.applier.everywhere("nothing", {}, lambda: None, lambda told: self.publisher.tell(told["shard"], told["position"], told["stamp"]))
        ends, oldest = self.publisher.log_ends(), self.publisher.oldest()
        return {
            "instance": self.snapshot.instance,
            "replica_id": self.identity.replica_id,
            "history": self.identity.history,
            "epoch": self.identity.epoch,
            "role": self.identity.role,
            "syncing": self.identity.syncing,
            "shards": self.logs.shards,
            "slots": self._settings["slot_ranges"],
            "heads": {str(k): v for k, v in ends.items()},
            "oldest": {str(k): v for k, v in oldest.items()},
            "fork": _fork_for(fork, arguments["history"]),
            "router": self._settings["announce"],
            "node": self._settings["node"],
        }

    def fetch(self, shard: int, position: int, most: int) -> dict[str, Any]:
        return fetch(self.logs, shard, position, most, self.identity.history, self.identity.epoch)

    def slice(self, replica: str, shard: int, token: int, number: int, flushes: bool) -> dict[str, Any]:
        """A slice of a full copy, which begins with number 0 and a new token. Raises ResponseError."""
        key = (replica, shard)
        copy = self._copies.get(key)
        if copy is None or copy.token != token:
            if number != 0:
                raise ResponseError("GONE", "no such copy is under way")
            self.end_copy(key)
            copy = self._copies[key] = Copy(self.logs, shard, token, flushes=flushes)
        try:
            return copy.slice(number, self.identity.history, self.identity.epoch)
        except ResponseError as error:
            if error.code == "GONE":
                self.end_copy(key)
            raise

    def end_copy(self, key: tuple[str, int]) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            copy.close()

    # --- time ---------------------------------------------------------------------------------------
    def tick(self, now: float) -> None:
        """What is due."""
        for link in list(self.links.values()):
            link.tick(now)
        self.libraries.tick(self.links.values(), now)
        if self._fencer is not None:
            self._fencer.tick(now)
        self._drive_switchover(now)
        if now >= self._review_at:
            self._review_at = now + REVIEW_MS / 1000
            self.acks.review(self.heads(), now)
            if self.acks.followers:
                self._note_logs(now)
            self.publisher.attend(self.acks.anyone(now))
        for key, copy in list(self._copies.items()):
            if now - copy.used_at > 30:
                self.end_copy(key)
        if now >= self._save_at:
            self._save_at = now + IDENTITY_SAVE_MS / 1000
            self.save()

    def save(self) -> None:
        """Note how far the links have come."""
        for link in self.links.values():
            if not link.merge:
                self.region.store(Word.CURRENT_AS_OF_MS, link.current_as_of_ms)
        if not self._dirty:
            return
        self._dirty = False
        positions = {address: link.followed() for address, link in self.links.items()}
        known = {address: followed for address, followed in positions.items() if followed is not None}
        if known:
            self._change(followed=self.identity.followed | known)


def _fork_for(fork: Fork | None, history: int) -> dict[str, Any] | None:
    if fork is None or fork.history != history:
        return None
    texts = {name: {str(k): v for k, v in getattr(fork, name).items()} for name in ("positions", "heads")}
    return {"history": fork.history, "epoch": fork.epoch, **texts}
