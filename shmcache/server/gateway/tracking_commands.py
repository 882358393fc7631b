"""CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO."""

from typing import Any

from ...errors import CommandFailed
from ...limits import RESP_TRACKING_PREFIXES_MAX
from .arguments import integer, syntax, word
from .connection import Connection
from .replies import Members
from .tracking import Tracking


def tracking(client: Connection, args: list[bytes]) -> Any:
    """CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]."""
    redirect = 0
    prefixes: list[bytes] = []
    flags: set[str] = set()
    rest = list(args[3:])
    while rest:
        option = word(rest.pop(0))
        if option == "REDIRECT" and rest:
            if redirect:
                raise CommandFailed("ERR", "A client can only redirect to a single other client")
            redirect = integer(rest.pop(0))
            if redirect not in client.gateway.clients:
                raise CommandFailed("ERR", "The client ID you want redirect to does not exist")
        elif option == "PREFIX" and rest:
            prefixes.append(rest.pop(0))
        elif option in ("BCAST", "OPTIN", "OPTOUT", "NOLOOP"):
            flags.add(option)
        else:
            raise syntax()
    table = client.gateway.tracking
    if word(args[2]) == "OFF":
        table.leave(client)
        return "OK"
    if word(args[2]) != "ON":
        raise syntax()
    former: Tracking | None = client.tracking
    is_broadcast = "BCAST" in flags
    if prefixes and not is_broadcast:
        raise CommandFailed("ERR", "PREFIX option requires BCAST mode to be enabled")
    if former is not None and former.is_broadcast != is_broadcast:
        text = "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
        raise CommandFailed("ERR", text)
    if is_broadcast and flags & {"OPTIN", "OPTOUT"}:
        raise CommandFailed("ERR", "OPTIN and OPTOUT are not compatible with BCAST")
    if {"OPTIN", "OPTOUT"} <= flags:
        raise CommandFailed("ERR", "You can't specify both OPTIN mode and OPTOUT mode")
    if former is not None and ((former.is_optin and "OPTOUT" in flags) or (former.is_optout and "OPTIN" in flags)):
        text = "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
        raise CommandFailed("ERR", text)
    if is_broadcast:
        prefixes = _checked(prefixes or ([] if former is not None else [b""]), former.prefixes if former is not None else [])
    new = Tracking(client)
    new.is_broadcast, new.redirect, new.prefixes = is_broadcast, redirect, prefixes
    new.is_optin, new.is_optout, new.no_loop = "OPTIN" in flags, "OPTOUT" in flags, "NOLOOP" in flags
    if former is not None:
        # Without a moment in which it is not tracked.
        new.own = former.own
    table.join(new)
    return "OK"


def _checked(prefixes: list[bytes], former: list[bytes]) -> list[bytes]:
    """All prefixes of a client. Raises CommandFailed if one begins with another."""
    more = "Prefixes for a single client must not overlap."
    for number, prefix in enumerate(prefixes):
        for other in former:
            if prefix != other and (prefix.startswith(other) or other.startswith(prefix)):
                raise CommandFailed("ERR", f"Prefix '{_text(prefix)}' overlaps with an existing prefix '{_text(other)}'. {more}")
        for other in prefixes[number + 1 :]:
            if prefix.startswith(other) or other.startswith(prefix):
                raise CommandFailed("ERR", f"Prefix '{_text(prefix)}' overlaps with another provided prefix '{_text(other)}'. {more}")
    found = list(dict.fromkeys([*former, *prefixes]))
    if len(found) > RESP_TRACKING_PREFIXES_MAX:
        raise CommandFailed("ERR", f"a client has at most {RESP_TRACKING_PREFIXES_MAX} prefixes")
    return found


def _text(prefix: bytes) -> str:
    return prefix.decode("latin-1")


def caching(client: Connection, args: list[bytes]) -> Any:
    """CLIENT CACHING YES|NO."""
    state: Tracking | None = client.tracking
    if state is None or not (state.is_optin or state.is_optout):
        text = "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
        raise CommandFailed("ERR", text)
    answer = word(args[2])
    if answer == "YES":
        if not state.is_optin:
            raise CommandFailed("ERR", "CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
        state.caching = True
    elif answer == "NO":
        if not state.is_optout:
            raise CommandFailed("ERR", "CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
        state.caching = False
    else:
        raise syntax()
    return "OK"


def getredir(client: Connection, args: list[bytes]) -> Any:
    """CLIENT GETREDIR: -1 without tracking."""
    return client.tracking.redirect if client.tracking is not None else -1


def trackinginfo(client: Connection, args: list[bytes]) -> Any:
    """CLIENT TRACKINGINFO."""
    state: Tracking | None = client.tracking
    if state is None:
        return {b"flags": Members([b"off"]), b"redirect": -1, b"prefixes": []}
    flags = [b"on"]
    flags += [b"bcast"] * state.is_broadcast
    if state.is_optin:
        flags += [b"optin"] + [b"caching-yes"] * (state.caching is True)
    if state.is_optout:
        flags += [b"optout"] + [b"caching-no"] * (state.caching is False)
    flags += [b"noloop"] * state.no_loop + [b"broken_redirect"] * state.is_broken
    return {b"flags": Members(flags), b"redirect": state.redirect, b"prefixes": list(state.prefixes)}
