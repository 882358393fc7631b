"""Commands run by a real redis-server and by the engine, and their answers compared.

    def test_x(both: Differential):
        both.same("SADD", "s", "a", "b")
        both.same("SMEMBERS", "s", by=unordered)
        both.same_state("s")

Answers are compared as they come from the wire: statuses are str, data bytes, numbers int, errors `Refusal`, nil None. What a lock-free reader
answers is asked of a reader too.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shmcache import _engine
from tests.engine.regions import ErrorReply, Regions, execute, new_regions

Argument = bytes | str | int | float
Compare = Callable[[Any, Any], bool]

TOLERANCE_MS = 2000
"""Between the two clocks' readings."""
HISTORY = 30
"""Commands that a failure shows."""
SPECS = {spec.name: spec for spec in _engine.COMMANDS}


@dataclass(frozen=True)
class Refusal:
    """An error reply: its first word, and the rest."""

    code: str
    message: str


# --- ways to compare: the server's answer, the engine's ---------------------------------------------


def exact(theirs: Any, ours: Any) -> bool:
    """The same values of the same types."""
    return type(theirs) is type(ours) and bool(theirs == ours)


def code_only(theirs: Any, ours: Any) -> bool:
    """An error's text may differ, its first word not. All else is exact."""
    if isinstance(theirs, Refusal) and isinstance(ours, Refusal):
        return theirs.code == ours.code
    return exact(theirs, ours)


def unordered(theirs: Any, ours: Any) -> bool:
    """An array in any order."""
    if isinstance(theirs, list) and isinstance(ours, list):
        return sorted(theirs, key=repr) == sorted(ours, key=repr)
    return exact(theirs, ours)


def pairs(theirs: Any, ours: Any) -> bool:
    """A flat array of names and values, the pairs in any order."""
    if isinstance(theirs, list) and isinstance(ours, list):
        return sorted(zip(theirs[::2], theirs[1::2], strict=True)) == sorted(zip(ours[::2], ours[1::2], strict=True))
    return exact(theirs, ours)


def near(tolerance: float) -> Compare:
    """Numbers, also in text, that differ by no more; negative ones (no key, no deadline) are exact."""

    def compare(theirs: Any, ours: Any) -> bool:
        try:
            one, other = float(theirs), float(ours)
        except (TypeError, ValueError):
            return exact(theirs, ours)
        return abs(one - other) <= tolerance if one >= 0 else one == other

    return compare


STATE: dict[str, tuple[tuple[Argument, ...], Compare]] = {
    "string": (("GET",), exact),
    "hash": (("HGETALL",), pairs),
    "list": (("LRANGE", 0, -1), exact),
    "set": (("SMEMBERS",), unordered),
    "zset": (("ZRANGE", 0, -1, "WITHSCORES"), exact),
}
"""TYPE of a key -> the command that shows all of it (the key goes behind its name), and how to compare."""


