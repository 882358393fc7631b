"""A wire to a TCP server that can stand still, as a partition makes it, and go on."""

import contextlib
import socket
import threading


class Valve:
    """A wire to a TCP server. `budget` bytes more go to the server, then it stands still until there is more; None: no limit."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._budget: int | None = None
        self._condition = threading.Condition()
        self._closed = False
        self.passed = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def set(self, budget: int | None) -> None:
        with self._condition:
            self._budget = budget
            self._condition.notify_all()

    @property
    def is_shut(self) -> bool:
        with self._condition:
            return self._budget is not None and self._budget <= 0

    def _accept(self) -> None:
        while True:
            try:
                theirs, _ = self._listener.accept()
                ours = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._sockets += [theirs, ours]
            for source, target, limited in ((theirs, ours, True), (ours, theirs, False)):
                thread = threading.Thread(target=self._carry, args=(source, target, limited), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, limited: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if limited:
                    with self._condition:
                        self._condition.wait_for(lambda: self._closed or self._budget is None or self._budget > 0)
                        if self._budget is not None:
                            self._budget -= len(data)
                        self.passed += len(data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for found in self._sockets:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for found in self._sockets:
            found.close()
