"""The users in force, for all gateways of an instance: a file in its runtime folder, and a number that changes with it.

The file holds one `user` line each. Whoever changes it holds a lock on the number's file, writes beside and renames, then counts the number up, which
the other gateways see in their memory at their next command. A gateway that starts again finds the users as they were. The start of the instance
writes both anew.
"""

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ....errors import CommandFailed, ConfigError
from ....limits import ACL_FILE_BYTES_MAX
from .users import DEFAULT, BadRule, User, default_user, parse

_TURN = struct.Struct("=Q")


def users_path(folder: Path, instance: str) -> Path:
    return folder / f"{instance}.users"


def write_beside(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step. Raises OSError."""
    data = text.encode("utf-8", "surrogateescape")
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def read_text(path: Path) -> str:
    """Raises OSError, or BadRule if the file is too long."""
    with open(path, "rb") as file:
        data = file.read(ACL_FILE_BYTES_MAX + 1)
    if len(data) > ACL_FILE_BYTES_MAX:
        raise BadRule(f"the file has more than {ACL_FILE_BYTES_MAX} bytes")
    return data.decode("utf-8", "surrogateescape")


def read_users(path: Path) -> dict[str, User]:
    """The users of an ACL file. Raises ConfigError with file, line and reason."""
    try:
        return parse(read_text(path), {})
    except OSError as error:
        raise ConfigError(f"resp_acl_file: {path}: {error.strerror}") from None
    except BadRule as error:
        raise ConfigError(f"resp_acl_file: {path}: {error}") from None


def text_of(users: dict[str, User]) -> str:
    return "".join(f"{user.line}\n" for user in users.values())


def begin(folder: Path, instance: str, acl_file: str, password: str) -> User:
    """Write what all gateways begin with; returns the default user. Raises ConfigError."""
    users = read_users(Path(acl_file)) if acl_file else {}
    if DEFAULT not in users:
        users = {DEFAULT: default_user(password)} | users
    path = users_path(folder, instance)
    try:
        write_beside(path, text_of(users))
        write_beside(path.with_suffix(".users-turn"), "\0" * _TURN.size)
    except OSError as error:
        raise ConfigError(f"resp: {path}: {error.strerror}") from None
    return users[DEFAULT]


def end(folder: Path, instance: str) -> None:
    """Remove them."""
    for path in (users_path(folder, instance), users_path(folder, instance).with_suffix(".users-turn")):
        path.unlink(missing_ok=True)


class SharedUsers:
    """One gateway's view. `users` are those of the last `follow`."""

    def __init__(self, folder: Path, instance: str) -> None:
        """Raises ConfigError if the instance has not begun."""
        self._path = users_path(folder, instance)
        try:
            self._handle = os.open(self._path.with_suffix(".users-turn"), os.O_RDWR | os.O_CLOEXEC)
            self._memory = mmap.mmap(self._handle, _TURN.size)
        except (OSError, ValueError) as error:
            raise ConfigError(f"resp: {self._path}: {error}") from None
        self.turn = memoryview(self._memory).cast("Q")
        """Its only element is another number after each change, whoever made it."""
        self.seen = -1
        self.users: dict[str, User] = {}
        self._lines: dict[str, User] = {}
        with self._locked():
            # The one before this may have died between the file and the number: let the others look again.
            self.turn[0] += 1
        self.follow()

    def follow(self) -> None:
        """Take over what another gateway has changed. Raises ConfigError."""
        turn = self.turn[0]
        try:
            users = parse(read_text(self._path), self._lines)
        except OSError as error:
            raise ConfigError(f"resp: {self._path}: {error.strerror}") from None
        except BadRule as error:
            raise ConfigError(f"resp: {self._path}: {error}") from None
        self._take(users, turn)

    def _take(self, users: dict[str, User], turn: int) -> None:
        self.users, self.seen = users, turn
        self._lines = {user.line: user for user in users.values()}

    def change(self, how: Callable[[dict[str, User]], dict[str, User]]) -> None:
        """Have `how` make the new users out of those in force; what it raises leaves all as it was. Raises CommandFailed if that cannot be written."""
        with self._locked():
            if self.turn[0] != self.seen:
                self.follow()
            users = how(dict(self.users))
            text = text_of(users)
            if len(text) > ACL_FILE_BYTES_MAX:
                raise CommandFailed("ERR", f"the users would take more than {ACL_FILE_BYTES_MAX} bytes")
            try:
                write_beside(self._path, text)
            except OSError as error:
                raise CommandFailed("ERR", f"the users cannot be written: {error.strerror}") from None
            self.turn[0] = turn = self.turn[0] + 1
            self._take(users, turn)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        self.turn.release()
        self._memory.close()
        os.close(self._handle)
