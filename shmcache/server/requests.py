"""Requests to the supervisor, over a unix socket in the instance's folder: one JSON object a line, one line back.

For what only the supervisor can do, such as starting a process that the instance did without so far.
"""

import json
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError, InstanceNotFound, ProtocolError

_REQUEST_BYTES_MAX: Final = 4_096
_CONNECTIONS_MAX: Final = 16

Handler = Callable[[str, dict[str, Any]], dict[str, Any]]
"""(Call, arguments) -> result. Raises ConfigError."""


def requests_path(folder: Path | str, instance: str) -> Path:
    return Path(folder, f"{instance}.supervisor.sock")


class RequestServer:
    """The supervisor's end; its sockets are watched by the supervisor's selector, whose data is what to call."""

    def __init__(self, path: Path, gid: int, selector: selectors.BaseSelector, handler: Handler) -> None:
        self._path, self._selector, self._handler = path, selector, handler
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        if gid >= 0:
            os.chown(path, -1, gid)
        path.chmod(0o660 if gid >= 0 else 0o600)
        self._listener.listen(_CONNECTIONS_MAX)
        self._connections: dict[socket.socket, bytes] = {}
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        if len(self._connections) >= _CONNECTIONS_MAX:
            connection.close()
            return
        self._connections[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_REQUEST_BYTES_MAX)
        except OSError:
            data = b""
        heard = self._connections[connection] + data
        self._connections[connection] = heard
        if data and b"\n" not in heard and len(heard) < _REQUEST_BYTES_MAX:
            return
        if b"\n" in heard:
            try:
                connection.send(json.dumps(self._answer(heard.partition(b"\n")[0])).encode() + b"\n")
            except OSError:
                pass
        self._forget(connection)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"result": self._handler(str(request["call"]), dict(request.get("arguments", {})))}
        except ConfigError as error:
            return {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not a request: {error!r}"}

    def _forget(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._connections[connection]
        connection.close()

    def close(self) -> None:
        for connection in list(self._connections):
            self._forget(connection)
        self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)


def ask_supervisor(folder: Path | str, instance: str, call: str, timeout: float = 5.0, **arguments: Any) -> dict[str, Any]:
    """The supervisor's answer. Raises InstanceNotFound (nobody listens), ConfigError (it refuses), ProtocolError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(requests_path(folder, instance)))
            connection.sendall(json.dumps({"call": call, "arguments": arguments}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = connection.recv(65_536)
                if not data:
                    break
                answer += data
        except OSError as error:
            raise InstanceNotFound(f"the supervisor of instance {instance!r} does not answer: {error}") from None
    try:
        reply = json.loads(answer)
    except ValueError:
        raise ProtocolError("the supervisor's answer is cut off") from None
    if "error" in reply:
        raise ConfigError(reply["error"])
    return dict(reply["result"])
