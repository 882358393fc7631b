"""Key files, and an instance that only lets their holders in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shmcache.protocol import curve
from tests.support.instance import RunningInstance, running_instance
from tests.support.wire import wire


@dataclass(frozen=True)
class Keys:
    """A folder with the key pairs `server`, `client` and `stranger`; `authorized` lists the client alone."""

    folder: Path

    @property
    def authorized(self) -> Path:
        return self.folder / "authorized"

    def file(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def public(self, name: str) -> str:
        return curve.public_key(self.folder / f"{name}.pub").decode()

    @property
    def of_server(self) -> dict[str, Any]:
        """Options of an instance."""
        return {"server_key": self.file("server"), "authorized": str(self.authorized)}

    def of_client(self, name: str = "client") -> dict[str, str]:
        """Arguments of `connect`."""
        return {"server_key": self.public("server"), "client_key": self.file(name)}


def make_keys(folder: Path) -> Keys:
    for name in ("server", "client", "stranger"):
        curve.generate(folder, name)
    keys = Keys(folder)
    curve.authorize(keys.authorized, keys.public("client").encode(), "client")
    return keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def secured(keys: Keys) -> Iterator[RunningInstance]:
    """CURVE at its loopback address."""
    with running_instance(curve="on", **keys.of_server) as found:
        yield found


def router_figures(instance: RunningInstance) -> dict[str, Any]:
    """The router's statistics, asked through its unix socket."""
    ipc = next(e for e in instance.snapshot().router_endpoints if e.startswith("ipc:"))
    with wire(ipc) as connection:
        return connection.control("stats", router=True)["router"]  # type: ignore[no-any-return]
