"""A running Redis into an instance: page by page, and so that an interrupted copy can be gone on with.

A page is what one SCAN gives. When all of a page is written, its successor's cursor is the state; it is noted in a small file. Cursors mean something
to one process of Redis only: after a restart of Redis a copy begins anew.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from shmcache.errors import ConfigError, NotAuthorized, Unavailable
from shmcache.limits import IMPORT_BATCH_BYTES, IMPORT_STATE_S, REDIS_TIMEOUT_S

from .elements import COLLECTIONS, read_pages
from .loading import Counts, ImportFailed, Loader
from .stream import Record

try:
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry
except ImportError:
    raise ConfigError("to copy a Redis, redis-py is needed: pip install 'shmcache[redis]'") from None

_PASSWORD: Final = "REDISCLI_AUTH"
_VERSION: Final = 1
_STATE_BYTES_MAX: Final = 1 << 16
_RETRIES: Final = 3


@dataclass(slots=True)
class State:
    """How far a copy has come. What it is a copy of must be the same when it is gone on with."""

    source: str
    target: str
    match: str
    run_id: str = ""
    """Of the Redis process whose cursor it is."""
    cursor: int = 0
    seen: int = 0
    counts: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        beside = path.with_name(f"{path.name}.new")
        beside.write_text(json.dumps({"version": _VERSION} | asdict(self)))
        os.replace(beside, path)

    def go_on(self, path: Path) -> None:
        """Take up what was noted. Raises ConfigError."""
        try:
            with path.open() as file:
                found = json.loads(file.read(_STATE_BYTES_MAX))
            if found.pop("version") != _VERSION:
                raise ConfigError(f"{path}: this state is of another release; remove it, and begin anew")
            noted = State(**found)
            Counts.from_json(noted.counts)
        except FileNotFoundError:
            raise ConfigError(f"there is nothing to go on with: no {path}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(f"{path} does not hold the state of an import") from None
        for name in ("source", "target", "match"):
            if getattr(noted, name) != getattr(self, name):
                raise ConfigError(f"{path} is of an import with {name} {getattr(noted, name)!r}, not {getattr(self, name)!r}")
        self.run_id, self.cursor, self.seen, self.counts = noted.run_id, noted.cursor, noted.seen, noted.counts


class RedisSource:
    """One database of a Redis. Raises ConfigError (the URL), NotAuthorized, Unavailable, ImportFailed."""

    def __init__(self, url: str) -> None:
        password = os.environ.get(_PASSWORD)
        options: dict[str, Any] = {
            "socket_timeout": REDIS_TIMEOUT_S,
            "socket_connect_timeout": REDIS_TIMEOUT_S,
            "retry": Retry(ExponentialBackoff(cap=1, base=0.1), _RETRIES),
        }
        if password and "@" not in url:
            options["password"] = password
        try:
            database = urlsplit(url).path.strip("/")
            if not url.startswith("unix:") and database and not database.isdecimal():
                # redis-py would take it for database 0.
                raise ValueError(f"{database!r} is not the number of a database")
            self._redis = redis.Redis.from_url(url, **options)
        except (ValueError, redis.RedisError) as error:
            raise ConfigError(f"not redis://[USER:PASSWORD@]HOST:PORT/DATABASE: {error}") from None
        where = self._redis.connection_pool.connection_kwargs
        # Without user and password: this is shown, and noted in files.
        host = where["path"] if "path" in where else f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        self.shown = f"{url.partition('://')[0]}://{host}/{where.get('db', 0)}"
        self.run_id, self.keys = "", 0

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            raise NotAuthorized(f"{self.shown} refuses: {error}") from None
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise Unavailable(f"{self.shown}: {error}") from None
        except redis.RedisError as error:
            raise ImportFailed(f"{self.shown}: {error}") from None

    def open(self) -> None:
        """Connect, and learn what there is."""
        with self._asking():
            self.keys = int(self._redis.dbsize())
            with contextlib.suppress(redis.ResponseError):
                # Where INFO is not allowed, nobody can tell whether a cursor is still good.
                self.run_id = str(self._redis.info("server").get("run_id", ""))

    def scan(self, cursor: int, match: str, count: int) -> tuple[int, list[bytes]]:
        """The next cursor, 0 at the end, and keys."""
        with self._asking():
            found, keys = self._redis.scan(cursor, match=match or None, count=count)
            return int(found), list(keys)

    def records(self, keys: list[bytes]) -> Iterator[Record]:
        """Those that are still there. How long the values are is asked before the values are, so that no answer is larger than a batch."""
        with self._asking():
            asked = self._redis.pipeline(transaction=False)
            for key in keys:
                asked.type(key).strlen(key)
            answers = asked.execute(raise_on_error=False)
        chunk: list[bytes] = []
        size = 0
        for key, kind, length in zip(keys, answers[::2], answers[1::2], strict=True):
            if isinstance(kind, Exception):
                with self._asking():
                    raise kind
            name = kind.decode("utf-8", "replace")
            if name in COLLECTIONS:
                yield from self._collection(key, name)
            elif name not in ("string", "none"):
                yield Record(key, name, None, 0)
            elif kind == b"string":
                length = length if isinstance(length, int) else 0
                if chunk and size + length > IMPORT_BATCH_BYTES:
                    yield from self._values(chunk)
                    chunk, size = [], 0
                chunk.append(key)
                size += length
        yield from self._values(chunk)

    def _collection(self, key: bytes, kind: str) -> Iterator[Record]:
        now_ms = time.time_ns() // 1_000_000
        with self._asking():
            left_ms = int(self._redis.pttl(key))
        expires_ms = now_ms + left_ms if left_ms >= 0 else 0
        pages = read_pages(self._ask, key, kind)
        number = 0
        while True:
            try:
                with self._asking():
                    page = next(pages, None)
            except ImportFailed as error:
                if "WRONGTYPE" in str(error):
                    yield Record(key, "changed while it was read", None, 0)
                    return
                raise
            if page is None:
                return
            yield Record(key, kind, page, expires_ms, number > 0)
            number += 1

    def _ask(self, *args: Any) -> Any:
        return self._redis.execute_command(*args)

    def _values(self, keys: list[bytes]) -> Iterator[Record]:
        if not keys:
            return
        # From before the question: a copy may expire a moment too early, never too late.
        now_ms = time.time_ns() // 1_000_000
        with self._asking():
            asked = self._redis.pipeline(transaction=False)
            for key in keys:
                asked.get(key).pttl(key)
            answers = asked.execute(raise_on_error=False)
        for key, value, left_ms in zip(keys, answers[::2], answers[1::2], strict=True):
            if isinstance(value, redis.ResponseError) and str(value).startswith("WRONGTYPE"):
                yield Record(key, "changed while it was read", None, 0)
                continue
            for answer in (value, left_ms):
                if isinstance(answer, Exception):
                    with self._asking():
                        raise answer
            if value is not None and left_ms != -2:
                yield Record(key, "string", value, now_ms + left_ms if left_ms >= 0 else 0)

    def close(self) -> None:
        self._redis.close()


def copy(
    source: RedisSource,
    loader: Loader,
    state: State,
    path: Path,
    progress: Callable[[float], None],
    say: Callable[[str], None],
    *,
    page: int,
    rate: int,
) -> None:
    """Copy what is left. `state` is noted in `path` however this ends; at the end of the copy the file goes. `rate`: keys/s, 0: any."""
    if state.cursor and (not source.run_id or source.run_id != state.run_id):
        say(f"{source.shown} is another process than the one that the copy was begun from: it begins anew")
        state.cursor, state.seen, state.counts = 0, 0, {}
    state.run_id = source.run_id
    loader.counts = Counts.from_json(state.counts)
    began, seen_before, noted = time.monotonic(), state.seen, 0.0
    try:
        while True:
            cursor, keys = source.scan(state.cursor, state.match, page)
            for record in source.records(keys):
                loader.add(f"after {state.seen} keys", record)
            loader.flush()
            state.counts = loader.counts.to_json()
            state.seen += len(keys)
            state.cursor = cursor
            progress(state.seen)
            if not cursor:
                break
            if time.monotonic() - noted >= IMPORT_STATE_S:
                state.save(path)
                noted = time.monotonic()
            if rate:
                time.sleep(max(0.0, began + (state.seen - seen_before) / rate - time.monotonic()))
    except BaseException:
        if state.cursor:
            state.save(path)
        raise
    path.unlink(missing_ok=True)
