"""What a rule calls a request: `get`, `config|set`. No I/O."""

import functools
from typing import Final

_CLUSTER_ADMIN: Final = """ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNT-FAILURE-REPORTS DELSLOTS DELSLOTSRANGE FAILOVER FLUSHSLOTS FORGET MEET REPLICAS REPLICATE
    RESET SAVECONFIG SET-CONFIG-EPOCH SETSLOT SLAVES"""
SUBCOMMANDS: Final[dict[str, dict[str, str]]] = {
    "ACL": {"": "CAT GENPASS HELP WHOAMI", "admin": "DELUSER DRYRUN GETUSER LIST LOAD LOG SAVE SETUSER USERS"},
    "CLIENT": {
        "connection": "CACHING GETNAME GETREDIR HELP ID INFO NO-TOUCH REPLY SETINFO SETNAME TRACKING TRACKINGINFO",
        "connection admin": "KILL LIST NO-EVICT PAUSE UNBLOCK UNPAUSE",
    },
    "CLUSTER": {"": "COUNTKEYSINSLOT GETKEYSINSLOT HELP INFO KEYSLOT LINKS MYID MYSHARDID NODES SHARDS SLOTS", "admin": _CLUSTER_ADMIN},
    "COMMAND": {"connection": "COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST"},
    "CONFIG": {"": "HELP", "admin": "GET RESETSTAT REWRITE SET"},
    "FUNCTION": {"scripting": "DUMP HELP KILL LIST STATS", "scripting write": "DELETE FLUSH LOAD RESTORE"},
    "LATENCY": {"": "HELP", "admin": "DOCTOR GRAPH HISTOGRAM HISTORY LATEST RESET"},
    "MEMORY": {"": "DOCTOR HELP MALLOC-STATS PURGE STATS", "read": "USAGE"},
    "OBJECT": {"keyspace": "HELP", "keyspace read": "ENCODING FREQ IDLETIME REFCOUNT"},
    "PUBSUB": {"": "HELP", "pubsub": "CHANNELS NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB"},
    "SCRIPT": {"scripting": "DEBUG EXISTS FLUSH HELP KILL LOAD"},
    "SLOWLOG": {"": "HELP", "admin": "GET LEN RESET"},
}
"""Commands that have subcommands: theirs, by the categories beside `slow`."""


@functools.cache
def parts(name: str) -> frozenset[str]:
    """The subcommands of a command, in upper case."""
    return frozenset(word for words in SUBCOMMANDS.get(name, {}).values() for word in words.split())


def has_parts(name: str) -> bool:
    return name in SUBCOMMANDS


def full_name(name: str, args: list[object]) -> str:
    """`CONFIG|SET` if there is such a subcommand, else the command alone."""
    if name in SUBCOMMANDS and len(args) > 1 and isinstance(args[1], bytes):
        part = args[1].upper().decode("latin-1")
        if part in parts(name):
            return f"{name}|{part}"
    return name
