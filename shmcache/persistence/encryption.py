"""Encryption at rest: the blocks of snapshots and log segments, sealed by AES-256-GCM (docs/persistence.md).

A key file holds one key a line, 32 bytes in hex or base64; lines that begin with # are comments. The first key seals, the others only unseal
what was sealed by them, so that a key is replaced by putting a new one in front. Other users must not be able to read the file.

    sealed bytes   key id (8), nonce (12), ciphertext, tag (16)

Every file has a key of its own, derived (HKDF-SHA256) from the file's random id: a random nonce of 96 bits is safe for about 2^32 blocks of one key,
which `aof always` could write within days, but never into one file. What is sealed is bound to its file, place and block head (`context`).
"""

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import ConfigError, WrongKey
from ..limits import DATA_KEYS_MAX, KEY_FILE_BYTES_MAX
from ..protocol.secret_files import read_secret
from .blocks import FILE_ID_BYTES

KEY_BYTES: Final = 32
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_INFO: Final = b"shmcache file key 1"


def key_id(key: bytes) -> bytes:
    """Names a key without giving anything of it away."""
    return hashlib.sha256(b"shmcache key id 1" + key).digest()[:_ID_BYTES]


class FileCipher:
    """A `Cipher` with the keys of one key file. Threads may share it."""

    def __init__(self, keys: Sequence[bytes], name: str) -> None:
        """`name`: of the key file, for errors."""
        self._keys = {key_id(key): key for key in keys}
        self._name = name
        self._first = key_id(keys[0])
        self.key_id = self._first.hex()
        self._last: tuple[bytes, bytes, AESGCM] | None = None

    def _of_file(self, key: bytes, context: bytes) -> AESGCM:
        file_id = context[:FILE_ID_BYTES]
        last = self._last
        if last is not None and last[0] == key and last[1] == file_id:
            return last[2]
        derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=file_id, info=_INFO).derive(self._keys[key])
        cipher = AESGCM(derived)
        # One assignment: other threads see the old one or the new one, never a mixture.
        self._last = key, file_id, cipher
        return cipher

    def knows(self, key_id: str) -> bool:
        """Whether it can unseal what was sealed with that key."""
        return bytes.fromhex(key_id) in self._keys

    def seal(self, data: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._first + nonce + self._of_file(self._first, context).encrypt(nonce, data, context)

    def unseal(self, data: bytes, context: bytes) -> bytes:
        """Raises WrongKey if its key is not in the key file, ValueError if it was altered or is out of place."""
        if len(data) < _ID_BYTES + _NONCE_BYTES + _TAG_BYTES:
            raise ValueError("too short to be sealed")
        key, nonce = data[:_ID_BYTES], data[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        if key not in self._keys:
            raise WrongKey(f"encrypted with key {key.hex()}; {self._name} has {', '.join(known.hex() for known in self._keys)}")
        try:
            return self._of_file(key, context).decrypt(nonce, data[_ID_BYTES + _NONCE_BYTES :], context)
        except InvalidTag:
            raise ValueError("altered") from None


def _parse_key(line: str) -> bytes | None:
    for decode in (bytes.fromhex, lambda text: base64.b64decode(text, validate=True)):
        try:
            key = decode(line)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    return None


def load_cipher(path: str | Path) -> FileCipher:
    """The keys of a key file. Raises ConfigError."""
    text = read_secret("data_key_file:", path, KEY_FILE_BYTES_MAX)
    lines = [line.strip() for line in text.decode("ascii", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(text) > KEY_FILE_BYTES_MAX or not 1 <= len(lines) <= DATA_KEYS_MAX:
        raise ConfigError(f"data_key_file: {path} must hold 1 to {DATA_KEYS_MAX} keys, one a line")
    keys = []
    for line in lines:
        key = _parse_key(line)
        if key is None:
            # The line itself is not shown: it may be a key with a slip in it.
            raise ConfigError(f"data_key_file: {path}: a key is {KEY_BYTES} bytes in hex or base64 (`shmcache keys generate --data FILE` makes one)")
        keys.append(key)
    return FileCipher(keys, str(path))


def generate_key_file(path: Path) -> str:
    """Write a new key to a new file; returns its id. Raises ConfigError if the file exists."""
    key = secrets.token_bytes(KEY_BYTES)
    text = f"# shmcache data key {key_id(key).hex()}: without this file what is encrypted with it is lost\n{key.hex()}\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists: a data key is never replaced") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    with open(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    return key_id(key).hex()
