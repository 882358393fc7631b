"""CURVE keys: the files they stand in, and what a socket needs of them (docs/security.md).

A key pair is the file `NAME.key` (public and secret, mode 0600) beside `NAME.pub` (public alone), both in the
certificate format of ZeroMQ. Keys are handled as Z85, 40 printable bytes, as ZeroMQ takes them.
"""

import ipaddress
import os
import re
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from ..errors import ConfigError
from ..limits import ALLOWED_BYTES_MAX, ALLOWED_KEYS_MAX
from .secret_files import check_private

KEY_CHARS: Final = 40
ZAP_DOMAIN: Final = "shmcache"
_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,120}")
_LOOPBACK_NAMES: Final = ("localhost", "lo")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both halves in Z85."""

    public: bytes
    secret: bytes = field(repr=False)


def check_name(name: str) -> str:
    """A name that is a file's name and a word on a line. Raises ConfigError."""
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise ConfigError(f"{name!r}: a key's name is 1 to 120 letters, digits and . _ - : [ ]")
    return name


def is_key(text: str | bytes) -> bool:
    """Whether it is a key in Z85."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    try:
        return len(data) == KEY_CHARS and len(z85.decode(data)) == 32
    except (KeyError, struct.error):
        return False


def generate(folder: Path | str, name: str) -> tuple[Path, Path]:
    """Make a key pair; returns (secret file, public file). Raises ConfigError: it replaces none."""
    from zmq.auth.certs import create_certificates

    folder, name = Path(folder), check_name(name)
    secret, public = folder / f"{name}.key", folder / f"{name}.pub"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The library's files are readable by all at first: they are made where nobody else can look.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as private:
            made_public, made_secret = create_certificates(private, name)
            os.chmod(made_secret, 0o600)
            os.chmod(made_public, 0o644)
            os.link(made_secret, secret)
            os.link(made_public, public)
    except OSError as error:
        raise ConfigError(f"{secret} and {public.name} cannot be made: {error.strerror}") from None
    return secret, public


def load_keypair(path: Path | str) -> KeyPair:
    """The pair of a `.key` file. Raises ConfigError, also if anyone but its owner may read it."""
    check_private("key file", path)
    public, secret = _load(path)
    if secret is None:
        raise ConfigError(f"key file {path} holds no secret key: give the .key file, not the .pub file")
    if zmq.curve_public(secret) != public:
        raise ConfigError(f"key file {path}: its two keys are not a pair")
    return KeyPair(public, secret)


def public_key(text: Path | str) -> bytes:
    """The key that `text` is, or that stands in the file of that name. Raises ConfigError."""
    if is_key(str(text)) and not os.path.isfile(text):
        return str(text).encode()
    return _load(text)[0]


def _load(path: Path | str) -> tuple[bytes, bytes | None]:
    from zmq.auth.certs import load_certificate

    try:
        if os.path.getsize(path) > ALLOWED_BYTES_MAX:
            raise ConfigError(f"key file {path} is over {ALLOWED_BYTES_MAX} bytes")
        public, secret = load_certificate(path)
    except OSError as error:
        raise ConfigError(
            f"{path} is neither a public key nor a readable key file: {error.strerror or error}"
        ) from None
    except ValueError:
        raise ConfigError(f"key file {path} holds no public key") from None
    if not is_key(public) or not (secret is None or is_key(secret)):
        raise ConfigError(f"key file {path}: a key is {KEY_CHARS} characters of Z85")
    return public, secret


def load_allowed(path: Path | str) -> dict[bytes, str]:
    """Public key -> name: of a folder's `.pub` files, or of a file of lines `KEY NAME`. Raises ConfigError.

    In such a file a word `#` begins a comment (a key may begin with that character).
    """
    path = Path(path)
    try:
        if path.is_dir():
            found = [
                (_load(file)[0], file.stem) for file in sorted(path.glob("*.pub"))[: ALLOWED_KEYS_MAX + 1]
            ]
        elif path.stat().st_size > ALLOWED_BYTES_MAX:
            raise ConfigError(f"{path} is over {ALLOWED_BYTES_MAX} bytes")
        else:
            found = _lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"public keys of {path}: {getattr(error, 'strerror', error)}") from None
    if len(found) > ALLOWED_KEYS_MAX:
        raise ConfigError(f"{path} holds more than {ALLOWED_KEYS_MAX} keys")
    return dict(found)


def _lines(path: Path) -> list[tuple[bytes, str]]:
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words or words[0] == "#":
            continue
        if not is_key(words[0]):
            raise ConfigError(
                f"{path}, line {number}: expected KEY NAME, a key being {KEY_CHARS} characters of Z85"
            )
        found.append((words[0].encode(), words[1] if len(words) > 1 else f"line {number}"))
    return found


def authorize(path: Path | str, key: bytes, name: str) -> Path:
    """Add a public key to a folder (made if nothing is there) or a file; returns the file.

    Raises ConfigError.
    """
    path, name = Path(path), check_name(name)
    known = load_allowed(path) if path.exists() else {}
    if key in known:
        raise ConfigError(f"{path} holds this key already, as {known[key]!r}")
    if name in known.values():
        raise ConfigError(f"{path} holds another key of the name {name!r}")
    line = f"{key.decode()} {name}\n"
    if not path.is_file():
        path, text = path / f"{name}.pub", f'curve\n    public-key = "{key.decode()}"\n'
    else:
        old = path.read_text()
        text = old + ("" if old.endswith("\n") or not old else "\n") + line
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # By rename: a server that reads it at this moment sees the old or the new one.
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return path


def host_of(endpoint: str) -> str:
    """`HOST` of `tcp://HOST:PORT`, without the brackets of IPv6."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def is_loopback(endpoint: str) -> bool:
    """Whether only this host can be at the other end. No name is looked up: it counts as another host."""
    if not endpoint.startswith("tcp://"):
        return True
    host = host_of(endpoint)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES


def needs_curve(mode: str, endpoint: str) -> bool:
    """What `auto`, `on` or `off` means for an endpoint. Unix sockets stay plain: their mode guards them."""
    if not endpoint.startswith("tcp://"):
        return False
    return mode == "on" or (mode == "auto" and not is_loopback(endpoint))


def secure_server(socket: "zmq.Socket[bytes]", keys: KeyPair) -> None:
    """From now on the socket binds with CURVE, and lets in whom the context's authenticator knows.

    Without an authenticator it lets in nobody (ZAP_ENFORCE_DOMAIN): ZeroMQ alone would let in everybody.
    """
    socket.curve_server = True
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret
    socket.zap_domain = ZAP_DOMAIN.encode()
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: "zmq.Socket[bytes]", keys: KeyPair, server_public: bytes) -> None:
    """From now on the socket connects with CURVE, and only to the holder of that server key."""
    socket.curve_serverkey = server_public
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret


def peer_key(known: Mapping[str, bytes] | bytes, endpoint: str) -> bytes | None:
    """The server key of a peer: by HOST:PORT, else by HOST, else the one for all."""
    if isinstance(known, bytes):
        return known
    return known.get(endpoint.removeprefix("tcp://")) or known.get(host_of(endpoint))


def load_peers(text: str) -> Mapping[str, bytes] | bytes:
    """Server keys of peers: one key (or its file), or a folder or list as `load_allowed`, named by host."""
    if text and Path(text).exists():
        try:
            return {name: key for key, name in load_allowed(text).items()}
        except ConfigError:
            if Path(text).is_dir():
                raise
    return public_key(text) if text else {}
