"""CLIENT and its subcommands."""

from typing import Any, Final

from ...errors import CommandFailed
from . import tracking_commands
from .arguments import integer, syntax, word
from .connection import NO_REPLY, Connection
from .replies import Verbatim
from .rows import command, unknown_subcommand, wrong_arity
from .session_commands import check_name

_TYPES: Final = ("NORMAL", "MASTER", "REPLICA", "SLAVE", "PUBSUB")


def kind_of(client: Connection) -> str:
    """As CLIENT LIST TYPE names it."""
    return "PUBSUB" if client.subscriber is not None and client.subscriber.total else "NORMAL"


def line(client: Connection) -> str:
    """How CLIENT LIST shows it."""
    now = client.gateway.loop.time()
    subscriber = client.subscriber
    sub, psub, ssub = subscriber.counts if subscriber is not None else (0, 0, 0)
    flags = ("O" if client.is_monitor else "") + ("P" if sub + psub + ssub else "") + ("x" if client.transaction else "")
    flags += ("b" if client.id in client.gateway.blocked else "") + ("e" if client.no_evict else "") + ("T" if client.no_touch else "")
    tracking = client.tracking
    if tracking is not None:
        flags += "t" + ("R" if tracking.is_broken else "") + ("B" if tracking.is_broadcast else "")
    waiting = client.transport.get_write_buffer_size()
    fields = {
        "id": client.id,
        "addr": client.peer,
        "laddr": client.local,
        "fd": client.descriptor,
        "name": client.name.decode("latin-1"),
        "age": int(now - client.created),
        "idle": int(now - client.heard),
        "flags": flags or "N",
        "db": 0,
        "sub": sub,
        "psub": psub,
        "ssub": ssub,
        "multi": len(client.transaction.commands) if client.transaction else -1,
        "watch": len(client.watched or ()),
        "qbuf": client.requests.waiting_bytes,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": 0,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": len(client.pending),
        "omem": waiting,
        "tot-mem": client.requests.waiting_bytes + waiting,
        "events": "r",
        "cmd": client.command_name,
        "user": client.user,
        "redir": tracking.redirect if tracking is not None else -1,
        "resp": client.resp,
        "lib-name": client.library[b"LIB-NAME"].decode("latin-1"),
        "lib-ver": client.library[b"LIB-VER"].decode("latin-1"),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items())


@command("CLIENT", -2, "About connections.", "admin", "noscript", "loading", "stale")
def client_(client: Connection, args: list[bytes]) -> Any:
    name = word(args[1])
    found = _SUBCOMMANDS.get(name)
    if found is None:
        raise unknown_subcommand(args)
    arity, handler = found
    client.last_command = f"client|{name.lower()}"
    if len(args) != arity if arity > 0 else len(args) < -arity:
        raise wrong_arity(f"client|{name}")
    return handler(client, args)


def _id(client: Connection, args: list[bytes]) -> Any:
    return client.id


def _getname(client: Connection, args: list[bytes]) -> Any:
    return client.name or None


def _setname(client: Connection, args: list[bytes]) -> Any:
    client.name = check_name(args[2], "Client names cannot contain spaces, newlines or special characters.")
    return "OK"


def _setinfo(client: Connection, args: list[bytes]) -> Any:
    option = args[2].upper()
    if option not in client.library:
        raise CommandFailed("ERR", f"Unrecognized option '{args[2].decode('utf-8', 'replace')}'")
    shown = option.decode().lower()
    client.library[option] = check_name(args[3], f"{shown} cannot contain spaces, newlines or special characters.")
    return "OK"


def _info(client: Connection, args: list[bytes]) -> Any:
    return Verbatim(line(client) + "\n")


def _list(client: Connection, args: list[bytes]) -> Any:
    chosen = list(client.gateway.clients.values())
    if len(args) == 4 and word(args[2]) == "TYPE":
        kind = word(args[3])
        if kind not in _TYPES:
            raise CommandFailed("ERR", f"Unknown client type '{args[3].decode('utf-8', 'replace')}'")
        chosen = [other for other in chosen if kind_of(other) == kind]
    elif len(args) > 3 and word(args[2]) == "ID":
        wanted = [integer(part, "Invalid client ID") for part in args[3:]]
        chosen = [client.gateway.clients[number] for number in wanted if number in client.gateway.clients]
    elif len(args) != 2:
        raise syntax()
    return Verbatim("".join(line(other) + "\n" for other in chosen))


