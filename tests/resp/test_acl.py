"""Users and rules: redis-py and redis-cli with names and passwords, and the same questions to a real Redis."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shmcache.limits import RESP_LOGIN_ARGUMENTS_MAX, RESP_LOGIN_BULK_BYTES_MAX
from tests.resp.conftest import Wire
from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.real_redis import real_redis

PASSWORD = "correct horse"
ONCE = Retry(NoBackoff(), 0)
"""A refused login is an error at once, not one after ten tries."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInstance]:
    """Two gateways, a password, and a file for users that is empty at first."""
    path = tmp_path_factory.mktemp("acl") / "users.acl"
    path.write_text("")
    with running_instance(workers=2, resp="127.0.0.1:0", resp_processes=2, resp_password=PASSWORD, resp_acl_file=str(path)) as found:
        yield found


def connect(instance: RunningInstance, user: str = "default", password: str = PASSWORD, **more: Any) -> redis.Redis:
    return redis.Redis(port=instance.resp_port, username=user, password=password, decode_responses=True, retry=ONCE, **more)


@pytest.fixture
def admin(guarded: RunningInstance) -> Iterator[redis.Redis]:
    with connect(guarded) as client:
        client.flushall()
        yield client
        for name in client.acl_users():
            if name != "default":
                client.acl_deluser(name)


def answer(client: redis.Redis, *words: str) -> Any:
    try:
        return client.execute_command(*words)
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"


def test_a_password_is_needed(guarded: RunningInstance, admin: redis.Redis):
    with redis.Redis(port=guarded.resp_port, retry=ONCE) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with connect(guarded, password="wrong") as other, pytest.raises(redis.AuthenticationError):
        other.ping()
    assert admin.acl_whoami() == "default" and admin.set("a", "1") and admin.get("a") == "1"
    assert admin.config_get("requirepass") == {"requirepass": "(hidden)"}


