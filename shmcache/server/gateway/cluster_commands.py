"""CLUSTER: the truth about one node that owns all slots."""

import hashlib
from typing import Any

from ...errors import CommandFailed
from ...protocol.commands import SlotMap, slot_of_key
from ...protocol.directory import SLOTS
from .arguments import integer, word
from .connection import Connection
from .rows import command, unknown_subcommand, wrong_arity
from .server_commands import replication_state

_ARITIES = {"INFO": 2, "SLOTS": 2, "SHARDS": 2, "NODES": 2, "MYID": 2, "MYSHARDID": 2, "KEYSLOT": 3, "COUNTKEYSINSLOT": 3, "GETKEYSINSLOT": 4}
_SCAN_KEYS = 1_000


def node_id(gateway: Any) -> bytes:
    """Of the node: the same for all its gateways, as long as it has its name and port."""
    return hashlib.sha1(f"{gateway.instance}:{gateway.settings['port']}".encode()).hexdigest().encode()


def _address(client: Connection) -> tuple[bytes, int]:
    """As this client reached the server, so that it can do so again."""
    host, _, port = client.local.rpartition(":")
    return host.strip("[]").encode(), int(port or 0)


@command("CLUSTER", -2, "Slots and nodes.", "stale", "loading")
async def cluster(client: Connection, args: list[bytes]) -> Any:
    name = word(args[1])
    if name not in _ARITIES:
        raise unknown_subcommand(args)
    if len(args) != _ARITIES[name]:
        raise wrong_arity(f"cluster|{name}")
    gateway = client.gateway
    host, port = _address(client)
    me = node_id(gateway)
    match name:
        case "KEYSLOT":
            return slot_of_key(args[2])
        case "MYID" | "MYSHARDID":
            return me
        case "INFO":
            fields = {
                "cluster_enabled": 0,
                "cluster_state": "ok",
                "cluster_slots_assigned": SLOTS,
                "cluster_slots_ok": SLOTS,
                "cluster_slots_pfail": 0,
                "cluster_slots_fail": 0,
                "cluster_known_nodes": 1,
                "cluster_size": 1,
                "cluster_current_epoch": gateway.route.epoch,
                "cluster_my_epoch": gateway.route.epoch,
                "cluster_stats_messages_sent": 0,
                "cluster_stats_messages_received": 0,
                "total_cluster_links_buffer_limit_exceeded": 0,
            }
            return "".join(f"{field}:{value}\r\n" for field, value in fields.items()).encode()
        case "SLOTS":
            return [[0, SLOTS - 1, [host, port, me, []]]]
        case "SHARDS":
            state = await replication_state(gateway)
            node = {
                b"id": me,
                b"port": port,
                b"ip": host,
                b"endpoint": host,
                b"role": b"replica" if state["is_replica"] else b"master",
                b"replication-offset": state["offset"],
                b"health": b"online",
            }
            return [{b"slots": [0, SLOTS - 1], b"nodes": [node]}]
        case "NODES":
            at = f"{host.decode()}:{port}@0"
            return f"{me.decode()} {at} myself,master - 0 0 {gateway.route.epoch} connected 0-{SLOTS - 1}\n".encode()
    return await _keys_in_slot(client, args, name == "COUNTKEYSINSLOT")


async def _keys_in_slot(client: Connection, args: list[bytes], only_count: bool) -> Any:
    """By a walk over the shard that has the slot: there is no index by slot."""
    slot = integer(args[2])
    most = SLOTS * SLOTS if only_count else integer(args[3])
    if not 0 <= slot < SLOTS or most < 0:
        raise CommandFailed("ERR", "Invalid slot" if not 0 <= slot < SLOTS else "Invalid number of keys")
    gateway = client.gateway
    slots: SlotMap = gateway.slots
    shard = slots.shard_of[slot]
    found: list[bytes] = []
    # The first cursor of a shard, as SCAN over several shards counts (protocol/commands.py).
    cursor = shard
    while True:
        result = await gateway.ask("SCAN", cursor, "COUNT", _SCAN_KEYS)
        found += (key for key in result[1] if slot_of_key(key) == slot)
        cursor = int(result[0])
        if cursor == 0 or cursor % slots.shards != shard or len(found) >= most:
            break
    keys = list(dict.fromkeys(found))
    return len(keys) if only_count else keys[:most]


@command("READONLY", 1, "Reads are answered by every node.", "fast", "loading", "stale")
def readonly(client: Connection, args: list[bytes]) -> Any:
    raise CommandFailed("ERR", "This instance has cluster support disabled")


@command("READWRITE", 1, "As READONLY.", "fast", "loading", "stale")
def readwrite(client: Connection, args: list[bytes]) -> Any:
    raise CommandFailed("ERR", "This instance has cluster support disabled")


@command("ASKING", 1, "No slot is on its way elsewhere.", "fast")
def asking_(client: Connection, args: list[bytes]) -> Any:
    raise CommandFailed("ERR", "This instance has cluster support disabled")

