"""What a script may do is what its caller may do: the same users and scripts here and in a real Redis."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from shmcache.errors import CommandFailed
from shmcache.limits import ACL_PASSED_CACHED_BYTES_MAX
from shmcache.protocol.commands import TABLE, key_positions
from shmcache.protocol.scripts import as_user, split_user
from shmcache.server.acl.passing import packed, unpacked
from shmcache.server.acl.permissions import first_denial
from shmcache.server.gateway.acl.users import User
from shmcache.server.gateway.catalogue import complete
from tests.replication.pairs import primary, replica
from tests.replication.test_forwarding import wait_forwarding
from tests.support.instance import RunningInstance, running_instance
from tests.support.real_redis import RealRedis, real_redis

RULES = {
    "reader": "on nopass ~a:* +@read +@scripting",
    "writer": "on nopass ~a:* %R~r:* %W~w:* +@all -@dangerous -@admin",
    "some": "on nopass ~* +eval +eval_ro +evalsha +fcall +script +multi +exec +set +object|encoding +select|0 -get",
    "selected": "on nopass ~a:* +eval +get (~b:* +set +eval)",
    "everybody": "on nopass ~* &* +@all",
    "nothing": "on nopass +eval",
}
CALLS = [
    "'get', 'a:{s}'", "'set', 'a:{s}', 1", "'set', 'a:{s}', 1, 'get'", "'get', 'b:{s}'", "'set', 'b:{s}', 1", "'get', 'r:{s}'", "'set', 'r:{s}', 1", "'get', 'w:{s}'",
    "'set', 'w:{s}', 1", "'append', 'w:{s}', 1", "'incr', 'w:{s}'", "'strlen', 'w:{s}'", "'exists', 'r:{s}', 'w:{s}'", "'copy', 'r:{s}', 'w:{s}'", "'copy', 'w:{s}', 'r:{s}'",
    "'mset', 'a:{s}', 1, 'w:{s}', 2", "'mset', 'a:{s}', 1, 'r:{s}', 2", "'mget', 'a:{s}', 'r:{s}'", "'del', 'a:{s}'", "'rename', 'a:{s}', 'w:{s}'",
    "'sunionstore', 'w:{s}', 'r:{s}2'", "'sunionstore', 'r:{s}', 'w:{s}'", "'zunionstore', 'w:{s}', 1, 'r:{s}2'", "'zunionstore', 'w:{s}', 1, 'b:{s}'",
    "'sort', 'r:{s}2', 'store', 'w:{s}'", "'sort', 'r:{s}2', 'store', 'b:{s}'", "'object', 'encoding', 'a:{s}'",
    "'keys', 'a:*'", "'flushall'", "'dbsize'", "'ping'", "'select', 0", "'time'", "'nope'", "'get'", "'subscribe', 'a'", "'eval', 'return 1', 0", "'config', 'get', 'x'",
    "'blpop', 'b:{s}', 0", "'GeT', 'b:{s}'", "'getrange', 'a:{s}', 0, -1",
]  # fmt: skip


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance(workers=2, resp="127.0.0.1:0", memory="512MB") as found:
        yield found


@pytest.fixture(scope="module")
def original(redis_server_program: str) -> Iterator[RealRedis]:
    with real_redis(redis_server_program) as found:
        yield found


Both = dict[str, list[redis.Redis]]


@pytest.fixture(scope="module")
def both(instance: RunningInstance, original: RealRedis) -> Iterator[Both]:
    """Clients by user: of the instance, of the original."""
    ports = (instance.resp_port, original.port)
    with contextlib.ExitStack() as stack:
        found: Both = {"default": [stack.enter_context(redis.Redis(port=port, decode_responses=True)) for port in ports]}
        for name, rules in RULES.items():
            for client in found["default"]:
                client.execute_command("ACL", "SETUSER", name, *rules.split())
            clients = [redis.Redis(port=port, username=name, password="x", decode_responses=True) for port in ports]
            found[name] = [stack.enter_context(client) for client in clients]
        yield found


def outcome(client: redis.Redis, *command: object) -> Any:
    try:
        return client.execute_command(*command)
    except redis.RedisError as error:
        return f"{type(error).__name__} {error}"


def begin_anew(both: Both) -> None:
    for client in both["default"]:
        client.flushall()
        client.set("a:{s}", "7")
        client.set("b:{s}", "8")
        client.set("r:{s}", "9")
        client.sadd("r:{s}2", "1")


@pytest.mark.parametrize("user", RULES)
@pytest.mark.parametrize("how", ["call", "pcall"])
def test_as_the_original(user: str, how: str, both: Both):
    for call in CALLS:
        if "time" in call or (user == "everybody" and "flushall" in call):
            # What no two servers say alike, and what no transaction may do here.
            continue
        begin_anew(both)
        script = f"return redis.{how}({call})"
        # The declared key is one that all may have; without a key the script would run in another shard than the keys are.
        found = [outcome(client, "EVAL", script, 1, "a:{s}") for client in both[user]]
        assert found[0] == found[1], (user, call)
        assert both["default"][0].mget("a:{s}", "b:{s}", "r:{s}", "w:{s}") == both["default"][1].mget("a:{s}", "b:{s}", "r:{s}", "w:{s}"), (user, call)


@pytest.mark.parametrize("user", RULES)
def test_asking_first(user: str, both: Both):
    begin_anew(both)
    for call in [*CALLS, "", "{}", "'object', 'nope'", "'config', 'nope'", "'sort', 'a:{s}', 'by', 'x*'", "'eval', '', 1, 'b:{s}'"]:
        if user != "everybody" and any(word in call for word in ("subscribe", "config', 'get")):
            # No script can call these: nobody restricted is told that it may.
            continue
        found = [outcome(client, "EVAL", f"return {{redis.acl_check_cmd({call}), 'asked'}}", 1, "a:{s}") for client in both[user]]
        assert found[0] == found[1], (user, call)
    load = "#!lua name=l\nredis.acl_check_cmd('get', 'a')"
    found = [outcome(client, "FUNCTION", "LOAD", load) for client in both["default"]]
    assert found[0] == found[1]


def test_every_way_to_run_one(both: Both):
    """EVALSHA, FCALL, the forms that only read, and transactions; a refusal ends none of the connections."""
    begin_anew(both)
    library = "#!lua name=rights\nredis.register_function{function_name='look', callback=function(k, a) return redis.call('get', a[1]) end, flags={'no-writes'}}"
    text = "return redis.call('get', ARGV[1])"
    outcomes: list[list[Any]] = []
    for client, default in zip(both["reader"], both["default"], strict=True):
        default.function_load(library, replace=True)
        sha = default.script_load(text)
        found: list[Any] = []
        for arg in ("a:{s}", "b:{s}"):
            found += [outcome(client, "EVALSHA", sha, 1, "a:{s}", arg), outcome(client, "EVALSHA_RO", sha, 1, "a:{s}", arg)]
            found += [outcome(client, "FCALL", "look", 1, "a:{s}", arg), outcome(client, "FCALL_RO", "look", 1, "a:{s}", arg)]
            found += [outcome(client, "EVAL_RO", text, 1, "a:{s}", arg), outcome(client, "EVAL", text, 3, "a:{s}", arg)]
        outcomes.append(found)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][:5] == ["7"] * 5
    assert all("can't access" in one for one in outcomes[0][6:11])
    for client in both["some"]:
        with client.pipeline(transaction=True) as pipe:
            for key in ("k{s}", "b:{s}"):
                pipe.execute_command("EVAL", "return redis.call('set', KEYS[1], 1)", 1, key)
                pipe.execute_command("EVAL", "return redis.call('get', KEYS[1])", 1, key)
            results = pipe.execute(raise_on_error=False)
        assert results[::2] == ["OK", "OK"]
        assert all("can't run this command or subcommand" in str(one) for one in results[1::2])


def test_what_was_done_before_a_refusal_stays(both: Both):
    begin_anew(both)
    script = "redis.call('set', 'a:{s}', 'new') redis.pcall('set', 'b:{s}', 'x') return redis.call('get', 'b:{s}')"
    found = [outcome(client, "EVAL", script, 1, "a:{s}") for client in both["writer"]]
    assert found[0] == found[1]
    assert "can't access" in found[0]
    assert [client.mget("a:{s}", "b:{s}") for client in both["default"]] == [["new", "8"]] * 2


def test_scripts_of_several_users_in_one_message(instance: RunningInstance, both: Both):
    """Each runs with its own user's rights: while one is carried out, those of the others come together."""
    begin_anew(both)
    script = "local n = 0 for i = 1, 2000 do n = n + i end return redis.call('get', KEYS[1])"
    wrong: list[Any] = []

    def run(user: str, expected: str) -> None:
        with redis.Redis(port=instance.resp_port, username=user, password="x" if user != "default" else None, decode_responses=True) as client:
            found = [outcome(client, "EVAL", script, 1, "a:{s}") for _ in range(100)]
            wrong.extend((user, one) for one in found if expected not in one)

    users = [("default", "7"), ("reader", "7"), ("some", "can't run this command"), ("selected", "7"), ("nothing", "no permissions")]
    threads = [threading.Thread(target=run, args=args) for args in users * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_rights_change_at_once_and_hold_for_their_user_only(instance: RunningInstance, both: Both):
    default = both["default"][0]
    begin_anew(both)
    script = "return redis.call('get', KEYS[1])"
    default.execute_command("ACL", "SETUSER", "late", "on", "nopass", "~*", "+eval", "+multi", "+exec")
    with redis.Redis(port=instance.resp_port, username="late", password="x") as late:
        assert "can't run" in outcome(late, "EVAL", script, 1, "a:{s}")
        default.execute_command("ACL", "SETUSER", "late", "+get")
        assert outcome(late, "EVAL", script, 1, "a:{s}") == b"7"
        with late.pipeline(transaction=True) as pipe:
            pipe.eval(script, 1, "a:{s}")
            pipe.eval(script, 1, "a:{s}")
            default.execute_command("ACL", "SETUSER", "late", "-get")
            assert all("can't run" in str(one) for one in pipe.execute(raise_on_error=False))
    assert default.eval(script, 1, "a:{s}") == "7"


def test_a_replica_that_forwards_sends_the_rights_along():
    """The primary has no users at all."""
    with primary(workers=2) as one, replica(one, workers=1, forward_writes=True, resp="127.0.0.1:0") as two:
        wait_forwarding(two)
        with redis.Redis(port=two.resp_port) as default, redis.Redis(port=two.resp_port, username="reader", password="x") as reader:
            default.execute_command("ACL", "SETUSER", "reader", *RULES["reader"].split())
            assert default.eval("return redis.call('set', KEYS[1], 1)", 1, "a:{s}") == b"OK"
            assert "can't run this command" in outcome(reader, "EVAL", "return redis.call('set', KEYS[1], 2)", 1, "a:{s}")
            assert "can't access" in outcome(reader, "EVAL", "return redis.call('get', 'b:{s}')", 1, "a:{s}")
            assert outcome(reader, "EVAL", "return redis.call('get', KEYS[1])", 1, "a:{s}") == b"1"


def test_a_client_that_tracks_keys(instance: RunningInstance, both: Both):
    begin_anew(both)
    for words in (("ON",), ("ON", "NOLOOP")):
        with redis.Redis(port=instance.resp_port, protocol=3, username="writer", password="x", single_connection_client=True) as client:
            client.execute_command("CLIENT", "TRACKING", *words)
            for command in ("EVAL", "EVAL_RO"):
                assert outcome(client, command, "return redis.call('get', ARGV[1])", 1, "r:{s}" if command == "EVAL_RO" else "a:{s}", "r:{s}") == b"9"
                refused = outcome(client, command, "return redis.call('get', ARGV[1])", 1, "r:{s}" if command == "EVAL_RO" else "a:{s}", "b:{s}")
                assert "can't access" in refused, (words, command)


def test_the_slow_log_shows_what_the_client_said(instance: RunningInstance, both: Both):
    default = both["default"][0]
    default.config_set("slowlog-log-slower-than", "1")
    try:
        outcome(both["reader"][0], "EVAL", "return 'unmistakable'", 1, "a:{s}")
        shown = [entry["command"] for entry in default.slowlog_get(20)]
        assert any(line in ("EVAL return 'unmistakable' 1 a:{s}", b"EVAL return 'unmistakable' 1 a:{s}") for line in shown), shown
    finally:
        default.config_set("slowlog-log-slower-than", "10000")


# --- what a message carries, without any process --------------------------------------------------------


def user_of(rules: str) -> User:
    assert complete()
    user = User("someone")
    for rule in rules.split():
        user.apply(rule)
    return user


@pytest.mark.parametrize("rules", ["+@all -@dangerous ~a* %R~b* %W~\udcff*", "+@read +object|freq +select|0 allkeys", "-@all", "+@all -get"])
def test_the_worker_decides_as_the_gateway(rules: str):
    user = user_of(rules)
    passed = unpacked(user.for_scripts)
    for name, spec in TABLE.items():
        for key in (b"a", b"b", b"c", b"\xffx"):
            args = [name.encode(), key, key, key]
            assert (first_denial(passed, spec, args) is None) == (user.denial(spec, args) is None), (name, key)  # type: ignore[arg-type]


def test_large_rights_are_not_kept():
    user = user_of("+@all -flushall " + " ".join(f"~{n}{'x' * 1000}*" for n in range(100)))
    assert len(user.for_scripts) > ACL_PASSED_CACHED_BYTES_MAX
    assert unpacked(user.for_scripts) is not unpacked(user.for_scripts)
    assert first_denial(unpacked(user.for_scripts), TABLE["GET"], [b"GET", b"7" + b"x" * 1001]) is None
    assert first_denial(unpacked(user.for_scripts), TABLE["GET"], [b"GET", b"7"]) == ("key", "7")


def test_what_cannot_be_read_allows_nothing():
    whole = packed([user_of("+@all ~a*").root])
    for size in range(len(whole)):
        with pytest.raises(CommandFailed):
            unpacked(whole[:size])
    # The first has no rules at all.
    for data in (b"\x90", b"\x91\x01", b"\x91\x94\xc3\x90\x80\x91\x92\xa1a\x07", b"\xc0"):
        with contextlib.suppress(CommandFailed):
            assert first_denial(unpacked(data), TABLE["GET"], [b"GET", b"a"]) is not None


def test_a_map_at_the_end_is_no_key():
    command = as_user(["EVAL", b"return 1", b"9", b"a", b"b"], b"rights")
    assert list(key_positions(TABLE["EVAL"], command)) == [3, 4]  # type: ignore[arg-type]
    assert split_user(command) == (["EVAL", b"return 1", b"9", b"a", b"b"], b"rights")
    for wrong in ([{"as": b""}], ["EVAL", {"as": "text"}], ["EVAL", {}]):
        with pytest.raises(CommandFailed):
            split_user(wrong)
