"""Bars on a terminal: rate and time left are there, and stdout has the result alone."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.support.instance import running_instance
from tests.support.words import environment


def on_a_terminal(*words: str) -> tuple[int, bytes, bytes]:
    """Exit code, stdout, and what a terminal got on stderr."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "shmcache.cli", *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, env=environment(TERM="xterm")) as process:
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 65_536):
                shown += data
        except OSError:
            pass
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(master)
    return process.returncode, out, shown


def test_bars(tmp_path: Path):
    file, record = tmp_path / "in", b'{"key":"%d","value":"' + b"x" * 500 + b'"}\n'
    file.write_bytes(b"".join(record % n for n in range(40_000)))
    with running_instance(workers=1, data_dir=str(tmp_path / "data"), memory="128MB") as instance:
        for words, result in (
            (["snapshot", "import", str(file), instance.name], b"40,000 keys written"),
            (["snapshot", "save", instance.name], b"snapshot 1: 40,000 keys"),
            (["snapshot", "verify", "--name", instance.name], b"no damaged place"),
            (["snapshot", "export", str(tmp_path / "out.zst"), instance.name], b"40,000 keys of instance"),
        ):
            code, out, shown = on_a_terminal(*words)
            assert code == 0, shown
            assert result in out
            assert b"%" not in out
            assert words[1].replace("save", "snapshot").encode() in shown
            assert b"%" in shown
        code, out, shown = on_a_terminal("snapshot", "import", str(file), instance.name)
        assert b"MB/s" in shown or b"KB/s" in shown
        # Time left, in the manner of 0:00:01.
        assert b"0:00:" in shown
