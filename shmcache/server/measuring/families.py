"""The metrics: names, kinds, labels and meanings in one table, and what makes samples of an instance's figures. Nothing is asked here.

`python -m shmcache.server.measuring.families` prints the table for docs/stats.md.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, get_args

from prometheus_client import Metric

from ...replication.link import State
from .gather import Figures

PREFIX: Final = "shmcache_"
_MS: Final = 0.001
_NS: Final = 1e-9


class Family(NamedTuple):
    """One metric. `key`: of the figures of its `scope`; empty where the sample takes more than that."""

    scope: str
    name: str
    kind: str
    key: str
    meaning: str
    scale: float = 1

    @property
    def exposed(self) -> str:
        """Its name in a scrape."""
        return PREFIX + self.name + ("_total" if self.kind == "counter" else "")


LABELS: Final = {
    "instance": (),
    "process": ("process", "shard"),
    "shard": ("shard",),
    "router": (),
    "relay": (),
    "link": ("upstream",),
    "replica": ("replica", "id"),
    "hub": (),
}
"""Scope -> labels. Those without are the instance's own."""


def _of(scope: str, kind: str, *rows: tuple[Any, ...]) -> list[Family]:
    return [Family(scope, row[0], kind, *row[1:]) for row in rows]


FAMILIES: Final = tuple(
    [
        Family("instance", "info", "gauge", "", "always 1; label `name` is the instance's, `version` the release's"),
        Family("instance", "scrape_seconds", "gauge", "", "what asking all processes took"),
        Family("process", "up", "gauge", "", "1 if the process answered; label `process`: worker, router, hub, relay"),
        *_of(
            "process",
            "gauge",
            ("process_resident_bytes", "rss_bytes", "resident memory; the touched part of the shared regions is in it"),
            ("process_open_descriptors", "descriptors", "open files"),
            ("process_start_time_seconds", "started_ms", "its start, in unix seconds", _MS),
        ),
        *_of(
            "process",
            "counter",
            ("process_cpu_user_seconds", "cpu_user_ms", "processor time", _MS),
            ("process_cpu_system_seconds", "cpu_system_ms", "processor time in the kernel", _MS),
        ),
        Family("shard", "operations", "counter", "", "commands that the owner executed, and lookups of processes that map the region"),
        *_of(
            "shard",
            "counter",
            ("commands", "commands", "executed commands"),
            ("batches", "batches", "messages they came in"),
            ("command_errors", "errors", "error replies"),
            ("hits", "hits", "reads that found their key, local ones included"),
            ("misses", "misses", "reads that did not"),
            ("local_hits", "local_hits", "of `hits`: by processes that map the region"),
            ("local_misses", "local_misses", "of `misses`: likewise"),
            ("local_retries", "local_retries", "local reads that met a change and read again"),
            ("evicted_keys", "evicted", "removed by the memory limit"),
            ("expired_keys", "expired", "removed by their deadline"),
            ("compactions", "compactions", "pages emptied by moving their entries"),
            ("tombstones_dropped", "tombstones_dropped", "deletions forgotten early for want of memory"),
            ("flush_marks_dropped", "flush_marks_dropped", "flushes forgotten early"),
            ("log_written_bytes", "log_head", "the write log's end: bytes since it began"),
            ("log_records", "log_seq", "sequence number of its last record"),
        ),
        *_of(
            "shard",
            "gauge",
            ("keys", "keys", "live entries"),
            ("tombstones", "tombstones", "remembered deletions"),
            ("parts", "parts", "elements of large collections"),
            ("flush_marks", "flush_marks", "remembered flushes"),
            ("memory_used_bytes", "used_bytes", "what counts against the limit"),
            ("memory_limit_bytes", "memory_bytes", "the limit"),
            ("heap_used_bytes", "heap_used_bytes", "heap inside entries"),
            ("heap_committed_bytes", "heap_committed_bytes", "heap taken from /dev/shm"),
            ("heap_free_page_bytes", "heap_free_page_bytes", "of that, empty pages"),
            ("index_bytes", "index_bytes", "the hash index"),
            ("hints_bytes", "hints_bytes", "access marks"),
            ("log_ring_bytes", "log_bytes", "size of the write log's ring"),
            ("local_clients", "clients", "processes that map the region"),
            ("shard_generation", "generation", "owners that the region has had: grows with every restart of the worker"),
        ),
        Family("shard", "requests", "counter", "", "messages that the worker received"),
        Family("shard", "requests_refused", "counter", "", "of those, refused as a whole"),
        Family("shard", "command_duration_seconds", "summary", "", "execution inside the engine, by `family` and `quantile`; `_count` too"),
        *_of(
            "router",
            "counter",
            ("router_requests", "requests", "messages from clients"),
            ("router_replies", "replies", "messages back to them"),
            ("router_refused", "refused", "requests that the router itself refused"),
            ("router_denied", "denied", "connections refused because their key is not on the list"),
            ("router_handshakes_failed", "handshakes_failed", "connections that did not get through their handshake"),
        ),
        *_of(
            "router",
            "gauge",
            ("router_outstanding", "outstanding", "requests without an answer"),
            ("router_waiting", "waiting", "of those, held for a shard that is down"),
            ("router_clients", "clients", "connections"),
        ),
        Family("relay", "role", "gauge", "", "1 for the `role` that the instance has: primary or replica. Known also while the relay is down, as are the next four"),
        Family("relay", "epoch", "gauge", "", "of its primary"),
        Family("relay", "replica_age_seconds", "gauge", "", "of a replica: time since it held all that its primary had written"),
        Family("relay", "replicas_close", "gauge", "", "replicas that are connected and within `--min-replicas-lag`"),
        Family("relay", "replicas_counted", "gauge", "", "replicas that count for `quorum` and `all`"),
        Family("relay", "switching_over", "gauge", "paused", "1 while it takes no writes because it hands its role over"),
        *_of(
            "relay",
            "counter",
            ("lost_writes", "lost_writes", "records given up because its successor never had them"),
            ("published_records", "published.records", "log records shipped"),
            ("published_frames", "published.frames", "frames they went in"),
            ("published_bytes", "published.bytes", "their size, before compression"),
            ("published_overtaken", "published.overtaken", "times the ring lapped the relay"),
        ),
        Family("link", "link_state", "gauge", "", "1 for the `state` of the link to an upstream: " + ", ".join((*get_args(State), "copying"))),
        *_of(
            "link",
            "gauge",
            ("link_caught_up", "caught_up", "1 if everything known of the upstream is applied"),
            ("link_lag_bytes", "lag_bytes", "log of the upstream that is not applied"),
            ("link_lag_seconds", "lag_ms", "time since everything that it had written was applied; absent before the first", _MS),
            ("link_in_flight_bytes", "in_flight_bytes", "records given to the own workers and not applied yet"),
        ),
        *_of(
            "link",
            "counter",
            ("link_gaps", "gaps", "frames that were lost"),
            ("link_duplicates", "duplicates", "frames that came twice"),
            ("link_fetched", "fetched", "frames fetched from the upstream's ring"),
        ),
        *_of(
            "replica",
            "gauge",
            ("replica_connected", "connected", "1 if it is heard of"),
            ("replica_lag_bytes", "lag_bytes", "log that it has not acknowledged"),
            ("replica_lag_records", "lag_records", "about how many records that is"),
            ("replica_lag_seconds", "lag_ms", "how long the first of them has been there, by this host's clock", _MS),
            ("replica_silent_seconds", "silent_ms", "since it was heard of", _MS),
        ),
        *_of(
            "hub",
            "counter",
            ("channel_messages_published", "published", "messages that clients published here"),
            ("channel_messages_delivered", "delivered", "messages times the subscriptions that they met"),
            ("channel_messages_dropped", "dropped", "messages that subscribers reported as missed"),
            ("channel_messages_missed_upstream", "missed_upstream", "lost between the upstream hub and this one"),
            ("channel_messages_cut", "cut", "copies from other hubs that were not carried on"),
            ("channels_forgotten", "forgotten_channels", "channels whose numbers are not remembered any more"),
            ("channel_subscriptions_refused", "refused_subscriptions", "over a limit"),
            ("channel_requests", "requests", "messages at the control socket"),
            ("channel_requests_refused", "refused", "of those, refused as a whole"),
            ("channel_denied", "denied", "connections refused because their key is not on the list"),
            ("channel_handshakes_failed", "handshakes_failed", "connections that did not get through their handshake"),
            ("channel_log_missed_bytes", "log_missed_bytes", "of the write logs, that came too fast for key events"),
        ),
        *_of(
            "hub",
            "gauge",
            ("channels", "channels", "channels whose numbers are remembered"),
            ("channel_topics", "topics", "different topics subscribed to"),
            ("channel_subscriptions", "subscriptions", "subscriptions to them"),
            ("channel_patterns", "patterns", "different patterns in use"),
            ("channel_clients", "clients", "connections"),
            ("channel_replay_messages", "replay_messages", "kept for late subscribers"),
            ("channel_replay_bytes", "replay_bytes", "their size"),
            ("channel_upstream_up", "upstream.up", "1 if the hub that it is joined to answers"),
        ),
    ]
)
assert len({family.exposed for family in FAMILIES}) == len(FAMILIES)

