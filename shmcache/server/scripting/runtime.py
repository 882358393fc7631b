"""One Lua of one worker: its functions for the host, the host's functions for it. Says nothing of what a script does to the cache.

Lua's memory is limited while a script runs and only then: an allocation that fails while Python talks to Lua ends the process.
"""

import hashlib
import signal
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

from ...errors import ResponseError
from ...limits import (
    SCRIPT_COROUTINES_NESTED_MAX,
    SCRIPT_DEPTH_MAX,
    SCRIPT_GRACE_S,
    SCRIPT_HOOK_INSTRUCTIONS,
    SCRIPT_MEMORY_BYTES_MAX,
    SCRIPT_NOTICE_S,
    SCRIPT_PATTERN_BYTES_MAX,
)
from . import libraries
from .building import Builder, error_of

REDIS_VERSION: Final = "7.0.15"
_VERSION_NUMBER: Final = 0x0007000F
_LEVELS: Final = ("debug", "debug", "info", "warning")
_NAMES: Final = ("prelude.lua", "libraries.lua", "values.lua")


class TimeIsUp(Exception):
    """A script was ended by its time limit, or by SCRIPT KILL."""


def _deny(_object: Any, _name: Any, _is_setting: bool) -> Any:
    raise AttributeError("scripts reach no objects of the host")


