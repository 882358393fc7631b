"""All modules that answer commands: importing them registers what they answer."""

from . import (
    acl_commands,
    client_commands,
    cluster_commands,
    config_commands,
    debug_commands,
    info_commands,
    pubsub_commands,
    script_commands,
    server_commands,
    session_commands,
    table_commands,
    transactions,
)

_MODULES = (
    session_commands,
    acl_commands,
    client_commands,
    config_commands,
    info_commands,
    server_commands,
    debug_commands,
    cluster_commands,
    pubsub_commands,
    script_commands,
    table_commands,
    transactions,
)


def complete() -> int:
    """How many modules there are; by then all of them are imported."""
    return len(_MODULES)