Add = Callable[..., None]
_LINK_STATES: Final = (*get_args(State), "copying")
_QUANTILES: Final = (("0.5", "p50_ns"), ("0.99", "p99_ns"), ("0.999", "p999_ns"), ("1", "max_ns"))


def collect(figures: Figures, version: str) -> Iterator[Metric]:
    """All metrics that have a sample."""
    metrics = {family.name: Metric(PREFIX + family.name, family.meaning, family.kind) for family in FAMILIES}
    suffixes = {family.name: "_total" if family.kind == "counter" else "" for family in FAMILIES}

    def add(name: str, value: float, suffix: str | None = None, /, **labels: str) -> None:
        metrics[name].add_sample(PREFIX + name + (suffixes[name] if suffix is None else suffix), labels, value)

    for scope, labels, found in _scopes(figures):
        for family in FAMILIES:
            if family.scope == scope and family.key:
                value = _look_up(found, family.key)
                if value is not None:
                    add(family.name, value * family.scale, **labels)
    _add_instance(figures, version, add)
    for shard, found in figures.shards.items():
        _add_shard(str(shard), found, add)
    for link in figures.relay["links"] if figures.relay else []:
        for state in _LINK_STATES:
            add("link_state", state == link["state"], upstream=link["upstream"], state=state)
    return (metric for metric in metrics.values() if metric.samples)


