"""Reading traces: every form gives the same requests; a bad line is named."""

import bz2
import gzip
import io
import lzma
from pathlib import Path

import numpy as np
import pytest

from shmcache.cli.bench import trace
from shmcache.errors import ConfigError


@pytest.mark.parametrize(
    ("suffix", "compress"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
def test_text_and_npy_in_each_compression(tmp_path: Path, suffix: str, compress):
    """Text and .npy, plain and compressed, are the same trace."""
    ids = np.array([3, 1, 3, 2], np.uint32)
    stream = io.BytesIO()
    np.save(stream, ids)
    (tmp_path / f"t.npy{suffix}").write_bytes(compress(stream.getvalue()))
    (tmp_path / f"t.txt{suffix}").write_bytes(compress(b"# comment\n3\n1\n\n3\n2\n"))
    assert trace.read(tmp_path / f"t.npy{suffix}").ids.tolist() == [3, 1, 3, 2]
    text = trace.read(tmp_path / f"t.txt{suffix}")
    assert text.ids.tolist() == [0, 1, 0, 2]
    assert text.unique == 3


def test_size_column_and_footprint(tmp_path: Path):
    """The footprint counts each key once, with its first size."""
    path = tmp_path / "t.csv"
    path.write_text("a,10\nb,5\na,99\n")
    read = trace.read(path)
    assert read.sizes is not None
    assert read.sizes.tolist() == [10, 5, 99]
    assert read.footprint_bytes(64) == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [("1\n2 3\n", "line 2"), ("1 5\n# c\n2 x\n", "line 3"), ("1 2 3\n", "line 1"), ("", "no requests")],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str):
    """The error has the file's name and the line's number."""
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        trace.read(path)


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path):
    """Damaged compression and arrays are errors of one kind."""
    for name in ("t.gz", "t.xz", "t.npy"):
        (tmp_path / name).write_bytes(b"not this")
        with pytest.raises(ConfigError, match=name):
            trace.read(tmp_path / name)


def test_shares_are_the_whole_trace_in_turns():
    """Chunks go round among the clients; nothing is lost or doubled."""
    whole = trace.Trace(np.arange(1000, dtype=np.uint64), None)
    parts = [trace.share(whole, client, 3, chunk=64).ids for client in range(3)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert parts[1][0] == 64
