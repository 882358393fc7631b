"""Libraries of functions on disk: a file of one block (blocks.py), compressed and encrypted as all else is.

    DATA_DIR/libraries            the newest, written whenever they change
    a snapshot's manifest         the same bytes in base64, as they were when it was begun: so they go where the snapshot goes

What they say themselves is not looked at here: bytes in, the same bytes out.
"""

import base64
import binascii
import contextlib
import io
import secrets
from pathlib import Path
from typing import Final

from ..errors import DamagedFile
from .blocks import BlockKind, BlockReader, BlockWriter, Cipher, FileKind, Head
from .files import Files
from .snapshots import Manifest

NAME: Final = "libraries"
_LEVEL: Final = 3
"""Of zstd."""


def pack(data: bytes, cipher: Cipher | None) -> bytes:
    """The bytes of the file."""
    blocks = BlockWriter(secrets.token_bytes(16), _LEVEL, cipher)
    header = blocks.header(FileKind.LIBRARIES, {})
    return header + blocks.block(Head(BlockKind.LIBRARIES, 0, 0, 0, 0, 0), data) + blocks.block(Head(BlockKind.END, 0, 0, 0, 0, 0), b"")


def unpack(packed: bytes, name: str, cipher: Cipher | None) -> tuple[bytes, str]:
    """The libraries, and with which key they were encrypted ("": none). Raises DamagedFile, WrongKey."""
    reader = BlockReader(io.BytesIO(packed), name, FileKind.LIBRARIES, cipher)
    found = list(reader)
    if [block.head.kind for block in found] != [BlockKind.LIBRARIES, BlockKind.END]:
        raise DamagedFile(name, reader.at, "it is not libraries and an end")
    return reader.records(found[0]), str(reader.meta.get("key", ""))


def in_manifest(data: bytes, cipher: Cipher | None) -> str:
    """As a manifest carries them."""
    return base64.b64encode(pack(data, cipher)).decode()


def of_manifest(manifest: Manifest, cipher: Cipher | None) -> bytes | None:
    """Those of a snapshot; None if it has none, or knows nothing of such. Raises DamagedFile, WrongKey."""
    if not manifest.libraries:
        return None
    name = f"the libraries of snapshot {manifest.number}"
    try:
        packed = base64.b64decode(manifest.libraries, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DamagedFile(name, 0, f"not base64: {error}") from None
    return unpack(packed, name, cipher)[0]


def save(files: Files, folder: Path, data: bytes, cipher: Cipher | None) -> None:
    """On the disk when it returns, whole. Raises OSError; then the ones before are still there."""
    fresh = folder / f"{NAME}.new"
    with contextlib.suppress(FileNotFoundError):
        files.unlink(fresh)
    file = files.create(fresh)
    try:
        file.write(pack(data, cipher))
        file.sync()
    finally:
        file.close()
    files.rename(fresh, folder / NAME)
    files.sync_folder(folder)


def load(folder: Path, cipher: Cipher | None) -> tuple[bytes, str] | None:
    """As `unpack`; None if none were ever saved. Raises DamagedFile, WrongKey, OSError."""
    try:
        packed = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    return unpack(packed, str(folder / NAME), cipher)