def _scopes(figures: Figures) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """Scope, labels, figures."""
    for (part, shard), found in figures.process.items():
        yield "process", _who(part, shard), found
    for number, found in figures.shards.items():
        yield "shard", {"shard": str(number)}, found
    if figures.router:
        yield "router", {}, figures.router
    if figures.hub:
        yield "hub", {}, figures.hub
    if figures.relay:
        yield "relay", {}, figures.relay
        for link in figures.relay["links"]:
            yield "link", {"upstream": link["upstream"]}, link
        for replica in figures.relay["replicas"]:
            yield "replica", {"replica": replica["name"], "id": replica["replica"]}, replica


def _who(part: str, shard: str) -> dict[str, str]:
    return {"process": part, "shard": shard} if shard else {"process": part}


def _look_up(found: dict[str, Any], key: str) -> float | None:
    value: Any = found
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else float(value)


def _add_instance(figures: Figures, version: str, add: Add) -> None:
    add("info", 1, name=figures.instance, version=version)
    add("scrape_seconds", figures.took_s)
    for (part, shard), up in figures.up.items():
        add("up", up, **_who(part, shard))
    words = figures.words
    if words is None:
        add("role", 1, role="primary")
        return
    for role in ("primary", "replica"):
        add("role", (role == "replica") == bool(words["is_replica"]), role=role)
    add("epoch", words["epoch"])
    add("replicas_close", words["replicas_good"])
    add("replicas_counted", words["replicas_known"])
    if words["is_replica"] and words["current_as_of_ms"]:
        add("replica_age_seconds", max(0.0, time.time() - words["current_as_of_ms"] * _MS))


def _add_shard(shard: str, found: dict[str, Any], add: Add) -> None:
    add("operations", found["commands"] + found["local_hits"] + found["local_misses"], shard=shard)
    add("requests", found["worker"]["messages"], shard=shard)
    add("requests_refused", found["worker"]["refused"], shard=shard)
    for family, numbers in found["latencies"].items():
        for quantile, name in _QUANTILES:
            add("command_duration_seconds", numbers[name] * _NS, shard=shard, family=family, quantile=quantile)
        add("command_duration_seconds", numbers["count"], "_count", shard=shard, family=family)


def reference(families: Iterable[Family] = FAMILIES) -> str:
    """The table of docs/stats.md."""
    lines = ["| metric | labels | kind | meaning |", "| --- | --- | --- | --- |"]
    extra = {"info": ("name", "version"), "role": ("role",), "link_state": ("state",), "command_duration_seconds": ("family", "quantile")}
    for family in families:
        labels = ", ".join((*LABELS[family.scope], *extra.get(family.name, ())))
        lines.append(f"| `{family.exposed}` | {labels} | {family.kind} | {family.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
