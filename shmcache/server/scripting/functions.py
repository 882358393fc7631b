"""Libraries of functions: FUNCTION, and the functions that FCALL finds.

The truth is one file beside the instance's sockets (server/libraries.py): shard 0 alone writes it, and every worker looks before each call whether it is
another one. So a library is there for all shards at once, and after a worker was started again.
"""

import re
import shlex
import zlib
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from ...errors import CommandFailed, ResponseError
from ...limits import LIBRARIES_BYTES_MAX, LIBRARIES_MAX, SCRIPT_BYTES_MAX
from ...protocol.channels import compile_glob
from ..libraries import LibrariesFile, check
from .runtime import Runtime, TimeIsUp

_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_FLAGS: Final = frozenset({"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"})
_BAD_NAME: Final = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
_DUMP: Final = b"SHMF1"
CHANGING: Final = frozenset({b"LOAD", b"DELETE", b"FLUSH", b"RESTORE"})
"""Subcommands of FUNCTION that a replica refuses: it has its primary's libraries."""
_HELP: Final = ("FUNCTION <subcommand> [<arg> [value] ...]. Subcommands: DELETE, DUMP, FLUSH, KILL, LIST, LOAD, RESTORE, STATS",)


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    description: str
    flags: tuple[str, ...]


@dataclass(slots=True)
class Library:
    name: str
    text: bytes
    functions: list[Function]


def library_head(text: bytes) -> tuple[str, bytes]:
    """(Name, text without its first line) of a library. Raises CommandFailed."""
    if not text.startswith(b"#!"):
        raise CommandFailed("ERR", "Missing library metadata")
    line, _, rest = text.partition(b"\n")
    try:
        # A name may stand in quotes.
        words = shlex.split(line.decode("utf-8", "replace"))
    except ValueError:
        raise CommandFailed("ERR", "Invalid library metadata") from None
    engine = words[0][2:]
    name = None
    for word in words[1:]:
        if not word.lower().startswith("name="):
            raise CommandFailed("ERR", f"Invalid metadata value given: {word}")
        if name is not None:
            raise CommandFailed("ERR", "Invalid metadata value, name argument was given multiple times")
        name = word[5:]
    if name is None:
        raise CommandFailed("ERR", "Library name was not given")
    if not _NAME.fullmatch(name):
        raise CommandFailed("ERR", _BAD_NAME)
    if engine.lower() != "lua":
        raise CommandFailed("ERR", f"Engine '{engine}' not found")
    return name, b"\n" + rest


