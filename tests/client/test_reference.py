"""The generated page of commands."""

from pathlib import Path

from shmcache.protocol.reference import page


def test_commands_page_is_current() -> None:
    """docs/commands.md is what the table says now."""
    assert (Path(__file__).parents[2] / "docs" / "commands.md").read_text() == page()
