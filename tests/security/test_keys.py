"""Key files: what is made, what is read, and what is refused."""

import os
import stat
from pathlib import Path

import pytest

from shmcache.client.access import find_access
from shmcache.client.url import parse
from shmcache.errors import ConfigError
from shmcache.protocol import curve
from shmcache.protocol.allowed import AllowList
from shmcache.protocol.security import Security


class Log:
    """Collects what would be logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def warning(self, text: str, **fields: object) -> None:
        self.lines.append((text, fields))

    info = error = exception = warning


def test_pair_is_for_its_owner_only_and_never_replaced(tmp_path: Path) -> None:
    """The secret file has mode 0600 whatever the umask; a second pair of the name is refused."""
    old = os.umask(0)
    try:
        secret, public = curve.generate(tmp_path / "new", "server")
    finally:
        os.umask(old)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    pair = curve.load_keypair(secret)
    assert (
        curve.public_key(public)
        == curve.public_key(secret)
        == curve.public_key(pair.public.decode())
        == pair.public
    )
    assert pair.secret.decode() not in public.read_text()
    assert pair.secret.decode() not in repr(pair)
    with pytest.raises(ConfigError, match="File exists"):
        curve.generate(tmp_path / "new", "server")
    assert curve.load_keypair(secret) == pair
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["server.key", "server.pub"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names file, mode and remedy."""
    secret, _ = curve.generate(tmp_path, "k")
    secret.chmod(mode)
    with pytest.raises(ConfigError, match=rf"k\.key has mode {mode:04o}.*chmod 600"):
        curve.load_keypair(secret)


def test_files_that_are_no_keys_are_refused(tmp_path: Path) -> None:
    """Missing, public where a secret is needed, not a pair, no key at all."""
    first, public = curve.generate(tmp_path, "a")
    second, _ = curve.generate(tmp_path, "b")
    public.chmod(0o600)
    mixed = tmp_path / "mixed.key"
    mixed.write_text(
        first.read_text().replace(curve.public_key(first).decode(), curve.public_key(second).decode())
    )
    mixed.chmod(0o600)
    for path, message in ((tmp_path / "none", "No such file"), (public, "no secret"), (mixed, "not a pair")):
        with pytest.raises(ConfigError, match=message):
            curve.load_keypair(path)
    for text in ("x" * 40 + "x", "\u00e9" * 40, '"' * 40, "#" * 40, ""):
        with pytest.raises(ConfigError):
            curve.public_key(text)
    for name in ("a/b", "..", "", "a b"):
        with pytest.raises(ConfigError, match="name is"):
            curve.generate(tmp_path, name)


def test_allowed_keys_of_a_folder_and_of_a_file(tmp_path: Path) -> None:
    """Both forms are read and added to; a secret file in the folder is not looked at."""
    for name in "ab":
        curve.generate(tmp_path, name)
    keys = [curve.public_key(tmp_path / f"{name}.pub") for name in "ab"]
    assert curve.load_allowed(tmp_path) == dict(zip(keys, "ab", strict=True))
    file = tmp_path / "list"
    file.write_text("# who may connect\n\n")
    for key, name in zip(keys, "ab", strict=True):
        curve.authorize(file, key, name)
    assert curve.load_allowed(file) == dict(zip(keys, "ab", strict=True))
    with pytest.raises(ConfigError, match="holds this key already, as 'a'"):
        curve.authorize(file, keys[0], "c")
    with pytest.raises(ConfigError, match="another key of the name 'b'"):
        curve.authorize(file, b"0" * 40, "b")
    file.write_text("#abc not a comment\n")
    with pytest.raises(ConfigError, match="line 1"):
        curve.load_allowed(file)


def test_list_is_read_again_when_it_changes_but_not_at_every_question(tmp_path: Path) -> None:
    """A second passes between two looks; a broken list changes nothing, a removed one lets nobody in."""
    now = [0.0]
    log = Log()
    file = tmp_path / "list"
    file.write_text(f"{'0' * 40} one\n")
    allowed = AllowList(str(file), log, lambda: now[0])
    file.write_text(f"{'0' * 40} one\n{'1' * 40} two\n")
    answers = []
    for moment in (0.5, 1.5):
        now[0] = moment
        answers.append(allowed.callback("shmcache", b"1" * 40))
    assert answers == [False, True]
    file.write_text("nonsense\n")
    now[0] = 3.0
    assert allowed.callback("shmcache", b"0" * 40)
    assert any("not changed" in text for text, _ in log.lines)
    file.unlink()
    now[0] = 5.0
    assert not allowed.callback("shmcache", b"0" * 40)
    assert allowed.denied == 2


