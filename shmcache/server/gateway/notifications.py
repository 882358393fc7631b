"""CONFIG notify-keyspace-events: which changes of keys the hub tells its subscribers. It holds for the instance, not for one gateway."""

from typing import Any, Final

from ...client.hub import calling
from ...errors import ConfigError, ShmcacheError
from . import asking

OPTION: Final = "notify-keyspace-events"
_CLASSES: Final = "g$lshzxetd"
"""What `A` stands for."""
_OWN: Final = "I"
"""Our own letter, which is no part of Redis' option."""


def checked(text: str) -> str:
    """The letters in the order in which they are shown. Raises ConfigError."""
    if set(text) - set(_CLASSES + "eAKEmn"):
        raise ConfigError(f"Invalid event class character. Use 'A{_CLASSES}eKEmn'.")
    return shown(text)


def shown(letters: str) -> str:
    """As CONFIG GET shows them."""
    classes = _CLASSES.replace("x", "xe")
    if "A" in letters or set(classes) <= set(letters):
        found = "A"
    else:
        found = "".join(letter for letter in classes + "n" if letter in letters)
    return found + "".join(letter for letter in "KEm" if letter in letters)


async def current(gateway: Any) -> str:
    """The letters in force; none if there is no hub."""
    try:
        found: dict[str, str] = (await gateway.ask_hub(calling("notify")))[0]
    except ShmcacheError:
        return ""
    return found["letters"]


async def change(gateway: Any, letters: str) -> None:
    """Have the hub, and its successors, tell these. Raises ShmcacheError."""
    wanted = letters + (_OWN if _OWN in await current(gateway) else "")
    await asking.call_supervisor(gateway, "notify", letters=wanted)
    await gateway.ask_hub(calling("notify", letters=wanted))
