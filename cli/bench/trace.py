"""Recorded cache traces: one key id per request, in order, with an optional size column.

Text (`id` or `id size` per line; blanks, tabs or one comma between; `#` begins a comment line) or `.npy` (one dimension
of ids, or two columns). Each may be compressed: .gz .xz .bz2, and .zst where a library for it is installed. Ids of
text traces may be any words; they are numbered in the order of their first appearance.
"""

import bz2
import gzip
import importlib
import io
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from shmcache.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order: `ids` (uint64) and, if the trace tells them, the values' sizes in bytes."""

    ids: np.ndarray
    sizes: np.ndarray | None

    @property
    def unique(self) -> int:
        return int(np.unique(self.ids).size)

    def footprint_bytes(self, value_bytes: int) -> int:
        """Bytes of values if every key were kept once, each with its first size."""
        if self.sizes is None:
            return self.unique * value_bytes
        _, first = np.unique(self.ids, return_index=True)
        return int(self.sizes[first].sum())


def read(path: Path) -> Trace:
    """Load a trace. Raises ConfigError that names the file and the line, OSError."""
    compression = path.suffix.lower() if path.suffix.lower() in (".gz", ".xz", ".bz2", ".zst") else ""
    name = path.name.removesuffix(path.suffix) if compression else path.name
    try:
        with _open(path, compression) as stream:
            if name.lower().endswith(".npy"):
                # np.load seeks, which costs a decompressor a restart.
                return _from_array(np.load(io.BytesIO(stream.read()), allow_pickle=False), path)
            return _from_text(stream, path)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a trace: {error}") from error


def _open(path: Path, compression: str) -> IO[bytes]:
    match compression:
        case ".gz":
            return gzip.open(path, "rb")
        case ".xz":
            return lzma.open(path, "rb")
        case ".bz2":
            return bz2.open(path, "rb")
        case ".zst":
            for module in ("compression.zstd", "zstandard", "backports.zstd"):
                try:
                    return importlib.import_module(module).open(path, "rb")
                except ImportError:
                    continue
            raise ConfigError(f"{path}: reading .zst needs the package zstandard (pip install zstandard)")
        case _:
            return path.open("rb")


def _from_array(array: np.ndarray, path: Path) -> Trace:
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] not in (1, 2)):
        raise ConfigError(f"{path}: an array of ids or of (id, size) rows is expected, not of shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"{path}: integers are expected, not {array.dtype}")
    columns = array.reshape(len(array), -1)
    if columns.size and int(columns.min()) < 0:
        row = int(np.argwhere((columns < 0).any(axis=1))[0, 0])
        raise ConfigError(f"{path}: row {row + 1}: negative number")
    sizes = columns[:, 1].astype(np.int64) if columns.shape[1] == 2 else None
    return _checked(Trace(columns[:, 0].astype(np.uint64), sizes), path)


def _from_text(stream: IO[bytes], path: Path) -> Trace:
    numbers: dict[bytes, int] = {}
    ids: list[int] = []
    sizes: list[int] = []
    columns = 0
    for line_number, line in enumerate(stream, 1):
        words = line.replace(b",", b" ").split()
        if not words or words[0].startswith(b"#"):
            continue
        columns = columns or len(words)
        if len(words) != columns or columns > 2:
            expected = "one key id and an optional size" if columns > 2 else f"{columns} column(s)"
            raise ConfigError(f"{path}: line {line_number}: {expected} expected, {len(words)} found")
        ids.append(numbers.setdefault(words[0], len(numbers)))
        if columns == 2:
            if not words[1].isdigit():
                raise ConfigError(f"{path}: line {line_number}: size is not a number: {words[1][:40]!r}")
            sizes.append(int(words[1]))
    return _checked(Trace(np.array(ids, np.uint64), np.array(sizes, np.int64) if columns == 2 else None), path)


def _checked(trace: Trace, path: Path) -> Trace:
    if not trace.ids.size:
        raise ConfigError(f"{path}: the trace has no requests")
    return trace


def share(trace: Trace, client: int, clients: int, chunk: int = 64) -> Trace:
    """The requests of one of several clients: chunks in turn, so that all walk through the trace together."""
    mine = (np.arange(len(trace.ids)) // chunk) % clients == client
    return Trace(trace.ids[mine], None if trace.sizes is None else trace.sizes[mine])
