"""The commands for scripts and functions as methods, with redis-py's names and arguments, and scripts as objects."""

import hashlib
from abc import abstractmethod
from typing import Any

from ..errors import ResponseError
from .arguments import Key, Value

Timeout = float | None


class ScriptMethods:
    """Part of `CommandMethods`. A script's keys must belong to one shard; see docs/scripts.md."""

    __slots__ = ()

    @abstractmethod
    def _run(self, args: tuple[Any, ...], timeout: Timeout = None) -> Any: ...

    def eval(self, script: Key, numkeys: int, *keys_and_args: Value, timeout: Timeout = None) -> Any:
        """The script's result: the first `numkeys` of what follows are keys."""
        return self._run(("EVAL", script, numkeys, *keys_and_args), timeout)

    def eval_ro(self, script: Key, numkeys: int, *keys_and_args: Value, timeout: Timeout = None) -> Any:
        """As `eval`, for a script that does not write."""
        return self._run(("EVAL_RO", script, numkeys, *keys_and_args), timeout)

    def evalsha(self, sha: Key, numkeys: int, *keys_and_args: Value, timeout: Timeout = None) -> Any:
        """As `eval`, by the script's SHA-1. Raises ResponseError (NOSCRIPT) if the shard does not know it."""
        return self._run(("EVALSHA", sha, numkeys, *keys_and_args), timeout)

    def evalsha_ro(self, sha: Key, numkeys: int, *keys_and_args: Value, timeout: Timeout = None) -> Any:
        """As `evalsha`, for a script that does not write."""
        return self._run(("EVALSHA_RO", sha, numkeys, *keys_and_args), timeout)

    def script_load(self, script: Key, *, timeout: Timeout = None) -> Any:
        """Have all shards know a script: its SHA-1 in hexadecimal (str)."""
        return self._run(("SCRIPT", "LOAD", script), timeout)

    def script_exists(self, *shas: Key, timeout: Timeout = None) -> Any:
        """List of bools: whether all shards know the script."""
        return self._run(("SCRIPT", "EXISTS", *shas), timeout)

    def script_flush(self, sync_type: str | None = None, *, timeout: Timeout = None) -> Any:
        """Forget all scripts; True."""
        return self._run(("SCRIPT", "FLUSH", *((sync_type,) if sync_type else ())), timeout)

    def function_load(self, code: Key, replace: bool = False, *, timeout: Timeout = None) -> Any:
        """Load a library of functions; its name."""
        return self._run(("FUNCTION", "LOAD", *(("REPLACE",) if replace else ()), code), timeout)

    def function_delete(self, library: Key, *, timeout: Timeout = None) -> Any:
        """Delete a library; True."""
        return self._run(("FUNCTION", "DELETE", library), timeout)

    def function_flush(self, mode: str = "SYNC", *, timeout: Timeout = None) -> Any:
        """Delete all libraries; True."""
        return self._run(("FUNCTION", "FLUSH", mode), timeout)

    def function_list(self, library: Key | None = None, withcode: bool = False, *, timeout: Timeout = None) -> Any:
        """A dict for each library, those whose names match the pattern `library`."""
        named = ("LIBRARYNAME", library) if library is not None else ()
        return self._run(("FUNCTION", "LIST", *named, *(("WITHCODE",) if withcode else ())), timeout)

    def function_dump(self, *, timeout: Timeout = None) -> Any:
        """All libraries as bytes, for `function_restore`."""
        return self._run(("FUNCTION", "DUMP"), timeout)

    def function_restore(self, payload: bytes, policy: str = "APPEND", *, timeout: Timeout = None) -> Any:
        """Take back what `function_dump` gave: APPEND, REPLACE or FLUSH; True."""
        return self._run(("FUNCTION", "RESTORE", payload, policy), timeout)

    def fcall(self, function: Key, numkeys: int, *keys_and_args: Value, timeout: Timeout = None) -> Any:
        """The result of a library's function."""
        return self._run(("FCALL", function, numkeys, *keys_and_args), timeout)

    def fcall_ro(self, function: Key, numkeys: int, *keys_and_args: Value, timeout: Timeout = None) -> Any:
        """As `fcall`, for a function with the flag no-writes."""
        return self._run(("FCALL_RO", function, numkeys, *keys_and_args), timeout)


class Script:
    """A script that is called like a function; `register_script` makes it. `sha`: its SHA-1 in hexadecimal."""

    def __init__(self, client: Any, script: str | bytes) -> None:
        self.registered_client, self.script = client, script
        text = script.encode() if isinstance(script, str) else script
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()

    def _asked(self, keys: Any, args: Any) -> tuple[Any, ...]:
        keys = tuple(keys or ())
        return (len(keys), *keys, *(args or ()))

    def __call__(self, keys: Any = None, args: Any = None, client: Any = None) -> Any:
        """Run it: by its SHA-1, or by its text where that is not known. `client`: another one, or a pipeline (which sends the text)."""
        client = self.registered_client if client is None else client
        asked = self._asked(keys, args)
        if hasattr(client, "execute"):
            return client.eval(self.script, *asked)
        try:
            return client.evalsha(self.sha, *asked)
        except ResponseError as error:
            if error.code != "NOSCRIPT":
                raise
        return client.eval(self.script, *asked)


class AsyncScript(Script):
    """The same for the asyncio client: to be awaited."""

    async def __call__(self, keys: Any = None, args: Any = None, client: Any = None) -> Any:
        """Run it, as `Script` does."""
        client = self.registered_client if client is None else client
        asked = self._asked(keys, args)
        if hasattr(client, "execute"):
            return client.eval(self.script, *asked)
        try:
            return await client.evalsha(self.sha, *asked)
        except ResponseError as error:
            if error.code != "NOSCRIPT":
                raise
        return await client.eval(self.script, *asked)
