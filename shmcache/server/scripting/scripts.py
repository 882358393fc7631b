"""The commands of scripts, as a worker carries them out: EVAL and its family, SCRIPT. FUNCTION and FCALL stand in `functions`.

Between two messages of a worker nothing else runs, so that a script is atomic. All its writes are one group of the engine's: a worker that is
killed, and a script that is ended by its time limit, leave nothing of it; a script that fails leaves what it did before, as in Redis.
"""

import hashlib
import signal
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ... import _engine
from ...errors import CommandFailed, ResponseError, from_reply
from ...limits import SCRIPT_BYTES_MAX, SCRIPTS_BYTES_MAX, SCRIPTS_MAX
from ...protocol import codec, frames
from ...protocol.commands import SCRIPTED, TABLE, has_arity
from ...protocol.scripts import ANSWERED_ELSEWHERE, RUN_SCRIPTS, split_user
from ..gateway.shapes import shaped
from ..libraries import LibrariesFile
from .caller import SELECT, Caller, verdict
from .functions import CHANGING, Functions
from .runtime import ResponseErrorReset, Runtime, TimeIsUp

_READS: Final = frozenset({"EVAL_RO", "EVALSHA_RO", "FCALL_RO"})
_FLAGS: Final = frozenset({"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"})
_KILLED: Final = "Script killed by user with SCRIPT KILL, or because it ran for longer than its time limit; nothing of it was done"


def whole_number(text: bytes) -> int:
    """Raises CommandFailed."""
    try:
        return int(text)
    except ValueError:
        raise CommandFailed("ERR", "value is not an integer or out of range") from None


def split_keys(args: list[bytes], complaint: str) -> tuple[list[bytes], list[bytes]]:
    """(Keys, arguments) of EVAL script numkeys ... Raises CommandFailed."""
    try:
        count = int(args[2])
    except ValueError:
        raise CommandFailed("ERR", complaint) from None
    if count < 0:
        raise CommandFailed("ERR", "Number of keys can't be negative")
    if count > len(args) - 3:
        raise CommandFailed("ERR", "Number of keys can't be greater than number of args")
    return args[3 : 3 + count], args[3 + count :]


def script_flags(text: bytes) -> tuple[bytes, frozenset[str] | None]:
    """A script's text without its first line if that begins with `#!`, and its flags; None if it does not. Raises CommandFailed."""
    if not text.startswith(b"#!"):
        return text, None
    line, _, rest = text.partition(b"\n")
    words = line.decode("utf-8", "replace").split()
    if words[0] != "#!lua":
        raise CommandFailed("ERR", f"Unexpected engine in script shebang: {words[0]}")
    flags: set[str] = set()
    for word in words[1:]:
        if not word.startswith("flags="):
            raise CommandFailed("ERR", f"Unknown lua shebang option: {word}")
        for flag in word.removeprefix("flags=").split(","):
            if flag and flag not in _FLAGS:
                raise CommandFailed("ERR", f"Unexpected flag in script shebang: {flag}")
            flags.add(flag)
    return b"\n" + rest, frozenset(flags)