class RedisSocket:
    """A client that hands out replies as they are: libraries make other things of them."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def command(self, args: list[bytes]) -> Any:
        parts = [b"*%d\r\n" % len(args)]
        parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
        self._socket.sendall(b"".join(parts))
        return self._reply()

    def _reply(self) -> Any:
        line = self._lines.readline()
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest.decode()
            case b"-":
                code, _, message = rest.decode("latin-1").partition(" ")
                return Refusal(code, message)
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._lines.read(int(rest) + 2)[:-2]
            case b"*":
                return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        raise AssertionError(f"no reply: {line!r}")


def to_bytes(arg: Argument) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()


def is_local(args: Sequence[Argument]) -> bool:
    """Whether a reader answers it: one that is not split over shards needs its keys in one slot."""
    spec = SPECS.get(to_bytes(args[0]).decode("latin-1").upper())
    if spec is None or not spec.first_key or "local" not in spec.flags:
        return False
    last = spec.last_key if spec.last_key > 0 else len(args) + spec.last_key
    keys = args[spec.first_key : last + 1 : spec.key_step]
    return spec.split != "none" or len({_engine.key_slot(to_bytes(key)) for key in keys}) <= 1


class Differential:
    """Both, and what they were told."""

    def __init__(self, redis: RedisSocket, regions: Regions) -> None:
        self.redis = redis
        self.regions = regions
        self.owner = regions.create(memory_bytes=64 << 20)
        self.reader = regions.reader()
        self.history: deque[str] = deque(maxlen=HISTORY)

    def close(self) -> None:
        self.redis.close()
        self.owner.close()
        self.regions.close()

    def reset(self) -> None:
        """No keys."""
        self.redis.command([b"FLUSHALL"])
        self.owner.command("FLUSHALL")
        self.history.clear()

    def redis_answer(self, *args: Argument) -> Any:
        return self.redis.command([to_bytes(arg) for arg in args])

    def engine_answer(self, *args: Argument, local: bool = False) -> Any:
        """`local`: the reader's."""
        try:
            return (self.reader if local else self.owner).command(*[to_bytes(arg) for arg in args])
        except _engine.CommandError as error:
            # On the wire an error is one line.
            return Refusal(error.code, error.message.replace("\r", " ").replace("\n", " "))

    def same(self, *args: Argument, by: Compare = exact) -> Any:
        """Run the command in both, fail unless they agree. Returns the server's answer."""
        theirs, ours = self.redis_answer(*args), self.engine_answer(*args)
        self.history.append(f"{brief([to_bytes(arg) for arg in args])} -> {brief(theirs)}")
        self._hold(args, theirs, ours, by, "engine")
        if is_local(args):
            # A reader may send its client to the owner: it does not know the order of large collections.
            with contextlib.suppress(_engine.Busy):
                self._hold(args, theirs, self.engine_answer(*args, local=True), by, "reader")
        return theirs

    def same_transaction(self, commands: Sequence[Sequence[Argument]], *, by: Compare = exact) -> None:
        """Run the commands as one transaction in both, fail unless the answers to each agree."""
        self.redis_answer("MULTI")
        for args in commands:
            self.redis_answer(*args)
        theirs = self.redis_answer("EXEC")
        ours = execute(self.owner, [[to_bytes(arg) for arg in args] for args in commands], _engine.FLAG_TRANSACTION)
        for args, their, our in zip(commands, theirs, ours, strict=True):
            self.history.append(f"{brief([to_bytes(arg) for arg in args])} -> {brief(their)}")
            self._hold(tuple(args), their, Refusal(our.code, our.message) if isinstance(our, ErrorReply) else our, by, "engine")

    def _hold(self, args: tuple[Argument, ...], theirs: Any, ours: Any, by: Compare, who: str) -> None:
        if not by(theirs, ours):
            before = "\n  ".join(self.history)
            raise AssertionError(f"{brief(args)}: Redis {brief(theirs)}, {who} {brief(ours)}; after\n  {before}")

    def all_same(self, *lines: str, by: Compare = exact) -> None:
        """Commands written as lines, arguments between blanks."""
        for line in lines:
            self.same(*line.split(), by=by)

    def same_state(self, *keys: Argument) -> None:
        """These keys hold the same, and die at about the same time."""
        for key in keys:
            kind = self.same("TYPE", key)
            if kind in STATE:
                (name, *rest), by = STATE[kind]
                self.same(name, key, *rest, by=by)
            self.same("PTTL", key, by=near(TOLERANCE_MS))


def brief(thing: Any) -> str:
    text = repr(thing)
    return text if len(text) < 300 else f"{text[:200]} ... {text[-60:]}"


@contextlib.contextmanager
def differential(program: str) -> Iterator[Differential]:
    """An empty redis-server, started from `program` at a socket of its own, and an empty engine."""
    folder = Path(tempfile.mkdtemp(prefix="shmcache-redis-"))
    path = folder / "redis"
    command = [program, "--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 10
            while True:
                try:
                    client = RedisSocket(path)
                    break
                except OSError:
                    assert process.poll() is None, "redis-server ended at once"
                    assert time.monotonic() < until, "redis-server does not answer"
                    time.sleep(0.01)
            both = Differential(client, new_regions())
            try:
                yield both
            finally:
                both.close()
        finally:
            process.kill()
            shutil.rmtree(folder, ignore_errors=True)
