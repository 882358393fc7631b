"""Numbers and words in the arguments of commands that the gateway answers. No I/O."""

from typing import Any

from ...errors import CommandFailed


def integer(text: bytes, complaint: str = "value is not an integer or out of range") -> int:
    """A 64-bit integer. Raises CommandFailed."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or not -(2**63) <= int(text) < 2**63:
        raise CommandFailed("ERR", complaint)
    return int(text)


def word(text: bytes) -> str:
    """In upper case, for comparing."""
    return text.upper().decode("latin-1")


def syntax() -> CommandFailed:
    return CommandFailed("ERR", "syntax error")


def address(name: Any) -> str:
    """A socket's name as `host:port`; empty if there is none."""
    if not name:
        return ""
    return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