class Functions:
    """What one worker knows of them."""

    def __init__(self, file: LibrariesFile) -> None:
        self._file = file
        self._seen: tuple[int, ...] | None = ()
        self._libraries: dict[str, Library] = {}
        self._by_name: dict[str, Function] = {}
        """By the name in lower case: functions are called in any."""

    def forget(self) -> None:
        """Lua has begun anew: load all of them again when they are needed."""
        self._seen = ()
        self._libraries, self._by_name = {}, {}

    # --- the file -----------------------------------------------------------------------------------
    def refresh(self, lua: Runtime) -> None:
        """Know what the file says now."""
        version = self._file.version()
        if version == self._seen:
            return
        try:
            texts = check(self._file.read())
        except (OSError, ValueError) as error:
            raise CommandFailed("ERR", f"the libraries cannot be read: {error}") from None
        for library in self._libraries.values():
            for function in library.functions:
                lua.drop(function.name)
        self._libraries, self._by_name = {}, {}
        for text in texts:
            self._load(lua, text)
        self._seen = version

    def _save(self, lua: Runtime) -> None:
        try:
            self._file.write(msgpack.packb([library.text for library in self._libraries.values()]))
        except OSError as error:
            self.forget()
            raise CommandFailed("ERR", f"the libraries cannot be kept: {error.strerror}") from None
        self._seen = self._file.version()

    # --- libraries ----------------------------------------------------------------------------------
    def find(self, lua: Runtime, name: str) -> Function:
        """Raises CommandFailed."""
        self.refresh(lua)
        function = self._by_name.get(name.lower())
        if function is None:
            raise CommandFailed("ERR", "Function not found")
        return function

    def _load(self, lua: Runtime, text: bytes, *, replace: bool = False) -> Library:
        """Take a library in; nothing is changed if that fails. Raises CommandFailed."""
        name, body = library_head(text)
        old = self._libraries.get(name)
        if old is not None and not replace:
            raise CommandFailed("ERR", f"Library '{name}' already exists")
        theirs = self._by_name.keys() - {function.name.lower() for function in (old.functions if old else ())}
        found: dict[str, Function] = {}

        def register(function: str, description: str, flags: list[str]) -> str | None:
            if not _NAME.fullmatch(function):
                return _BAD_NAME
            if function in found:
                return "Function already exists in the library"
            if set(flags) - _FLAGS:
                return "unknown flag given"
            found[function] = Function(function, description, tuple(flags))
            return None

        lua.register = register
        try:
            failed = lua.load(body)
        except TimeIsUp:
            raise CommandFailed("ERR", "FUNCTION LOAD timeout") from None
        if isinstance(failed, str):
            raise CommandFailed("ERR", f"Error compiling function: {failed}")
        if isinstance(failed, ResponseError):
            raise CommandFailed("ERR", f"Error registering functions: {failed.code} {failed.message}".replace("functions: ERR ERR", "functions: ERR"))
        if not found:
            raise CommandFailed("ERR", "No functions registered")
        clash = next((function for function in found if function.lower() in theirs), None)
        if clash is not None:
            raise CommandFailed("ERR", f"Function {clash} already exists")
        self._remove(lua, name)
        lua.accept()
        library = self._libraries[name] = Library(name, text, list(found.values()))
        self._by_name |= {function.name.lower(): function for function in found.values()}
        return library

    def _remove(self, lua: Runtime, name: str) -> None:
        old = self._libraries.pop(name, None)
        for function in old.functions if old else ():
            lua.drop(function.name)
            self._by_name.pop(function.name.lower(), None)

    def _check_room(self, more: int) -> None:
        if len(self._libraries) >= LIBRARIES_MAX or more + sum(len(one.text) for one in self._libraries.values()) > LIBRARIES_BYTES_MAX:
            raise ResponseError("LIMIT", f"there are at most {LIBRARIES_MAX} libraries of {LIBRARIES_BYTES_MAX} bytes together")

    # --- FUNCTION -----------------------------------------------------------------------------------
    def command(self, lua: Runtime, args: list[bytes]) -> Any:
        """One FUNCTION command. Raises ResponseError."""
        self.refresh(lua)
        word = args[1].upper().decode("latin-1")
        rest = args[2:]
        match word:
            case "LOAD" if rest:
                return self._load_command(lua, rest)
            case "DELETE" if len(rest) == 1:
                name = rest[0].decode("latin-1")
                if name not in self._libraries:
                    raise CommandFailed("ERR", "Library not found")
                self._remove(lua, name)
                self._save(lua)
                return "OK"
            case "FLUSH" if len(rest) < 2:
                if rest and rest[0].upper() not in (b"SYNC", b"ASYNC"):
                    raise CommandFailed("ERR", "FUNCTION FLUSH only supports SYNC|ASYNC option")
                for name in list(self._libraries):
                    self._remove(lua, name)
                self._save(lua)
                return "OK"
            case "LIST":
                return self._list(rest)
            case "STATS" if not rest:
                counts = {b"libraries_count": len(self._libraries), b"functions_count": len(self._by_name)}
                return {b"running_script": None, b"engines": {b"LUA": counts}}
            case "DUMP" if not rest:
                body = _DUMP + msgpack.packb([library.text for library in self._libraries.values()])
                return body + zlib.crc32(body).to_bytes(4, "little")
            case "RESTORE" if len(rest) in (1, 2):
                return self._restore(lua, rest)
            case "KILL" if not rest:
                # Who asks here is not kept waiting by a script.
                raise ResponseError("NOTBUSY", "No scripts in execution right now.")
            case "HELP":
                return list(_HELP)
        if (word == "FLUSH" and rest) or (word == "RESTORE" and len(rest) > 2):
            raise CommandFailed("ERR", f"unknown subcommand or wrong number of arguments for '{args[1].decode('latin-1')}'. Try FUNCTION HELP.")
        if word in ("LOAD", "DELETE", "FLUSH", "STATS", "DUMP", "RESTORE", "KILL"):
            raise CommandFailed("ERR", f"wrong number of arguments for 'function|{word.lower()}' command")
        raise CommandFailed("ERR", f"unknown subcommand '{args[1].decode('utf-8', 'replace')}'. Try FUNCTION HELP.")

    def _load_command(self, lua: Runtime, rest: list[bytes]) -> bytes:
        for option in rest[:-1]:
            if option.upper() != b"REPLACE":
                raise CommandFailed("ERR", f"Unknown option given: {option.decode('utf-8', 'replace')}")
        text = rest[-1]
        if len(text) > SCRIPT_BYTES_MAX:
            raise ResponseError("LIMIT", f"a library has at most {SCRIPT_BYTES_MAX} bytes")
        self._check_room(len(text))
        library = self._load(lua, text, replace=len(rest) > 1)
        self._save(lua)
        return library.name.encode()

    def _list(self, rest: list[bytes]) -> list[Any]:
        with_code, pattern = False, None
        left = list(rest)
        while left:
            option = left.pop(0)
            if option.upper() == b"WITHCODE" and not with_code:
                with_code = True
            elif option.upper() == b"LIBRARYNAME" and pattern is None:
                if not left:
                    raise CommandFailed("ERR", "library name argument was not given")
                pattern = compile_glob(left.pop(0))
            else:
                raise CommandFailed("ERR", f"Unknown argument {option.decode('utf-8', 'replace')}")
        found: list[Any] = []
        for library in self._libraries.values():
            if pattern is not None and not pattern.fullmatch(library.name.encode()):
                continue
            functions = [
                {b"name": one.name.encode(), b"description": one.description.encode() or None, b"flags": [flag.encode() for flag in one.flags]}
                for one in library.functions
            ]
            shown: dict[bytes, Any] = {b"library_name": library.name.encode(), b"engine": b"LUA", b"functions": functions}
            found.append(shown | {b"library_code": library.text} if with_code else shown)
        return found

    def _restore(self, lua: Runtime, rest: list[bytes]) -> str:
        policy = rest[1].upper() if len(rest) == 2 else b"APPEND"
        if policy not in (b"APPEND", b"REPLACE", b"FLUSH"):
            raise CommandFailed("ERR", "Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
        body, check = rest[0][:-4], rest[0][-4:]
        if not body.startswith(_DUMP) or zlib.crc32(body).to_bytes(4, "little") != check:
            raise CommandFailed("ERR", "DUMP payload version or checksum are wrong")
        texts = msgpack.unpackb(body[len(_DUMP) :])
        before = [library.text for library in self._libraries.values()]
        try:
            if policy == b"FLUSH":
                for name in list(self._libraries):
                    self._remove(lua, name)
            for text in texts:
                self._check_room(len(text))
                if policy != b"REPLACE" and (name := library_head(text)[0]) in self._libraries:
                    raise CommandFailed("ERR", f"Library {name} already exists")
                self._load(lua, text, replace=policy == b"REPLACE")
        except ResponseError:
            for name in list(self._libraries):
                self._remove(lua, name)
            for text in before:
                self._load(lua, text)
            raise
        self._save(lua)
        return "OK"
