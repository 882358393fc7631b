"""SUBSCRIBE and its family, PUBLISH, PUBSUB: on the channels of the hub."""

from typing import Any

from ...client.hub import asking, publishing
from ...errors import BadChannel, CommandFailed, ShmcacheError
from ...protocol.channels import CHANNEL, PATTERN, SHARD
from .arguments import word
from .connection import NO_REPLY, Connection
from .replies import Push
from .rows import Handler, command, unknown_subcommand, wrong_arity
from .subscriber import Subscriber

_FLAGS = ("pubsub", "noscript", "loading", "stale", "no_multi")


def _tell(client: Connection, what: bytes, name: bytes | None, kind: bytes) -> None:
    channels, patterns, shards = client.subscriber.counts if client.subscriber is not None else (0, 0, 0)
    # Also to one that asked for silence by CLIENT REPLY OFF, as Redis does: this is a message, not a reply.
    client.push(Push([what, name, shards if kind == SHARD else channels + patterns]))


def _subscribing(what: bytes, kind: bytes) -> Handler:
    async def subscribe(client: Connection, args: list[bytes]) -> Any:
        if client.subscriber is None:
            client.subscriber = Subscriber(client)
        subscriber = client.subscriber
        before = dict(subscriber.topics[kind])
        await subscriber.subscribe(kind, args[1:])
        # Told one by one, with the number that there were then.
        now, subscriber.topics[kind] = subscriber.topics[kind], before
        for name in args[1:]:
            before[name] = None
            _tell(client, what, name, kind)
        subscriber.topics[kind] = now
        client.refresh()
        subscriber.release()
        return NO_REPLY

    return subscribe


def _unsubscribing(what: bytes, kind: bytes) -> Handler:
    async def unsubscribe(client: Connection, args: list[bytes]) -> Any:
        subscriber = client.subscriber
        names = args[1:] or (list(subscriber.topics[kind]) if subscriber is not None else [])
        if subscriber is not None:
            before = dict(subscriber.topics[kind])
            await subscriber.unsubscribe(kind, names)
            now, subscriber.topics[kind] = subscriber.topics[kind], before
        for name in names:
            if subscriber is not None:
                before.pop(name, None)
            _tell(client, what, name, kind)
        if subscriber is not None:
            subscriber.topics[kind] = now
        if not names:
            _tell(client, what, None, kind)
        if subscriber is not None and not subscriber.total:
            subscriber.close()
            client.subscriber = None
        client.refresh()
        return NO_REPLY

    return unsubscribe


for _name, _kind in (("SUBSCRIBE", CHANNEL), ("PSUBSCRIBE", PATTERN), ("SSUBSCRIBE", SHARD)):
    _low = _name.lower().encode()
    command(_name, -2, "Receive what is published.", *_FLAGS, always=True)(_subscribing(_low, _kind))
    _un = _name.replace("SUB", "UNSUB")
    command(_un, -1, "Receive it no longer.", *_FLAGS, always=True)(_unsubscribing(_un.lower().encode(), _kind))


async def _publish(client: Connection, args: list[bytes]) -> Any:
    name = word(args[0])
    try:
        return (await client.gateway.ask_hub(publishing(((name, args[1], args[2]),))))[0]
    except BadChannel as error:
        raise CommandFailed("ERR", str(error)) from None


command("PUBLISH", 3, "Send a message to all subscribers of a channel.", "pubsub", "fast", "loading", "stale")(_publish)
command("SPUBLISH", 3, "The same to a shard channel.", "pubsub", "fast", "loading", "stale")(_publish)


@command("PUBSUB", -2, "CHANNELS, NUMSUB, NUMPAT, SHARDCHANNELS, SHARDNUMSUB.", "pubsub", "loading", "stale")
async def pubsub(client: Connection, args: list[bytes]) -> Any:
    name = word(args[1])
    match name, len(args):
        case "CHANNELS" | "SHARDCHANNELS", 2 | 3:
            words = (*args[2:],) or (b"*",)
        case "NUMPAT", 2:
            words = ()
        case "NUMSUB" | "SHARDNUMSUB", _:
            words = (*args[2:],)
        case "CHANNELS" | "SHARDCHANNELS" | "NUMPAT", _:
            raise wrong_arity(f"pubsub|{name}")
        case _:
            raise unknown_subcommand(args)
    try:
        return (await client.gateway.ask_hub(asking(("PUBSUB", name, *words))))[0]
    except ShmcacheError as error:
        raise CommandFailed("ERR", str(error)) from None
