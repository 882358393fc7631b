"""The wire between two hosts as a test sees it: impair, cut, heal, count."""

import json
import socket
from typing import Any, Literal, Protocol

from tests.support.netns import ip
from tests.support.user_wire import mac

Direction = Literal["both", "ab", "ba"]
_REPLY_S_MAX = 10.0
_NOBODY = "02:77:ff:ff:ff:ff"
"""A MAC that no interface has: a frame sent there is lost without a word, as behind a cut cable."""


class WireError(Exception):
    """The wire cannot do, or has refused, what was commanded."""


class Medium(Protocol):
    """What can change one direction of a wire between hosts by number."""

    def set(self, source: int, destination: int, impairment: dict[str, float]) -> None: ...

    def cut(self, source: int, destination: int, is_cut: bool) -> None: ...

    def counts(self, source: int, destination: int) -> dict[str, int]: ...


class KernelMedium:
    """Plain veth at kernel speed. It can be cut, by a neighbour entry at the sender, and nothing else."""

    def __init__(self, namespaces: list[str], addresses: list[str]) -> None:
        self._namespaces, self._addresses = namespaces, addresses

    def set(self, source: int, destination: int, impairment: dict[str, float]) -> None:
        if any(impairment.values()):
            raise WireError("the kernel's wire can only be cut: use hosts(..., wire='user')")

    def cut(self, source: int, destination: int, is_cut: bool) -> None:
        address = _NOBODY if is_cut else mac(destination)
        ip(*neighbour(self._addresses[destination], address).split(), namespace=self._namespaces[source])

    def counts(self, source: int, destination: int) -> dict[str, int]:
        raise WireError("the kernel's wire does not count: use hosts(..., wire='user')")


class UserMedium:
    """The switch of tests/support/user_wire.py."""

    def __init__(self, path: str) -> None:
        self._path = path

    def set(self, source: int, destination: int, impairment: dict[str, float]) -> None:
        self._ask("set", source, destination, **impairment)

    def cut(self, source: int, destination: int, is_cut: bool) -> None:
        self._ask("cut", source, destination, is_cut=is_cut)

    def counts(self, source: int, destination: int) -> dict[str, int]:
        return self._ask("counts", source, destination)

    def _ask(self, call: str, source: int, destination: int, **arguments: Any) -> dict[str, int]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_REPLY_S_MAX)
            connection.connect(self._path)
            with connection.makefile("rw") as stream:
                command = {"call": call, "source": source, "destination": destination} | arguments
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                reply = json.loads(stream.readline())
        if "error" in reply:
            raise WireError(reply["error"])
        counts: dict[str, int] = reply["counts"]
        return counts


class Wire:
    """Between host `a` and host `b`. Each `set` replaces what the direction had; a cut is apart from it."""

    def __init__(self, medium: Medium, a: int, b: int) -> None:
        self._medium, self._ends = medium, {"ab": (a, b), "ba": (b, a)}

    def set(self, direction: Direction = "both", **impairment: float) -> None:
        """Impair a direction: fields of tests.support.impairment.Impairment; those not named are perfect."""
        for ends in self._directed(direction):
            self._medium.set(*ends, impairment)

    def partition(self, direction: Direction = "both") -> None:
        """Nothing passes any more, what is under way included; nobody is told."""
        for ends in self._directed(direction):
            self._medium.cut(*ends, True)

    def heal(self) -> None:
        """A perfect wire again, both ways."""
        for ends in self._ends.values():
            self._medium.cut(*ends, False)
            self._medium.set(*ends, {})

    def counts(self, direction: Literal["ab", "ba"]) -> dict[str, int]:
        """Frames so far: seen, sent, lost, cut, reordered, duplicated, corrupted, overflow."""
        return self._medium.counts(*self._ends[direction])

    def _directed(self, direction: Direction) -> list[tuple[int, int]]:
        return list(self._ends.values()) if direction == "both" else [self._ends[direction]]


def neighbour(address: str, link_address: str) -> str:
    """`ip` command that says where an address lives, for good."""
    return f"neighbour replace {address} lladdr {link_address} dev eth0 nud permanent"