class Runtime:
    """`command` carries out one command of a script: arguments -> value for `to_lua`, or a ResponseError."""

    def __init__(
        self, command: Callable[[list[bytes]], Any], verdict: Callable[[list[bytes]], bool | None], log: Any, time_limit_s: float, marker: Path
    ) -> None:
        """`verdict`: whether the caller may do that; None if there is no such command. `marker`: the file that says that a script runs; the
        same with `.kill` asks for its end.
        """
        self._command, self._verdict, self._log, self._time_limit_s = command, verdict, log, time_limit_s
        self._marker, self._kill = marker, marker.with_suffix(".kill")
        self.builder = Builder()
        self.register: Callable[[str, str, list[str]], str | None] = lambda _name, _text, _flags: None
        self._failed: tuple[str, str, int, bool] | None = None
        self._until = self._noticed = self._started = 0.0
        self._is_marked = False
        self.is_expired = False
        self.is_running = False
        self._what = ""
        self._begin()

    def _begin(self) -> None:
        from lupa import lua51

        lua = self._lua = lua51.LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=False,
            attribute_filter=_deny,
            max_memory=SCRIPT_MEMORY_BYTES_MAX,
        )
        lua.set_max_memory(0)
        self._box = lua.table()
        build = self.builder
        host = {
            "command": self._on_command, "verdict": self._on_verdict, "expired": self._on_expired, "sha1": self._on_sha1, "log": self._on_log,
            "limit": self._on_limit,
            "failed": self._on_failed, "register": self._on_register, "set_resp": self._on_set_resp, "is_over": lambda *_: build.is_over,
            "open": build.open, "close": build.close, "text": build.text, "integer": build.integer, "number": build.number,
            "boolean": build.boolean, "truth": build.truth, "double": build.double, "error": build.error, "status": build.status,
            "none": build.none, "several": build.several, "begin": lambda *_: build.clear(), "library": self._on_library, "bit": libraries.bit,
        }  # fmt: skip
        limits = {
            "memory": SCRIPT_MEMORY_BYTES_MAX,
            "instructions": SCRIPT_HOOK_INSTRUCTIONS,
            "coroutines": SCRIPT_COROUTINES_NESTED_MAX,
            "pattern": SCRIPT_PATTERN_BYTES_MAX,
            "depth": SCRIPT_DEPTH_MAX,
            "version": REDIS_VERSION.encode(),
            "version_number": _VERSION_NUMBER,
        }
        texts = [resources.files(__package__).joinpath(name).read_bytes() for name in _NAMES]
        self._api, shared = lua.execute(texts[0], self._table(host), self._box, self._table(limits), lua.compile(texts[2]))
        self.null = lua.execute(texts[1], shared)
        # Not reachable from scripts, which have an environment of their own; gone all the same.
        for name in (b"python", b"package", b"require", b"os", b"io", b"debug", b"dofile", b"loadfile", b"module", b"newproxy", b"getfenv", b"setfenv"):
            lua.globals()[name] = None

    def _table(self, items: dict[str, Any]) -> Any:
        return self._lua.table_from({name.encode(): value for name, value in items.items()})

    # --- for the worker -----------------------------------------------------------------------------
    def compile(self, sha: str, text: bytes) -> str | None:
        """Keep a script; what is wrong with it, None if nothing."""
        complaint = self._api[b"compile"](sha.encode(), text)
        return None if complaint is None else complaint.decode("utf-8", "replace")

    def forget(self, sha: str) -> None:
        self._api[b"forget"](sha.encode())

    def eval(self, sha: str, keys: list[bytes], argv: list[bytes]) -> Any:
        """The result of a script, or a ResponseError. Raises TimeIsUp."""
        return self._run(b"eval", sha, keys, argv)

    def fcall(self, name: str, keys: list[bytes], argv: list[bytes]) -> Any:
        """The same of a function."""
        return self._run(b"fcall", name, keys, argv)

    def load(self, text: bytes) -> Exception | str | None:
        """Run the text of a library: an error of its running, what is wrong with its text, or None. Raises TimeIsUp."""
        self._enter("a library")
        try:
            complaint = self._api[b"load"](text)
        finally:
            self._leave()
        if complaint is not None:
            return str(complaint.decode("utf-8", "replace"))
        return self._failure("")

    def accept(self) -> None:
        """The functions of the library that was loaded count from now on."""
        self._api[b"accept"]()

    def drop(self, name: str) -> None:
        self._api[b"drop"](name.encode())

    def _run(self, how: bytes, name: str, keys: list[bytes], argv: list[bytes]) -> Any:
        build = self.builder
        build.clear()
        build.is_resp3 = False
        self._enter(name)
        try:
            self._api[how](name.encode(), self._lua.table_from(keys), self._lua.table_from(argv))
        finally:
            self._leave()
        failure = self._failure(name)
        result = build.take()
        return result if failure is None else failure

    def _enter(self, what: str) -> None:
        self._failed = None
        self._what = what
        self.is_expired = self._is_marked = False
        self._started = time.monotonic()
        self._until = self._started + self._time_limit_s
        self._noticed = self._started + SCRIPT_NOTICE_S
        # What the hook cannot end (one call of a function of Lua that takes for ever) the kernel ends, and all of the worker with it.
        signal.setitimer(signal.ITIMER_REAL, self._time_limit_s + SCRIPT_GRACE_S)

    def _leave(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.is_running = False
        self._lua.set_max_memory(0)
        if self._is_marked:
            self._marker.unlink(missing_ok=True)
            self._kill.unlink(missing_ok=True)

    def _failure(self, name: str) -> Exception | None:
        if self.is_expired:
            raise TimeIsUp
        if self._failed is None:
            return None
        text, source, line, is_bare = self._failed
        if "not enough memory" in text:
            # What it made is garbage, but nothing is known of the state of Lua: begin anew.
            self._begin()
            return ResponseErrorReset("ERR", "the script needs too much memory")
        if name and not is_bare:
            text = f"{text} script: {name}, on {source or '@user_script'}:{line}."
        return error_of(text)

    # --- for Lua: nothing raises, nothing is returned but numbers and booleans ---------------------------
    def _put(self, value: Any) -> None:
        self._box[1] = value

    def _on_limit(self, is_on: Any, *_: Any) -> None:
        self.is_running = bool(is_on)
        self._lua.set_max_memory(SCRIPT_MEMORY_BYTES_MAX if is_on else 0)

    def _lifted(self, work: Callable[[], bool]) -> bool:
        self._lua.set_max_memory(0)
        try:
            return work()
        except Exception as error:
            self._log.exception("a function for scripts failed")
            self._put(self._table({"err": f"ERR internal: {error!r}".encode()}))
            return True
        finally:
            if self.is_running:
                self._lua.set_max_memory(SCRIPT_MEMORY_BYTES_MAX)

    def _on_command(self, *args: Any) -> bool:
        return self._lifted(lambda: self._carry_out(list(args)))

    def _on_verdict(self, *args: Any) -> bool:
        """Puts true, false, or nil for a command that there is not."""

        def work() -> bool:
            self._put(self._verdict(list(args)))
            return False

        return self._lifted(work)

    def _carry_out(self, args: list[bytes]) -> bool:
        result = self._command(args)
        self._put(self.to_lua(result))
        return isinstance(result, ResponseError)

    def to_lua(self, value: Any) -> Any:
        """A reply as scripts see it."""
        kind = type(value)
        if kind is bytes or kind is int:
            return value
        if value is None:
            return None if self.builder.is_resp3 else False
        if kind is list or kind is tuple:
            return self._lua.table_from({at: made for at, item in enumerate(value, 1) if (made := self.to_lua(item)) is not None})
        if kind is str:
            return self._table({"ok": value.encode()})
        if isinstance(value, ResponseError):
            return self._table({"err": f"{value.code} {value.message}".encode()})
        if kind is bool:
            return value
        if kind is float:
            return self._table({"double": value})
        if kind is dict:
            return self._table({"map": self._lua.table_from({self.to_lua(key): self.to_lua(item) for key, item in value.items()})})
        return self._table({"set": self._lua.table_from({self.to_lua(item): True for item in value})})

    def _on_expired(self, *_: Any) -> bool:
        if self.is_expired:
            return True
        now = time.monotonic()
        if now >= self._noticed:
            self._notice(now)
        if now >= self._until:
            self.is_expired = True
        return self.is_expired

    def _notice(self, now: float) -> None:
        self._noticed = now + SCRIPT_NOTICE_S / 5
        try:
            if not self._is_marked:
                self._is_marked = True
                self._kill.unlink(missing_ok=True)
                self._marker.write_text(self._what)
            elif self._kill.exists():
                self.is_expired = True
        except OSError:
            # The time limit ends it all the same.
            pass

    def _on_sha1(self, text: bytes, *_: Any) -> bool:
        def work() -> bool:
            self._put(hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())
            return False

        return self._lifted(work)

    def _on_log(self, level: float, text: bytes, *_: Any) -> None:
        getattr(self._log, _LEVELS[int(level)])("script", text=text[:4096].decode("utf-8", "replace"))

    def _on_failed(self, text: bytes, source: bytes, line: Any, is_bare: Any, *_: Any) -> None:
        self._failed = text.decode("utf-8", "replace"), source.decode("utf-8", "replace"), int(line), bool(is_bare)

    def _on_register(self, name: bytes, text: bytes, flags: bytes, *_: Any) -> bool:
        def work() -> bool:
            words = [word for word in flags.decode("latin-1").split(",") if word]
            complaint = self.register(name.decode("latin-1"), text.decode("utf-8", "replace"), words)
            self._put(complaint.encode() if complaint else None)
            return False

        return self._lifted(work)

    def _on_set_resp(self, version: Any, *_: Any) -> None:
        self.builder.is_resp3 = int(version) == 3

    def _on_library(self, name: bytes, *args: Any) -> bool:
        """A function of cjson, cmsgpack or struct: its result is put, or its complaint (True)."""

        def work() -> bool:
            try:
                self._put(libraries.call(name.decode(), self, list(args)))
                return False
            except (ValueError, TypeError, OverflowError, RecursionError, KeyError, IndexError) as error:
                self._put(str(error).encode("utf-8", "replace"))
                return True

        return self._lifted(work)


class ResponseErrorReset(ResponseError):
    """The script's error after which nothing that was loaded is there any more."""
