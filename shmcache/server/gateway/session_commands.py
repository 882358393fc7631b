"""PING, ECHO, HELLO, AUTH, SELECT, RESET, QUIT: what concerns one connection only."""

import time
from typing import Any

from ...errors import CommandFailed, ResponseError
from .acl.guard import HELLO_FIRST
from .arguments import integer
from .replies import Push
from .rows import command, wrong_arity
from .versions import REDIS_VERSION

_SET_FAST = ("fast", "loading", "stale")


@command("PING", -1, "PONG, or the argument.", "fast", always=True)
def ping(client: Any, args: list[bytes]) -> Any:
    if len(args) > 2:
        raise wrong_arity("ping")
    if client.resp == 2 and client.subscriber is not None and client.subscriber.count:
        return [b"pong", args[1] if len(args) > 1 else b""]
    return args[1] if len(args) > 1 else "PONG"


@command("ECHO", 2, "The argument.", "fast")
def echo(client: Any, args: list[bytes]) -> Any:
    return args[1]


@command("TIME", 1, "[unix seconds, microseconds].", "fast")
def clock(client: Any, args: list[bytes]) -> Any:
    seconds, rest_ns = divmod(time.time_ns(), 1_000_000_000)
    return [b"%d" % seconds, b"%d" % (rest_ns // 1000)]


@command("SELECT", 2, "Choose a database: there is 0.", *_SET_FAST)
def select(client: Any, args: list[bytes]) -> Any:
    if integer(args[1]) != 0:
        raise CommandFailed("ERR", "DB index is out of range")
    return "OK"


@command("AUTH", -2, "Log in: [user] password.", *_SET_FAST, "noscript", "no_auth", "nomonitor")
def auth(client: Any, args: list[bytes]) -> Any:
    if len(args) > 3:
        raise CommandFailed("ERR", "syntax error")
    client.gateway.guard.login(client, args[1] if len(args) == 3 else None, args[-1], "AUTH")
    return "OK"


@command("HELLO", -1, "Choose the protocol [2|3 [AUTH user password] [SETNAME name]].", *_SET_FAST, "noscript", "no_auth", "nomonitor")
def hello(client: Any, args: list[bytes]) -> Any:
    resp, name = client.resp, None
    if len(args) > 1:
        if not args[1].isdigit():
            raise CommandFailed("ERR", "Protocol version is not an integer or out of range")
        resp = int(args[1])
        if resp not in (2, 3):
            raise ResponseError("NOPROTO", "unsupported protocol version")
    rest, login = args[2:], None
    while rest:
        word = rest[0].upper()
        if word == b"AUTH" and len(rest) > 2:
            login = rest[1:3]
            rest = rest[3:]
        elif word == b"SETNAME" and len(rest) > 1:
            name, rest = check_name(rest[1], "Client names cannot contain spaces, newlines or special characters."), rest[2:]
        else:
            raise CommandFailed("ERR", f"Syntax error in HELLO option '{rest[0].decode('utf-8', 'replace')}'")
    if login is not None:
        client.gateway.guard.login(client, *login, "HELLO")
    elif client.gateway.guard.needs_login(client):
        raise HELLO_FIRST
    if name is not None:
        client.name = name
    client.resp = resp
    client.refresh()
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": resp,
        b"id": client.id,
        b"mode": b"standalone",
        b"role": b"slave" if client.gateway.route.replica_age() is not None else b"master",
        b"modules": [],
    }


def check_name(name: bytes, complaint: str) -> bytes:
    """Raises CommandFailed for a name with anything but visible ASCII."""
    if any(not 33 <= byte <= 126 for byte in name):
        raise CommandFailed("ERR", complaint)
    return name


@command("QUIT", -1, "Close the connection.", *_SET_FAST, "noscript", "no_auth", always=True, at_once=True)
def quit_(client: Any, args: list[bytes]) -> Any:
    client.close_after_reply()
    return "OK"


@command("RESET", 1, "Forget what this connection has set.", *_SET_FAST, "noscript", "no_auth", always=True, at_once=True)
def reset(client: Any, args: list[bytes]) -> Any:
    client.transaction = client.watched = None
    if client.subscriber is not None:
        client.subscriber.close()
        client.subscriber = None
    client.gateway.tracking.leave(client)
    client.gateway.monitors.discard(client)
    client.gateway.refresh()
    client.is_monitor = client.muted = False
    client.mute_next = 0
    client.no_evict = client.no_touch = False
    client.name, client.resp = b"", 2
    client.gateway.guard.welcome(client)
    return "RESET"


def push_or_list(client: Any, values: list[Any]) -> Any:
    """A message out of band."""
    return Push(values) if client.resp == 3 else values