class Scripts:
    """One worker's scripts."""

    def __init__(self, owner: _engine.Owner, settings: dict[str, Any], log: Any) -> None:
        self._owner, self._log = owner, log
        self._limit_s: float = settings["script_time_ms"] / 1000
        self._marker = Path(settings["folder"], f"{settings['instance']}.w{settings['shard']}.script")
        self._lua: Runtime | None = None
        self._known: OrderedDict[str, tuple[bytes, frozenset[str] | None]] = OrderedDict()
        """Text (without shebang) and flags by SHA-1, the one not used for longest first."""
        self._bytes = 0
        self._in_batch = self._is_open = self._may_write = False
        self._caller: Caller | None = None
        """For whom the script runs that runs now; None: somebody who may do everything."""
        self.functions = Functions(LibrariesFile(settings["folder"], settings["instance"], settings["gid"]))
        # A kill request of a former worker concerns nobody.
        self._marker.unlink(missing_ok=True)
        signal.setitimer(signal.ITIMER_REAL, 0)

    @property
    def lua(self) -> Runtime:
        """Begun when the first script comes."""
        if self._lua is None:
            self._lua = Runtime(self._command, lambda args: verdict(self._caller, args), self._log, self._limit_s, self._marker)
        return self._lua

    # --- batches ------------------------------------------------------------------------------------
    def execute(self, payload: bytes, flags: int, prepares: tuple[int, int] | None = None) -> bytes:
        """Run a batch with the flag SCRIPTS: its reply. `prepares`: (token, decider) of a transaction that is to be prepared, not committed.

        Raises ProtocolError, EngineError.
        """
        commands = codec.decode_commands(payload)
        if len(commands) > _engine.MAX_BATCH_COMMANDS:
            raise _engine.EngineError(f"the batch has more than {_engine.MAX_BATCH_COMMANDS} commands")
        self._in_batch = bool(flags & frames.TRANSACTION)
        self._may_write = not flags & frames.READ_ONLY
        if not self._in_batch:
            return codec.encode_results([self._one(command) for command in commands])
        self._open()
        results: list[Any] = []
        try:
            for command in commands:
                results.append(self._one(command))
                if len(results) == 1 and command[0] in ("CHECKSTAMP", b"CHECKSTAMP") and isinstance(results[0], ResponseError):
                    # A check at the head of a transaction decides about all of it.
                    self._abandon()
                    return codec.encode_results(results * len(commands))
        except TimeIsUp:
            return codec.encode_results([CommandFailed("ERR", _KILLED)] * len(commands))
        except BaseException:
            self._abandon()
            raise
        failed = self._commit(prepares)
        return codec.encode_results(results if failed is None else [failed] * len(results))

    def _one(self, command: list[Any]) -> Any:
        """The result of one command of a batch."""
        try:
            command, rights = split_user(command)
            args = [part if type(part) is bytes else str(part).encode() for part in command]
            name = args[0].upper().decode("latin-1")
            if rights is not None and name not in RUN_SCRIPTS:
                raise CommandFailed("ERR", "only what runs a script is carried out for a user")
            self._caller = None if rights is None else Caller(rights)
            if name not in SCRIPTED:
                return self._engine(name, args)
            if not has_arity(TABLE[name], args):  # type: ignore[arg-type]
                raise CommandFailed("ERR", f"wrong number of arguments for '{name.lower()}' command")
            return self._scripted(name, args)
        except ResponseError as error:
            return error

    def _scripted(self, name: str, args: list[bytes]) -> Any:
        reads = name in _READS or not self._may_write
        match name:
            case "EVAL" | "EVAL_RO":
                keys, argv = split_keys(args, "value is not an integer or out of range")
                return self._eval(self.learn(args[1]), keys, argv, reads, name in _READS)
            case "EVALSHA" | "EVALSHA_RO":
                keys, argv = split_keys(args, "value is not an integer or out of range")
                return self._eval(args[1].decode("latin-1").lower(), keys, argv, reads, name in _READS)
            case "SCRIPT":
                return self._script(args)
            case "FUNCTION":
                if args[1].upper() in CHANGING and self._owner.stats()["replica"]:
                    # Refused by the engine as any write is, with the primary's address.
                    self._engine("PERSIST", [b"PERSIST", b""])
                return self.functions.command(self.lua, args)
        keys, argv = split_keys(args, "Bad number of keys provided")
        function = self.functions.find(self.lua, args[1].decode("latin-1"))
        if name == "FCALL_RO" and "no-writes" not in function.flags:
            raise CommandFailed("ERR", "Can not execute a script with write flag using *_ro command.")
        reads = reads or "no-writes" in function.flags
        return self._run(reads, lambda lua: lua.fcall(function.name, keys, argv))

    # --- EVAL, SCRIPT -------------------------------------------------------------------------------
    def learn(self, text: bytes) -> str:
        """Keep a script; its SHA-1. Raises CommandFailed if it is none."""
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        if sha in self._known:
            return sha
        if len(text) > SCRIPT_BYTES_MAX:
            raise ResponseError("LIMIT", f"a script has at most {SCRIPT_BYTES_MAX} bytes")
        body, flags = script_flags(text)
        complaint = self.lua.compile(sha, body)
        if complaint is not None:
            raise CommandFailed("ERR", f"Error compiling script (new function): {complaint}")
        self._known[sha] = body, flags
        self._bytes += len(body)
        while len(self._known) > SCRIPTS_MAX or self._bytes > SCRIPTS_BYTES_MAX:
            old, (gone, _) = self._known.popitem(last=False)
            self._bytes -= len(gone)
            self.lua.forget(old)
        return sha

    def _eval(self, sha: str, keys: list[bytes], argv: list[bytes], reads: bool, is_ro: bool) -> Any:
        known = self._known.get(sha)
        if known is None:
            raise ResponseError("NOSCRIPT", "No matching script. Please use EVAL.")
        self._known.move_to_end(sha)
        flags = known[1]
        if flags is not None and "no-writes" not in flags and is_ro:
            raise CommandFailed("ERR", "Can not execute a script with write flag using *_ro command.")
        return self._run(reads or (flags is not None and "no-writes" in flags), lambda lua: lua.eval(sha, keys, argv))

    def _script(self, args: list[bytes]) -> Any:
        word = args[1].upper()
        if word == b"LOAD" and len(args) == 3:
            return self.learn(args[2]).encode()
        if word == b"EXISTS" and len(args) > 2:
            return [int(sha.decode("latin-1").lower() in self._known) for sha in args[2:]]
        if word == b"FLUSH" and len(args) < 4:
            if len(args) == 3 and args[2].upper() not in (b"SYNC", b"ASYNC"):
                raise CommandFailed("ERR", "SCRIPT FLUSH only support SYNC|ASYNC option")
            self._known.clear()
            self._bytes = 0
            self._begin_anew()
            return "OK"
        if word in (b"LOAD", b"EXISTS", b"FLUSH"):
            raise CommandFailed("ERR", f"wrong number of arguments for 'script|{word.decode().lower()}' command")
        raise CommandFailed("ERR", f"unknown subcommand '{args[1].decode('utf-8', 'replace')}'. Try SCRIPT HELP.")

    def _begin_anew(self) -> None:
        """With a fresh Lua, into which what is known is loaded again."""
        self._lua = None
        self.functions.forget()
        for sha, (text, _) in self._known.items():
            self.lua.compile(sha, text)

    # --- running ------------------------------------------------------------------------------------
    def _run(self, reads: bool, work: Callable[[Runtime], Any]) -> Any:
        """A script's result, its writes done."""
        may_write = self._may_write
        self._may_write = may_write and not reads
        try:
            result = work(self.lua)
        except TimeIsUp:
            self._abandon()
            self._log.warning("a script was ended: it ran for too long, or SCRIPT KILL was called")
            if self._in_batch:
                raise
            raise CommandFailed("ERR", _KILLED) from None
        except BaseException:
            self._abandon()
            raise
        finally:
            self._may_write = may_write
        if isinstance(result, ResponseErrorReset):
            self._begin_anew()
        if self._in_batch:
            return result
        return self._commit() or result

    def _command(self, args: list[bytes]) -> Any:
        """redis.call: one command of a script; its error is a value."""
        name = args[0].upper().decode("latin-1")
        spec = TABLE.get(name)
        try:
            if spec is None:
                if name == "SELECT" and args[1:] == [b"0"]:
                    if self._caller is not None:
                        self._caller.check(SELECT, args)
                    return "OK"
                known = name in ANSWERED_ELSEWHERE
                text = "This Redis command is not allowed from script" if known else "Unknown Redis command called from script"
                raise CommandFailed("ERR", text)
            if not has_arity(spec, args):  # type: ignore[arg-type]
                raise CommandFailed("ERR", "Wrong number of args calling Redis command from script")
            if "noscript" in spec.flags or "blocking" in spec.flags:
                raise CommandFailed("ERR", "This Redis command is not allowed from script")
            if self._caller is not None:
                self._caller.check(spec, args)
            result = self._engine(name, args)
        except ResponseError as error:
            return error
        return shaped(3, name, args, result) if self.lua.builder.is_resp3 else result

    def _engine(self, name: str, args: list[bytes]) -> Any:
        """One command by the engine. Raises ResponseError."""
        spec = TABLE.get(name)
        if spec is not None and "write" in spec.flags:
            if not self._may_write:
                raise CommandFailed("ERR", "Write commands are not allowed from read-only scripts.")
            if not self._is_open and self._running_script:
                self._open()
        try:
            return self._owner.command(*args)
        except _engine.CommandError as error:
            if error.code == "MOVED":
                raise ResponseError("CROSSSLOT", "Script attempted to access a key of another shard: declare all keys, with one {hash tag}") from None
            raise from_reply(error.code, error.message) from None

    @property
    def _running_script(self) -> bool:
        return self._lua is not None and self._lua.is_running

    def _open(self) -> None:
        self._owner.begin_group()
        self._is_open = True

    def _abandon(self) -> None:
        if self._is_open:
            self._is_open = False
            self._owner.abandon_group()

    def _commit(self, prepares: tuple[int, int] | None = None) -> ResponseError | None:
        """Make the writes real, or ready for it; why not."""
        if not self._is_open:
            return None
        self._is_open = False
        try:
            if prepares is None:
                self._owner.commit_group()
            else:
                self._owner.prepare_group(*prepares)
        except _engine.CommandError as error:
            return from_reply(error.code, error.message)
        return None
