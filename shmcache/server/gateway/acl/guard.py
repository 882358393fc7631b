"""Who the clients of one gateway are, and whether they may do what they ask for."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ....errors import CommandFailed, ConfigError, ResponseError, ShmcacheError
from ....protocol.channels import PATTERN
from ....protocol.curve import is_loopback
from ....protocol.scripts import RUN_SCRIPTS, as_user
from ..rows import Row
from .journal import Journal
from .shared import SharedUsers
from .users import DEFAULT, User

if TYPE_CHECKING:
    from ..connection import Connection

NOAUTH: Final = ResponseError("NOAUTH", "Authentication required.")
HELLO_FIRST: Final = ResponseError(
    "NOAUTH",
    "HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate "
    "the client and select the RESP protocol version at the same time",
)
_WRONG: Final = ResponseError("WRONGPASS", "invalid username-password pair or user is disabled.")
_NO_PASSWORD: Final = CommandFailed(
    "ERR", "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
)
_DENIED: Final = {
    "key": "this user has no permissions to access one of the keys used as arguments",
    "channel": "this user has no permissions to access one of the channels used as arguments",
}
PROTECTED: Final = (
    b"-DENIED This port is in protected mode: the default user has no password, so only clients of this host are let in. "
    b"Give it one (--resp-password, or ACL SETUSER default from this host), or start with --resp-protected no.\r\n"
)
_NOBODY: Final = User("")


class Guard:
    """The users of a gateway. `Connection` keeps `user`, `is_authenticated` and `restricted` for it."""

    def __init__(self, settings: dict[str, Any], clients: dict[int, "Connection"], log: Any) -> None:
        """Raises ConfigError."""
        self._shared = SharedUsers(Path(settings["folder"]), settings["instance"])
        self._clients, self._log = clients, log
        self._is_protected: bool = settings["protected"]
        self.acl_file: str = settings["acl_file"]
        self.journal = Journal()
        self.turn = self._shared.turn
        self.seen = self._shared.seen
        self.failed = 0
        """AUTH with a wrong password, since the start."""

    @property
    def users(self) -> dict[str, User]:
        return self._shared.users

    @property
    def default(self) -> User:
        return self.users.get(DEFAULT, _NOBODY)

    # --- changes ------------------------------------------------------------------------------------
    def keep_up(self) -> None:
        """`follow`, if there is anything. `Connection` does the same in its own words, for each packet."""
        if self.turn[0] != self.seen:
            self.follow()

    def follow(self) -> None:
        """Take over what another gateway has changed."""
        before = self.users
        try:
            self._shared.follow()
        except ConfigError as error:
            # The old rules stay in force; tried again when they change once more.
            self._shared.seen = self.turn[0]
            self._log.error("the users cannot be read", reason=str(error))
        self._changed(before)

    def change(self, how: Any) -> None:
        """As `SharedUsers.change`; also the clients of this gateway feel it."""
        before = self.users
        self._shared.change(how)
        self._changed(before)

    def _changed(self, before: dict[str, User]) -> None:
        self.seen = self._shared.seen
        for client in list(self._clients.values()):
            user = self.users.get(client.user)
            if user is before.get(client.user) and client.user != DEFAULT:
                continue
            if user is None:
                client.end()
                continue
            self.refresh(client)
            if client.subscriber is not None and any(
                not user.allows_channel(name, kind == PATTERN) for kind, names in client.subscriber.topics.items() for name in names
            ):
                client.end()

    def refresh(self, client: "Connection") -> None:
        """After any change of a client's user or of its rules."""
        user = self.users.get(client.user, _NOBODY)
        client.restricted = self.needs_login(client) or not user.may_everything
        client.requests.is_strict = self.needs_login(client)
        client.refresh()

    # --- clients ------------------------------------------------------------------------------------
    def welcome(self, client: "Connection") -> bool:
        """A new one, or one that wants to be as new (RESET); False: it may not even try."""
        # Who comes after a password was set, at another gateway, is no client from before.
        self.keep_up()
        client.user, client.is_authenticated = DEFAULT, self.default.is_open
        self.refresh(client)
        return not (self._is_protected and self.default.is_open and client.peer and not is_loopback(f"tcp://{client.peer}"))

    def needs_login(self, client: "Connection") -> bool:
        return not client.is_authenticated and not self.default.is_open

    def login(self, client: "Connection", name: bytes | None, password: bytes, command: str) -> None:
        """AUTH, or HELLO with AUTH. Raises ResponseError; then the client stays who it was."""
        self.keep_up()
        if name is None and self.default.needs_no_password:
            raise _NO_PASSWORD
        text = DEFAULT if name is None else name.decode("utf-8", "surrogateescape")
        user = self.users.get(text)
        # Whether a name exists cannot be told from the time that the answer takes.
        if not (user or _NOBODY).accepts(password) or user is None:
            self.failed += 1
            self._note(client, "auth", command, text)
            if self.failed & (self.failed - 1) == 0:
                self._log.warning("a client gave a wrong password", client=client.peer, user=text[:64], failures=self.failed)
            raise _WRONG
        client.user, client.is_authenticated = text, True
        self.refresh(client)

    def _note(self, client: "Connection", reason: str, what: str, user: str, context: str = "") -> None:
        from ..client_commands import line

        context = context or ("multi" if client.transaction is not None else "toplevel")
        self.journal.add(reason, context, what, user, line(client), time.time())

    # --- checks -------------------------------------------------------------------------------------
    def refusal(self, client: "Connection", row: Row, args: list[Any], context: str = "") -> ShmcacheError | None:
        """Why a client may not do this; None if it may. The number of arguments must be right. `context`: "lua" inside of a script."""
        if self.needs_login(client):
            return None if "no_auth" in row.flags else NOAUTH
        found = self.users.get(client.user, _NOBODY).denial(row, args)
        if found is None:
            return None
        kind, what = found
        self._note(client, kind, what, client.user, context)
        return ResponseError("NOPERM", _DENIED.get(kind) or f"this user has no permissions to run the '{what}' command")

    def stops(self, client: "Connection", row: Row, args: list[Any]) -> ShmcacheError | None:
        """The reply to a command that a client may not give; None: go on. A transaction that it belongs to will fail."""
        error = self.refusal(client, row, args)
        if error is None:
            return None
        if row.name == "EXEC":
            client.transaction = client.watched = None
            client.refresh()
            return ResponseError("EXECABORT", f"Transaction discarded because of: {error.code} {error.message}")  # type: ignore[attr-defined]
        if client.transaction is not None:
            client.transaction.is_broken = True
        return error

    def signed(self, client: "Connection", row: Row, args: list[Any]) -> list[Any]:
        """A command as it goes to a shard: a script takes the rights with it of a client who may not do everything."""
        if not client.restricted or row.name not in RUN_SCRIPTS:
            return args
        return as_user(args, self.users.get(client.user, _NOBODY).for_scripts)

    def close(self) -> None:
        self.turn.release()
        self._shared.close()
