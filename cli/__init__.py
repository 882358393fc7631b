"""The `shmcache` command. Modules import what is heavy (rich, pydantic, the client) when a command needs it."""


def main() -> None:
    """Entry point of the installed command."""
    from .app import run

    run()