def test_denials_are_logged_once_a_second_and_all_counted(tmp_path: Path) -> None:
    """A stranger cannot fill the log."""
    log = Log()
    allowed = AllowList(str(tmp_path), log, lambda: 7.0)
    for _ in range(100):
        assert not allowed.callback("shmcache", b"0" * 40)
    assert allowed.denied == 100
    assert len(log.lines) == 1


@pytest.mark.parametrize(
    ("endpoint", "loopback"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.9.9.9:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://localhost:1", True),
        ("ipc:///tmp/x", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://*:1", False),
        ("tcp://[::]:1", False),
        ("tcp://10.0.0.1:1", False),
        ("tcp://cache.example:1", False),
        ("tcp://127.0.0.1;10.0.0.1:1", False),
        ("tcp://127.0.0.1.example:1", False),
    ],
)
def test_what_is_loopback(endpoint: str, loopback: bool) -> None:
    """Whatever is not certainly loopback is not."""
    assert curve.is_loopback(endpoint) is loopback
    assert curve.needs_curve("auto", endpoint) is not loopback
    assert not curve.needs_curve("off", endpoint)
    assert curve.needs_curve("on", endpoint) is endpoint.startswith("tcp:")


def test_clients_keys_come_from_arguments_url_and_environment(tmp_path: Path) -> None:
    """In this order; a remote address without keys is refused unless curve is off."""
    for name in "abc":
        curve.generate(tmp_path, name)
    key, a, b, c = "0" * 40, *(str(tmp_path / f"{name}.key") for name in "abc")
    environ = {"SHMCACHE_SERVER_KEY": key, "SHMCACHE_CLIENT_KEY": a}

    def used(url: str, environ: dict[str, str], **given: str) -> bytes | None:
        address = parse(url)
        assert address.endpoint is not None
        access = find_access(address.endpoint, address.options, given, environ)
        return None if access is None else access.keys.public

    assert used("tcp://h:1", environ) == curve.public_key(a)
    assert used(f"tcp://h:1?client_key={b}", environ) == curve.public_key(b)
    assert used(f"tcp://h:1?client_key={b}", environ, client_key=c) == curve.public_key(c)
    assert used("tcp://127.0.0.1:1", environ) == curve.public_key(a)
    assert used("tcp://127.0.0.1:1", {}) is None
    assert used("tcp://h:1?curve=off", environ) is None
    assert used("tcp://h:1", {"SHMCACHE_CURVE": "off"}) is None
    for url, message in (
        ("tcp://h:1", "keys generate.*curve=off"),
        ("tcp://127.0.0.1:1?curve=on", "server_key"),
        (f"tcp://h:1?server_key={key}", "client_key"),
        ("tcp://h:1?curve=maybe", "auto, on or off"),
        ("tcp://h:1?colour=red", "after"),
        (f"tcp://h:1?server_key={tmp_path}/none&client_key={a}", "neither a public key nor"),
        ("shm://x?curve=on", "instance name|shm://NAME"),
    ):
        with pytest.raises(ConfigError, match=message):
            used(url, {})


def test_keys_in_a_url_are_percent_encoded() -> None:
    """All characters of Z85 that mean something in a URL come through."""
    encoded = "0%26%25%23%3F%2B" + "0" * 34
    assert parse(f"tcp://h:1/?server_key={encoded}").options == {"server_key": "0&%#?+" + "0" * 34}
    assert parse("tcp://h:1?server_key=a+b").options == {"server_key": "a+b"}


def test_peers_key_by_host_and_port_by_host_or_one_for_all(tmp_path: Path) -> None:
    """The nearest name counts; a peer without a key is an error that names it."""
    curve.generate(tmp_path, "own")
    file = tmp_path / "peers"
    file.write_text(f"{'0' * 40} 10.0.0.1\n{'1' * 40} 10.0.0.1:7402\n")
    peers = curve.load_peers(str(file))
    assert curve.peer_key(peers, "tcp://10.0.0.1:7401") == b"0" * 40
    assert curve.peer_key(peers, "tcp://10.0.0.1:7402") == b"1" * 40
    assert curve.peer_key(curve.load_peers("2" * 40), "tcp://h:1") == b"2" * 40
    assert curve.peer_key(curve.load_peers(str(tmp_path / "own.pub")), "tcp://h:1") == curve.public_key(
        tmp_path / "own.pub"
    )
    security = Security("auto", str(tmp_path / "own.key"), "", str(file))
    security.check([], ["tcp://10.0.0.1:1", "tcp://127.0.0.1:1"])
    with pytest.raises(ConfigError, match=r"peer_keys: .*tcp://10\.0\.0\.2:1"):
        security.check([], ["tcp://10.0.0.2:1"])
