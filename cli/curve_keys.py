"""`shmcache keys`: make, show and authorize CURVE keys (docs/security.md); make keys for data on disk (docs/persistence.md)."""

from pathlib import Path
from typing import Annotated

import typer

Authorized = Annotated[
    Path,
    typer.Option(
        "--authorized",
        envvar="SHMCACHE_AUTHORIZED",
        help="The server's list: folder of .pub files, or a file of lines.",
    ),
]

keys = typer.Typer(no_args_is_help=True, help="Make, show and authorize the keys of servers and clients.")


def register(app: typer.Typer) -> None:
    app.add_typer(keys, name="keys")


@keys.command()
def generate(
    name: Annotated[
        str, typer.Argument(help="Of the key pair: NAME.key is secret, NAME.pub may be given away.")
    ] = "",
    folder: Annotated[Path, typer.Option("--folder", help="Where the files go.")] = Path(),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Make a key that encrypts data on disk instead, for --data-key-file.")
    ] = None,
) -> None:
    """Make a key pair, or with --data a key for data on disk. Files that exist are not replaced."""
    if (data is None) == (not name):
        raise typer.BadParameter("give either a NAME for a key pair, or --data FILE for a data key")
    if data is not None:
        from shmcache.persistence.encryption import generate_key_file

        print(f"{data}  secret, key {generate_key_file(data)}: keep a copy, without it the data are lost")
        return
    from shmcache.protocol import curve

    secret, public = curve.generate(folder, name)
    print(f"{secret}  secret: stays on its host\n{public}  {curve.public_key(public).decode()}")


@keys.command(context_settings={"ignore_unknown_options": True})
def show(
    file: Annotated[str, typer.Argument(help="A .key or .pub file.")],
    url: Annotated[bool, typer.Option("--url", help="As it stands in a URL: ?server_key=...")] = False,
) -> None:
    """Print the public key of a file."""
    from urllib.parse import quote

    from shmcache.protocol.curve import public_key

    key = public_key(file).decode()
    print(quote(key, safe="") if url else key)


# A key may begin with a dash, and is no option then.
@keys.command(context_settings={"ignore_unknown_options": True})
def authorize(
    key: Annotated[
        str, typer.Argument(metavar="PUBLICKEY|FILE", help="A public key, or the file that holds it.")
    ],
    name: Annotated[str, typer.Option("--name", help="Whose key it is.")],
    authorized: Authorized,
) -> None:
    """Let the holder of a key connect. A running server takes note within a second."""
    from shmcache.protocol import curve

    print(f"{curve.authorize(authorized, curve.public_key(key), name)}: {name} may connect")


@keys.command("list")
def list_(authorized: Authorized) -> None:
    """Print who may connect: KEY NAME, one a line."""
    from shmcache.protocol.curve import load_allowed

    for key, name in load_allowed(authorized).items():
        print(f"{key.decode()} {name}")
