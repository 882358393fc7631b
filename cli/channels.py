"""`shmcache publish` and `shmcache subscribe`: pub/sub channels from a shell."""

import json
import sys
from typing import Annotated, Any

import typer

from .options import Json, Timeout, Url


def register(app: typer.Typer) -> None:
    app.command("publish")(publish)
    app.command("subscribe")(subscribe)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def publish(
    channel: str,
    message: Annotated[str, typer.Argument(help="The message; - reads it from stdin.")],
    shard: Annotated[bool, typer.Option("--shard", help="To the shard channel of that name.")] = False,
    url: Url = None,
    timeout: Timeout = 5.0,
) -> None:
    """Publish a message; print how many subscriptions it met."""
    from .connection import open_client

    data = sys.stdin.buffer.read() if message == "-" else _bytes(message)
    with open_client(url, timeout) as client:
        send = client.spublish if shard else client.publish
        print(send(_bytes(channel), data))


def subscribe(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL...")],
    pattern: Annotated[
        bool, typer.Option("--pattern", "-p", help="The names are patterns (news.*).")
    ] = False,
    shard: Annotated[bool, typer.Option("--shard", help="The names are those of shard channels.")] = False,
    replay: Annotated[int, typer.Option("--replay", help="Begin with the last so many messages.", min=0)] = 0,
    count: Annotated[
        int, typer.Option("--count", "-c", help="End after so many messages; 0: never.", min=0)
    ] = 0,
    as_json: Json = False,
    url: Url = None,
    timeout: Timeout = 5.0,
) -> None:
    """Print messages as they come, one a line: channel, number, data. End with Ctrl-C."""
    from .connection import open_client

    names = [_bytes(channel) for channel in channels]
    with open_client(url, timeout) as client, client.pubsub(ignore_subscribe_messages=True) as subscriber:
        if pattern:
            subscriber.psubscribe(*names)
        elif shard:
            subscriber.ssubscribe(*names, replay=replay)
        else:
            subscriber.subscribe(*names, replay=replay)
        print(f"# subscribed to {len(names)}", file=sys.stderr, flush=True)
        for number, message in enumerate(subscriber.listen(), 1):
            print(_line(message, as_json), flush=True)
            if number == count:
                return


def _line(message: dict[str, Any], as_json: bool) -> str:
    from .reply import quoted

    if as_json:
        return json.dumps(
            {k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in message.items()}
        )
    channel = quoted(message["channel"])
    if message["type"] == "missed":
        return f"# {channel}: {'unknown how many' if message['data'] is None else message['data']} missed"
    return f"{channel} {message['seq']} {quoted(message['data'])}"
