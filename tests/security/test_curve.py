"""CURVE against real instances: who gets in, who does not, and what each is told."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

import shmcache
from shmcache.errors import CacheTimeout, ConfigError, NotAuthorized, Unavailable
from shmcache.protocol import curve
from tests.security.conftest import Keys, make_keys, router_figures
from tests.support.instance import RunningInstance, instance_folder, running_instance, wait_until
from tests.support.wire import wire


def ask_async(url: str, **arguments: Any) -> Any:
    async def ask() -> Any:
        async with shmcache.aio.connect(url, **arguments) as cache:
            await cache.set("async", "v")
            return await cache.get("async")

    return asyncio.run(ask())


def command(*words: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SHMCACHE_")}
    line = [sys.executable, "-m", "shmcache.cli", *words]
    return subprocess.run(line, capture_output=True, env=clean | environment, timeout=90, check=False)


def test_right_keys_work(secured: RunningInstance, keys: Keys) -> None:
    """By arguments, by URL with files, for threads and asyncio, in pipelines."""
    with shmcache.connect(secured.tcp, **keys.of_client()) as cache:
        assert cache.set("k", b"v" * 100_000)
        assert cache.get("k") == b"v" * 100_000
        assert cache.pipeline().set("a", 1).incr("a").execute() == [True, 2]
    url = f"{secured.tcp}?server_key={keys.folder}/server.pub&client_key={keys.file('client')}"
    with shmcache.connect(url) as cache:
        assert cache.get("a") == b"2"
    assert ask_async(secured.tcp, **keys.of_client()) == b"v"
    with shmcache.connect(secured.url) as cache:
        assert cache.get("a") == b"2"


def test_right_keys_work_on_the_command_line(secured: RunningInstance, keys: Keys) -> None:
    """As options and as variables; also for the control calls of `stats`."""
    options = ("--server-key", keys.public("server"), "--client-key", keys.file("client"))
    variables = {"SHMCACHE_SERVER_KEY": keys.public("server"), "SHMCACHE_CLIENT_KEY": keys.file("client")}
    assert command("set", "c", "1", "-u", secured.tcp, *options).stdout == b"OK\n"
    assert command("get", "c", "-u", secured.tcp, **variables).stdout == b"1\n"
    assert b'"keys"' in command("stats", "--json", "-u", secured.tcp, *options).stdout
    for words in (("get", "c"), ("stats",)):
        refused = command(*words, "-u", secured.tcp)
        assert refused.returncode == 2
        assert b"demands CURVE" in refused.stderr
        strange = command(
            *words, "-u", secured.tcp, **variables | {"SHMCACHE_CLIENT_KEY": keys.file("stranger")}
        )
        assert strange.returncode == 2
        assert b"does not accept this client's key" in strange.stderr


def test_unknown_client_is_refused_at_once_and_counted(secured: RunningInstance, keys: Keys) -> None:
    """A typed error long before the timeout, for both clients; the server counts and logs it."""
    before = router_figures(secured)["denied"]
    started = time.monotonic()
    with pytest.raises(NotAuthorized, match="does not accept this client's key"):
        shmcache.connect(secured.tcp, **keys.of_client("stranger"))
    with pytest.raises(NotAuthorized, match="does not accept this client's key"):
        ask_async(secured.tcp, **keys.of_client("stranger"))
    assert time.monotonic() - started < 2
    figures = wait_until(
        lambda: (f := router_figures(secured))["handshakes_failed"] >= 2 and f, what="failures are counted"
    )
    assert figures["denied"] == before + 2
    assert keys.public("stranger") in secured.log()
    assert issubclass(NotAuthorized, Unavailable)


def test_wrong_server_key_is_refused(secured: RunningInstance, keys: Keys) -> None:
    """A client does not talk to a server that has not the key it expects, and says so in its timeout."""
    wrong = keys.of_client() | {"server_key": keys.public("stranger")}
    with pytest.raises(NotAuthorized, match="is server_key the key of that server"):
        shmcache.connect(secured.tcp, **wrong)
    with pytest.raises(NotAuthorized, match="is server_key the key of that server"):
        ask_async(secured.tcp, **wrong)
    with pytest.raises((Unavailable, CacheTimeout), match="CURVE"):
        shmcache.connect(secured.tcp, timeout=0.3, **wrong)


def test_plain_client_is_told_and_hurts_nobody(secured: RunningInstance, keys: Keys) -> None:
    """Without keys at a secured port: a typed error for ours; a crowd of others changes nothing."""
    with pytest.raises(NotAuthorized, match="demands CURVE"):
        shmcache.connect(secured.tcp)
    with pytest.raises(NotAuthorized, match="demands CURVE"):
        ask_async(secured.tcp)
    with zmq.Context() as context, ExitStack() as open_sockets:
        crowd = [open_sockets.enter_context(context.socket(zmq.DEALER)) for _ in range(50)]
        for socket in crowd:
            socket.linger = 0
            socket.connect(secured.tcp)
            # A refused connection has no pipe until ZeroMQ tries again: a blocking send could wait for ever.
            with suppress(zmq.Again):
                socket.send_multipart([b"h", b"p"], zmq.NOBLOCK)
        with shmcache.connect(secured.tcp, **keys.of_client()) as cache:
            assert cache.set("k", 1)
        assert not any(socket.poll(0) for socket in crowd)


def test_keys_at_a_plain_port_are_told_too(keys: Keys) -> None:
    """A client that wants CURVE never falls back to plain."""
    with running_instance() as plain:
        with pytest.raises(NotAuthorized, match="does not use CURVE"):
            shmcache.connect(plain.tcp, **keys.of_client())
        with shmcache.connect(plain.tcp) as cache:
            assert cache.ping()


def test_list_changes_while_the_server_runs(tmp_path: Path) -> None:
    """A key that is added gets in, one that is removed gets in no more; its connection stays."""
    keys = make_keys(tmp_path)
    with running_instance(curve="on", **keys.of_server) as instance:

        def gets_in(name: str) -> bool:
            try:
                shmcache.connect(instance.tcp, **keys.of_client(name)).close()
            except NotAuthorized:
                return False
            return True

        assert not gets_in("stranger")
        curve.authorize(keys.authorized, keys.public("stranger").encode(), "stranger")
        wait_until(lambda: gets_in("stranger"), 5, "the new key gets in")
        with shmcache.connect(instance.tcp, **keys.of_client("stranger")) as cache:
            (keys.authorized / "stranger.pub").unlink()
            wait_until(lambda: not gets_in("stranger"), 5, "the removed key gets in no more")
            assert cache.ping()
            assert gets_in("client")


def test_client_outlives_the_routers_death(secured: RunningInstance, keys: Keys) -> None:
    """The next router takes the same keys at the same port; asyncio and sync clients go on."""

    async def go_on() -> None:
        async with shmcache.aio.connect(secured.tcp, **keys.of_client()) as cache:
            with shmcache.connect(secured.tcp, **keys.of_client()) as other:
                await cache.set("before", 1)
                assert other.get("before") == b"1"
                pid = secured.router_pid()
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: secured.router_pid() not in (0, pid), what="another router")
                assert await cache.get("before") == b"1"
                assert other.get("before") == b"1"

    asyncio.run(go_on())


def test_loopback_stays_plain_and_the_other_address_is_secured(keys: Keys) -> None:
    """`auto` at 127.0.0.1 and 0.0.0.0 in one instance: each client gets its replies through its socket."""
    with running_instance(
        listen="tcp://127.0.0.1:0,tcp://0.0.0.0:0", workers=2, **keys.of_server
    ) as instance:
        plain, wide = (e for e in instance.snapshot().router_endpoints if e.startswith("tcp:"))
        secured = wide.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(NotAuthorized, match="demands CURVE"):
            shmcache.connect(secured)
        with shmcache.connect(plain) as near, shmcache.connect(secured, **keys.of_client()) as far:
            for n in range(200):
                assert near.set(f"k{n}", n)
                assert far.get(f"k{n}") == b"%d" % n
        ipc = next(e for e in instance.snapshot().router_endpoints if e.startswith("ipc:"))
        with wire(ipc) as connection:
            assert connection.ask(["PING"]) == ["PONG"]


def test_same_identity_at_both_sockets_gets_no_foreign_replies(keys: Keys) -> None:
    """A client that names itself like another one, at the other socket, does not get its replies."""
    with running_instance(listen="tcp://127.0.0.1:0,tcp://0.0.0.0:0", **keys.of_server) as instance:
        plain, wide = (e for e in instance.snapshot().router_endpoints if e.startswith("tcp:"))
        with zmq.Context() as context, context.socket(zmq.DEALER) as near, context.socket(zmq.DEALER) as far:
            curve.secure_client(far, curve.load_keypair(keys.file("client")), keys.public("server").encode())
            for socket, endpoint in ((near, plain), (far, wide.replace("0.0.0.0", "127.0.0.1"))):
                socket.linger = 0
                socket.identity = b"twin"
                socket.rcvtimeo = 5000
                socket.connect(endpoint)
            from shmcache.protocol import codec, frames

            for number in range(1, 51):
                for socket, offset in ((near, 0), (far, 1000)):
                    head = frames.pack_header(request_id=number + offset)
                    socket.send_multipart(
                        [head, codec.encode_commands([["ECHO", b"%d" % (number + offset)]])]
                    )
            for socket, offset in ((near, 0), (far, 1000)):
                got = [codec.decode_results(socket.recv_multipart()[1]) for _ in range(50)]
                assert sorted(got) == sorted([b"%d" % (number + offset)] for number in range(1, 51))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "server_key: .*0.0.0.0.*keys generate.*--curve off"),
        ({"server_key": "server.key"}, "authorized: "),
        ({"server_key": "none.key", "authorized": "authorized"}, "none.key: No such file"),
        ({"server_key": "open.key", "authorized": "authorized"}, "open.key has mode 0644"),
        ({"server_key": "server.key", "authorized": "none"}, "none: No such file"),
    ],
)
def test_server_does_not_start_half_secured(tmp_path: Path, options: dict[str, str], message: str) -> None:
    """An address that others can reach needs keys that are in order; the error says what to do."""
    keys = make_keys(tmp_path)
    Path(keys.file("open")).write_text(Path(keys.file("server")).read_text())
    Path(keys.file("open")).chmod(0o644)
    paths = {name: str(tmp_path / value) for name, value in options.items()}
    with instance_folder(listen="tcp://0.0.0.0:0", **paths) as instance:
        process = instance.launch(**instance.options)
        try:
            assert process.wait(30) == 2
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        import re

        assert re.search(message, instance.log())


def test_curve_can_be_turned_off_on_both_sides() -> None:
    """--curve off listens plainly at 0.0.0.0."""
    with running_instance(listen="tcp://0.0.0.0:0", curve="off") as instance:
        port = instance.tcp.rpartition(":")[2]
        with shmcache.connect(f"tcp://127.0.0.1:{port}?curve=off") as cache:
            assert cache.ping()
    with pytest.raises(ConfigError, match="curve=off"):
        shmcache.connect("tcp://192.0.2.1:7400")


def test_keys_commands(tmp_path: Path) -> None:
    """generate, show, authorize, list: what they print and write."""
    made = command("keys", "generate", "web", "--folder", str(tmp_path))
    assert made.returncode == 0
    public = command("keys", "show", str(tmp_path / "web.key")).stdout.strip().decode()
    assert curve.load_keypair(tmp_path / "web.key").public.decode() == public
    assert curve.load_keypair(tmp_path / "web.key").secret not in made.stdout
    folder = str(tmp_path / "authorized")
    assert command("keys", "authorize", public, "--name", "web", "--authorized", folder).returncode == 0
    dashed = "-" + "0" * 39
    assert command("keys", "authorize", dashed, "--name", "dash", "--authorized", folder).returncode == 0
    listed = command("keys", "list", SHMCACHE_AUTHORIZED=folder).stdout.decode().splitlines()
    assert sorted(listed) == sorted([f"{public} web", f"{dashed} dash"])
    again = command("keys", "generate", "web", "--folder", str(tmp_path))
    assert (again.returncode, again.stderr.count(b"\n")) == (1, 1)


def test_connection_that_is_refused_when_it_comes_back(tmp_path: Path) -> None:
    """The server restarts without the client's key: the client is told, and works again once it is listed.

    The very call that finds out may have sent its request already: that one can only run out of time.
    """
    keys = make_keys(tmp_path)
    listed = keys.authorized / "client.pub"

    async def from_asyncio(cache: Any) -> None:
        with pytest.raises((NotAuthorized, CacheTimeout)):
            await cache.get("k")
        with pytest.raises(NotAuthorized):
            await cache.get("k")
        listed.write_text(text)
        await asyncio.sleep(1.1)
        assert await cache.get("k") == b"1"

    async def story(instance: RunningInstance) -> None:
        arguments = keys.of_client() | {"timeout": 3.0}
        async with shmcache.aio.connect(instance.tcp, **arguments) as second:
            with shmcache.connect(instance.tcp, **arguments) as first:
                assert first.set("k", 1)
                assert await second.get("k") == b"1"
                listed.unlink()
                await asyncio.sleep(1.1)
                pid = instance.router_pid()
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: instance.router_pid() not in (0, pid), what="another router")
                time.sleep(1.5)
                with pytest.raises((NotAuthorized, CacheTimeout)):
                    first.get("k")
                with pytest.raises(NotAuthorized):
                    first.get("k")
                await from_asyncio(second)
                assert first.get("k") == b"1"

    text = listed.read_text()
    with running_instance(curve="on", **keys.of_server) as instance:
        asyncio.run(story(instance))


@pytest.mark.long
def test_watch_that_nobody_reads_holds_up_nobody(secured: RunningInstance, keys: Keys) -> None:
    """Thousands of failed handshakes of a forgotten client do not stop the process' other clients."""
    from shmcache.client.access import Access
    from shmcache.client.sockets import close_dealer, open_dealer

    wrong = Access(curve.load_keypair(keys.file("client")), keys.public("stranger").encode())
    forgotten = [open_dealer(secured.tcp, wrong)]
    for socket, _ in forgotten:
        socket.reconnect_ivl = 1
        for _ in range(20):
            socket.connect(secured.tcp)
    try:
        before = router_figures(secured)["handshakes_failed"]
        wait_until(lambda: router_figures(secured)["handshakes_failed"] > before + 2_200, 60, "many failures")
        with shmcache.connect(secured.tcp, **keys.of_client()) as cache:
            assert cache.ping()
    finally:
        for socket, watch in forgotten:
            close_dealer(socket, watch)