def _kill(client: Connection, args: list[bytes]) -> Any:
    if len(args) == 3:
        address = args[2].decode("latin-1")
        victims = [other for other in client.gateway.clients.values() if other.peer == address]
        if not victims:
            raise CommandFailed("ERR", "No such client")
        _end(client, victims)
        return "OK"
    if len(args) % 2:
        raise syntax()
    victims, skip_me = list(client.gateway.clients.values()), True
    for option, value in zip(args[2::2], args[3::2], strict=True):
        text = value.decode("latin-1")
        match word(option):
            case "ID":
                number = integer(value, "client-id should be greater than 0")
                if number <= 0:
                    raise CommandFailed("ERR", "client-id should be greater than 0")
                victims = [other for other in victims if other.id == number]
            case "TYPE":
                if text.upper() not in _TYPES:
                    raise CommandFailed("ERR", f"Unknown client type '{text}'")
                victims = [other for other in victims if kind_of(other) == text.upper()]
            case "ADDR":
                victims = [other for other in victims if other.peer == text]
            case "LADDR":
                victims = [other for other in victims if other.local == text]
            case "MAXAGE":
                age = integer(value, "value is not an integer or out of range")
                if age <= 0:
                    raise CommandFailed("ERR", "maxage should be greater than 0")
                now = client.gateway.loop.time()
                victims = [other for other in victims if now - other.created >= age]
            case "USER":
                if text not in client.gateway.guard.users:
                    raise CommandFailed("ERR", f"No such user '{text}'")
                victims = [other for other in victims if other.user == text]
            case "SKIPME" if text.lower() in ("yes", "no"):
                skip_me = text.lower() == "yes"
            case _:
                raise syntax()
    victims = [other for other in victims if other is not client or not skip_me]
    _end(client, victims)
    return len(victims)


def _end(client: Connection, victims: list[Connection]) -> None:
    for other in victims:
        if other is client:
            client.close_after_reply()
        else:
            other.transport.abort()


def _reply(client: Connection, args: list[bytes]) -> Any:
    match word(args[2]):
        case "ON":
            client.muted, client.mute_next = False, 0
            client.refresh()
            return "OK"
        case "OFF":
            client.muted, client.mute_next = True, 0
        case "SKIP":
            if not client.muted:
                client.mute_next = 2
        case _:
            raise syntax()
    client.refresh()
    return NO_REPLY


def _on_off(name: str) -> Any:
    def switch(client: Connection, args: list[bytes]) -> Any:
        if word(args[2]) not in ("ON", "OFF"):
            raise syntax()
        setattr(client, name, word(args[2]) == "ON")
        return "OK"

    return switch


def _pause(client: Connection, args: list[bytes]) -> Any:
    if len(args) > 4 or (len(args) == 4 and word(args[3]) not in ("ALL", "WRITE")):
        raise CommandFailed("ERR", "CLIENT PAUSE mode must be WRITE or ALL")
    timeout = integer(args[2], "timeout is not an integer or out of range")
    if timeout < 0:
        raise CommandFailed("ERR", "timeout is negative")
    client.gateway.pause(timeout / 1000, len(args) == 3 or word(args[3]) == "ALL")
    return "OK"


def _unpause(client: Connection, args: list[bytes]) -> Any:
    client.gateway.unpause()
    return "OK"


def _unblock(client: Connection, args: list[bytes]) -> Any:
    number = integer(args[2])
    how = word(args[3]) if len(args) > 3 else "TIMEOUT"
    if how not in ("TIMEOUT", "ERROR") or len(args) > 4:
        raise CommandFailed("ERR", "CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    other = client.gateway.clients.get(number)
    return client.gateway.unblock(other, how == "ERROR") if other is not None else 0


_SUBCOMMANDS: Final[dict[str, tuple[int, Any]]] = {
    "ID": (2, _id),
    "GETNAME": (2, _getname),
    "SETNAME": (3, _setname),
    "SETINFO": (4, _setinfo),
    "INFO": (2, _info),
    "LIST": (-2, _list),
    "KILL": (-3, _kill),
    "REPLY": (3, _reply),
    "NO-EVICT": (3, _on_off("no_evict")),
    "NO-TOUCH": (3, _on_off("no_touch")),
    "PAUSE": (-3, _pause),
    "UNPAUSE": (2, _unpause),
    "UNBLOCK": (-3, _unblock),
    "GETREDIR": (2, tracking_commands.getredir),
    "TRACKING": (-3, tracking_commands.tracking),
    "TRACKINGINFO": (2, tracking_commands.trackinginfo),
    "CACHING": (3, tracking_commands.caching),
}