def test_texts_before_the_login(guarded: RunningInstance):
    wire = Wire(guarded.resp_port)
    wire.ask(b"GET a\r\n", b"-NOAUTH Authentication required.\r\n")
    wire.ask(b"FOO\r\n", b"-ERR unknown command 'FOO', with args beginning with: \r\n")
    wire.ask(b"EXEC\r\n", b"-EXECABORT Transaction discarded because of: NOAUTH Authentication required.\r\n")
    hello = (
        b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to "
        b"authenticate the client and select the RESP protocol version at the same time\r\n"
    )
    wire.ask(b"HELLO 3\r\n", hello)
    wire.ask(b"AUTH nobody x\r\n", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
    wire.ask(b"AUTH a b c\r\n", b"-ERR syntax error\r\n")
    wire.ask(b"AUTH 'correct horse'\r\nGET nothing\r\n", b"+OK\r\n$-1\r\n")
    wire.ask(b"AUTH default wrong\r\nGET nothing\r\n", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n$-1\r\n")
    wire.ask(b"RESET\r\nGET a\r\n", b"+RESET\r\n-NOAUTH Authentication required.\r\n")
    wire.ask(b"QUIT\r\n", b"+OK\r\n")
    wire.close()


def test_requests_before_the_login_are_small(guarded: RunningInstance):
    def reply(*pieces: bytes) -> bytes:
        wire = Wire(guarded.resp_port)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                wire.send(piece)
        found = wire.rest()
        wire.close()
        return found

    count, size = RESP_LOGIN_ARGUMENTS_MAX + 1, RESP_LOGIN_BULK_BYTES_MAX + 1
    assert reply(b"*%d\r\n" % count) == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    assert reply(b"*1\r\n$%d\r\n" % size) == b"-ERR Protocol error: unauthenticated bulk length\r\n"
    # A login that fails does not lift the limits for what comes after it.
    failed = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n-ERR Protocol error: unauthenticated bulk length\r\n"
    assert reply(b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n*2\r\n$3\r\nGET\r\n$%d\r\n" % (size * 100)) == failed
    # One that succeeds does, in the same packet.
    wire = Wire(guarded.resp_port)
    value = b"v" * size * 4
    wire.send(b"*2\r\n$4\r\nAUTH\r\n$13\r\ncorrect horse\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(value), value))
    assert wire.read(10) == b"+OK\r\n+OK\r\n"
    wire.close()


def test_megabytes_before_the_login_are_refused_one_by_one(guarded: RunningInstance, admin: redis.Redis):
    wire = Wire(guarded.resp_port)
    request, refused = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"-NOAUTH Authentication required.\r\n"
    for _ in range(10):
        assert wire.send(request * 10_000).read(len(refused) * 10_000) == refused * 10_000
    assert admin.ping()
    wire.close()


RULES = [
    "on >p +get +@hash -hset ~a* %R~b* &c*", "+foo", "+@foo", "foo", "#12", "<zz", "!" + "a" * 64, "allkeys ~foo", "allchannels &foo", "+select|0",
    "-select|0", "+client|foo", "-client|foo", "+client|id|x", "+select|", "%~a", "%RX~a", "%RW~a", "(+get", "(+foo)", "+get)", "+@all (", "( on )",
    "nopass", "nopass >p", "+@all -@all +get", "+@all -@dangerous +keys", "reset", "off on", "resetpass", "+GET +Config|Get", "clearselectors", "+", "-", "@all",
    "%W~x (+set %R~y ~z) (+get)", "resetkeys", "resetchannels &a* &b", "allcommands -config|set -@hash +hget", "nocommands +@read", "sanitize-payload",
]  # fmt: skip
REQUESTS = [
    "GET a1", "GET b1", "GET c", "SET a1 v", "SET b1 v", "SET b1 v GET", "MGET a1 a2", "MGET a1 c", "MSET a1 v b1 w", "COPY b1 a2", "COPY a1 b2", "RENAME b1 a1",
    "DEL a1 b1", "EXISTS c", "TTL b1", "GETSET b1 v", "INCR b1", "APPEND b1 v", "HGET a1 f", "HGETALL a1", "HSET a1 f v", "HDEL a1 f", "BITOP AND a1 b1", "BITOP AND b1 a1",
    "PFCOUNT b1", "PFMERGE a1 b1", "KEYS *", "CONFIG GET x", "CONFIG SET x y", "CLIENT ID", "CLIENT KILL x:1", "SELECT 0", "SELECT 1", "PUBLISH c1 m", "PUBLISH d m",
    "SUBSCRIBE c1 c2", "SUBSCRIBE c1 d", "PSUBSCRIBE c*", "PSUBSCRIBE c1", "ACL WHOAMI", "ACL LIST", "PING", "AUTH x", "MULTI", "FLUSHALL", "INFO", "OBJECT ENCODING a1",
    "OBJECT ENCODING c", "MEMORY USAGE a1", "LPUSH b1 v", "LPUSH a1 v", "LRANGE b1 0 1", "LMPOP 2 a1 b1 LEFT", "LMPOP 1 a1 LEFT", "BITFIELD b1 GET u8 0",
    "BITFIELD b1 SET u8 0 1", "GETEX b1", "UNSUBSCRIBE", "WATCH a1", "DBSIZE", "GET", "FOO", "BLPOP a1 c 1", "SORT a1", "EXPIRE b1 1", "GETRANGE b1 0 1",
]  # fmt: skip


@pytest.fixture(scope="module")
def peer() -> Iterator[redis.Redis]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server")
    with real_redis(program) as found, redis.Redis(port=found.port, decode_responses=True) as client:
        yield client


@pytest.mark.parametrize("rules", RULES)
def test_rules_beside_a_real_redis(rules: str, admin: redis.Redis, peer: redis.Redis):
    """The same answer to ACL SETUSER; then every request is allowed to the same users, or refused with the same words."""
    words = rules.split()
    peer.acl_deluser("someone")
    assert answer(admin, "ACL", "SETUSER", "someone", *words) == answer(peer, "ACL", "SETUSER", "someone", *words)
    for request in REQUESTS:
        dry = ("ACL", "DRYRUN", "someone", *request.split())
        assert answer(admin, *dry) == answer(peer, *dry), request
    ours, theirs = (client.execute_command("ACL", "GETUSER", "someone") or [] for client in (admin, peer))
    shown = [dict(zip(user[::2], user[1::2], strict=True)) for user in (ours, theirs)]
    # How the commands are written may differ: the rules here keep their order. What is said of the payloads of RESTORE has no meaning here.
    for user in shown:
        user.pop("commands", None)
        user.pop("selectors", None)
        user["flags"] = [flag for flag in user.get("flags", []) if "payload" not in flag]
    assert shown[0] == shown[1]


def test_categories_beside_a_real_redis(admin: redis.Redis, peer: redis.Redis):
    """A command that both have stands in the same categories."""
    assert sorted(admin.acl_cat()) == sorted(peer.acl_cat())
    ours, theirs = ({name: set(client.acl_cat(name)) for name in client.acl_cat()} for client in (admin, peer))
    both = set().union(*ours.values()) & set().union(*theirs.values())
    differing = {name: (ours[name] ^ theirs[name]) & both for name in ours}
    assert {name: found for name, found in differing.items() if found} == {}


ERRORS = [
    "ACL", "ACL FOO", "ACL SETUSER", "ACL WHOAMI x", "ACL GETUSER nobody", "ACL DELUSER default", "ACL DELUSER nobody", "ACL CAT foo", "ACL GENPASS 0", "ACL GENPASS 9999",
    "ACL GENPASS x", "ACL LOG x", "ACL LOG -1", "ACL LOG RESET", "ACL DRYRUN nobody get x", "ACL DRYRUN default foo", "ACL DRYRUN default get", "ACL LIST x", "ACL USERS",
    "CLIENT KILL USER nobody", "AUTH default wrong", "AUTH nobody x", "ACL HELP x",
]  # fmt: skip


@pytest.mark.parametrize("request_", ERRORS)
def test_answers_beside_a_real_redis(request_: str, admin: redis.Redis, peer: redis.Redis):
    peer.acl_deluser("someone")
    if request_ == "AUTH default wrong":
        # There every password is right: the default user has none.
        peer.config_set("requirepass", "x")
    found, expected = answer(admin, *request_.split()), answer(peer, *request_.split())
    if request_ == "AUTH default wrong":
        # redis-py has connected anew, without the password.
        peer.execute_command("AUTH", "default", "x")
        peer.config_set("requirepass", "")
    assert found == expected


def test_names_and_passwords(guarded: RunningInstance, admin: redis.Redis):
    admin.execute_command("ACL", "SETUSER", "bob", "on", ">one", ">two", "~*", "+@all")
    for password in ("one", "two"):
        with connect(guarded, "bob", password, protocol=3) as bob:
            assert bob.acl_whoami() == "bob" and bob.client_info()["user"] == "bob"
    admin.execute_command("ACL", "SETUSER", "bob", "<one")
    with connect(guarded, "bob", "one") as bob, pytest.raises(redis.AuthenticationError):
        bob.ping()
    admin.execute_command("ACL", "SETUSER", "bob", "off")
    with connect(guarded, "bob", "two") as bob, pytest.raises(redis.AuthenticationError):
        bob.ping()
    assert "two" not in str(admin.acl_list())
    with pytest.raises(redis.ResponseError, match="can't contain spaces"):
        admin.execute_command("ACL", "SETUSER", "b ob")


def test_redis_cli(guarded: RunningInstance, admin: redis.Redis):
    program = shutil.which("redis-cli") or pytest.skip("no redis-cli")
    admin.execute_command("ACL", "SETUSER", "cli", "on", ">secret", "~c*", "+set", "+get")

    def run(*words: str) -> str:
        command = [program, "-p", str(guarded.resp_port), "--user", "cli", "--pass", "secret", "--no-auth-warning", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()

    assert run("set", "c1", "v") == "OK" and run("get", "c1") == "v"
    assert run("get", "d") == "NOPERM this user has no permissions to access one of the keys used as arguments"
    assert run("del", "c1") == "NOPERM this user has no permissions to run the 'del' command"


def test_transactions(guarded: RunningInstance, admin: redis.Redis):
    admin.execute_command("ACL", "SETUSER", "bob", "on", ">p", "~{b}*", "+get", "+set", "+incr", "+multi", "+exec")
    with connect(guarded, "bob", "p", single_connection_client=True) as bob:
        assert [answer(bob, *words) for words in (("MULTI",), ("GET", "{b}1"), ("GET", "c"), ("EXEC",))] == [
            "OK", "QUEUED", "NoPermissionError: this user has no permissions to access one of the keys used as arguments",
            "ExecAbortError: Transaction discarded because of previous errors.",
        ]  # fmt: skip
        # Rules that change between MULTI and EXEC hold at EXEC.
        bob.execute_command("MULTI")
        bob.execute_command("SET", "{b}1", "1")
        bob.execute_command("INCR", "{b}1")
        admin.execute_command("ACL", "SETUSER", "bob", "-incr")
        done = bob.execute_command("EXEC")
        assert done[0] in (True, "OK") and isinstance(done[1], redis.exceptions.NoPermissionError)
        admin.execute_command("ACL", "SETUSER", "bob", "-exec")
        bob.execute_command("MULTI")
        assert answer(bob, "EXEC").startswith("ExecAbortError: Transaction discarded because of: NOPERM")
        assert answer(bob, "MULTI") == "OK"


def test_channels(guarded: RunningInstance, admin: redis.Redis):
    admin.execute_command("ACL", "SETUSER", "bob", "on", ">p", "resetchannels", "&news.*", "+subscribe", "+psubscribe", "+publish")
    with connect(guarded, "bob", "p") as bob, bob.pubsub() as listener:
        listener.subscribe("news.a")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        assert bob.publish("news.a", "m") == 1
        assert listener.get_message(timeout=5)["data"] == "m"
        assert "channels" in answer(bob, "PUBLISH", "other", "m")
        listener.psubscribe("n*")
        with pytest.raises(redis.exceptions.NoPermissionError):
            listener.get_message(timeout=5)
        # Who loses a channel that it listens to is disconnected.
        number = len(admin.pubsub_channels("news.*"))
        admin.execute_command("ACL", "SETUSER", "bob", "resetchannels")
        assert number == 1
        wait_until(lambda: admin.ping() and not admin.pubsub_channels("news.*"), what="the subscriber is disconnected")


@pytest.mark.parametrize("speaks", [False, True], ids=["silence", "a message"])
def test_listener_at_another_gateway(guarded: RunningInstance, speaks: bool):
    """It sends nothing by which its gateway could notice: it hears nothing more all the same, and is disconnected."""
    with contextlib.ExitStack() as opened:

        def one(*login: str) -> redis.Redis:
            return opened.enter_context(connect(guarded, *login, single_connection_client=True, socket_timeout=10))

        admin = one()
        admin.execute_command("ACL", "SETUSER", "bob", "on", ">p", "resetchannels", "&news.*", "+client", "+subscribe")
        bob = next(bob for bob in (one("bob", "p") for _ in range(50)) if bob.client_id() >> 48 != admin.client_id() >> 48)
        bob.connection.send_command("SUBSCRIBE", "news.a")
        assert bob.connection.read_response()[0] == "subscribe"
        admin.execute_command("ACL", "SETUSER", "bob", "resetchannels")
        if speaks:
            admin.publish("news.a", "secret")
        with pytest.raises(redis.ConnectionError):
            bob.connection.read_response()
        admin.acl_deluser("bob")


def test_all_gateways_know_at_once(guarded: RunningInstance, admin: redis.Redis):
    admin.execute_command("ACL", "SETUSER", "bob", "on", ">p", "~*", "+@all")
    bobs = [connect(guarded, "bob", "p") for _ in range(12)]
    processes = {bob.client_id() >> 48 for bob in bobs}
    assert len(processes) == 2
    for round_ in range(20):
        admin.execute_command("ACL", "SETUSER", "bob", "-get" if round_ % 2 else "+get")
        for bob in bobs:
            assert ("NoPermission" in str(answer(bob, "GET", "a"))) == bool(round_ % 2)
    admin.acl_deluser("bob")
    for bob in bobs:
        with pytest.raises((redis.AuthenticationError, redis.ConnectionError)):
            bob.get("a")
        bob.close()


def test_users_outlive_a_gateway(guarded: RunningInstance, admin: redis.Redis):
    admin.execute_command("ACL", "SETUSER", "bob", "on", ">p", "~*", "+@all")
    children = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in guarded.child_pids()}
    assert not any(PASSWORD.encode() in line for line in children.values())
    pids = [pid for pid, line in children.items() if b"shmcache.server.gateway" in line]
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        try:
            with connect(guarded, "bob", "p") as bob:
                return bob.acl_whoami() == "bob"
        except redis.ConnectionError:
            return False

    wait_until(is_back, what="a gateway is back")


def test_what_was_refused(guarded: RunningInstance):
    """One connection, because each gateway has its own log."""

    def wrong_passwords() -> list[str]:
        return [line for line in guarded.log().splitlines() if "wrong password" in line]

    before = len(wrong_passwords())
    with connect(guarded, single_connection_client=True) as admin:
        admin.acl_log_reset()
        admin.execute_command("ACL", "SETUSER", "default", "-incr")
        for _ in range(3):
            assert "incr" in answer(admin, "INCR", "a")
        admin.execute_command("ACL", "SETUSER", "default", "+@all")
        for number in range(200):
            answer(admin, "AUTH", f"nobody{number % 2}", "guess")
        log = admin.execute_command("ACL", "LOG")
        entries = [log_entry if isinstance(log_entry, dict) else dict(zip(log_entry[::2], log_entry[1::2], strict=True)) for log_entry in log]
        # redis-py connects anew after a refused login, perhaps to the other gateway, which has a log of its own: only kinds are certain.
        kinds = {(e["reason"], e["context"], e["object"]) for e in entries}
        assert kinds <= {("auth", "toplevel", "AUTH"), ("command", "toplevel", "incr")}
        assert ("auth", "toplevel", "AUTH") in kinds
        assert all(e["count"] > 1 for e in entries)
        for number in range(300):
            answer(admin, "AUTH", f"somebody{number}", "guess")
        assert 1 < len(admin.execute_command("ACL", "LOG", "1000")) <= 128
        admin.acl_log_reset()
        assert admin.execute_command("ACL", "LOG") == []
    # Other tests' lines, also of gateways that are no more, are not of this one.
    lines = wrong_passwords()[before:]
    assert 8 <= len(lines) <= 24 and not any("guess" in line for line in lines)


def test_file(guarded: RunningInstance, admin: redis.Redis):
    path = Path(guarded.options["resp_acl_file"])
    admin.execute_command("ACL", "SETUSER", "bob", "on", ">p", "~b*", "+@read", "-get", "(+set ~s*)")
    assert admin.acl_save() in (True, "OK")
    assert path.stat().st_mode & 0o777 == 0o600 and "user bob on #" in path.read_text()
    before = admin.acl_list()
    path.write_text(path.read_text() + "# a comment\nuser carol on nopass ~* &* +get\n")
    admin.acl_load()
    assert {*admin.acl_list()} - {*before} == {"user carol on nopass ~* &* -@all +get"}
    path.write_text("user carol on nopass\n\nuser dave +nonsense\n")
    with pytest.raises(redis.ResponseError, match="line 3: '.nonsense': Unknown command"):
        admin.acl_load()
    assert "dave" not in admin.acl_users() and "bob" in admin.acl_users()
    # A file without the default user leaves the port guarded.
    path.write_text("user carol on nopass +get ~*\n")
    admin.acl_load()
    assert admin.acl_users() == ["carol", "default"]
    with redis.Redis(port=guarded.resp_port, retry=ONCE) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


def test_password_by_config(guarded: RunningInstance, admin: redis.Redis):
    try:
        admin.config_set("requirepass", "")
        with redis.Redis(port=guarded.resp_port, retry=ONCE) as nobody:
            assert nobody.ping() and nobody.config_get("requirepass") == {"requirepass": ""}
    finally:
        admin.config_set("requirepass", PASSWORD)
    # At whichever gateway they arrive.
    for _ in range(12):
        with redis.Redis(port=guarded.resp_port, retry=ONCE) as nobody, pytest.raises(redis.AuthenticationError):
            nobody.ping()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"resp": "0.0.0.0:0"}, "the default user has no password"),
        ({"resp_acl_file": "user default on nopass +@all ~*\nuser x +foo\n"}, "line 2: '+foo': Unknown command or category name in ACL"),
        ({"resp_acl_file": "usr x\n"}, "line 1"),
        ({"resp_acl_file": "user x on\nuser x on\n"}, "second time"),
        ({"resp_password_file": "secret\n"}, "mode 0644"),
    ],
)
def test_starts_that_are_refused(options: dict[str, str], complaint: str, tmp_path: Path):
    for name in ("resp_acl_file", "resp_password_file"):
        if name in options:
            (tmp_path / name).write_text(options[name])
            (tmp_path / name).chmod(0o644)
            options = options | {name: str(tmp_path / name)}
    with pytest.raises(AssertionError, match="did not become ready") as refused, running_instance(workers=1, **({"resp": "127.0.0.1:0"} | options)):
        pass
    assert complaint in str(refused.value)


def test_other_hosts(tmp_path: Path):
    """With a password any address is served; without one only this host, whatever changes later."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    with running_instance(workers=1, resp="0.0.0.0:0", resp_password_file=str(secret)) as instance:
        assert "no TLS" in instance.log()
        with connect(instance) as admin:
            assert admin.ping()
            own = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
            if not own:
                pytest.skip("this host has no address but loopback")
            with redis.Redis(own[0], instance.resp_port, password=PASSWORD) as other:
                assert other.ping()
            admin.config_set("requirepass", "")
            with socket.create_connection((own[0], instance.resp_port), 10) as other:
                assert other.recv(1000).startswith(b"-DENIED This port is in protected mode")
