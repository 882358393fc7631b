"""redis-py and redis-cli as they are."""

import asyncio
import shutil
import subprocess
import time

import pytest
import redis
import redis.asyncio

from tests.support.instance import running_instance


def test_strings(client):
    assert client.set("a", "1") and client.get("a") == b"1" and client.incr("a") == 2
    assert client.mset({f"k{n}": n for n in range(50)})
    assert client.mget([f"k{n}" for n in range(50)] + ["no"]) == [b"%d" % n for n in range(50)] + [None]
    assert client.exists(*[f"k{n}" for n in range(60)]) == 50
    assert client.delete(*[f"k{n}" for n in range(60)]) == 50
    assert client.expire("a", 100) and 0 < client.ttl("a") <= 100
    assert client.type("a") == b"string" and client.dbsize() == 1
    assert client.set("a", 2, nx=True) is None


def test_all_keys_are_scanned(client):
    client.mset({f"k{n}": n for n in range(1000)})
    assert sorted(client.scan_iter(count=77)) == sorted(client.keys()) and client.dbsize() == 1000
    assert len(list(client.scan_iter(match="k99*"))) == 11


def test_a_pipeline_of_10000_is_answered_in_order(client):
    pipe = client.pipeline(transaction=False)
    for n in range(5_000):
        pipe.incr(f"n{n % 7}")
        pipe.get(f"n{n % 7}")
    found = pipe.execute()
    assert all(int(found[2 * n]) == n // 7 + 1 == int(found[2 * n + 1]) for n in range(5_000))


def test_reads_behind_writes_see_them(client):
    pipe = client.pipeline(transaction=False)
    for n in range(500):
        pipe.set("k", n).mget("k", "other").get("k").exists("k")
    found = pipe.execute()
    assert found == [value for n in range(500) for value in (True, [b"%d" % n, None], b"%d" % n, 1)]


def test_large_values(client):
    value = bytes(range(256)) * 400_000
    assert client.set("large", value) and client.strlen("large") == len(value)
    assert client.get("large") == value
    client.delete("large")


def test_errors_do_not_end_a_pipeline(client):
    pipe = client.pipeline(transaction=False)
    pipe.set("a", "x").incr("a").execute_command("NOSUCH", "a").get("a")
    found = pipe.execute(raise_on_error=False)
    assert found[0] is True and found[3] == b"x"
    assert "not an integer" in str(found[1]) and "unknown command 'NOSUCH'" in str(found[2])


def test_who_am_i(client):
    client.client_setname("me")
    assert client.client_getname() in ("me", b"me")
    mine = client.client_info()
    assert mine["name"] == "me" and int(mine["id"]) == client.client_id() and mine["lib-name"] == "redis-py"
    assert [one["id"] for one in client.client_list() if one["name"] == "me"] == [str(mine["id"])]


def test_options(client):
    assert client.config_get("maxclients")["maxclients"] == "10000"
    before = client.config_get("maxmemory-policy")["maxmemory-policy"]
    client.config_set("maxmemory-policy", "noeviction")
    assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
    client.config_set("maxmemory-policy", before)
    assert client.config_set("hash-max-listpack-entries", 64)
    assert client.config_get("hash-max-listpack-entries") == {"hash-max-listpack-entries": "64"}
    assert client.config_get("nosuch*") == {}
    with pytest.raises(redis.ResponseError, match="one of the following"):
        client.config_set("maxmemory-policy", "foo")
    assert client.config_resetstat()


def test_info(client):
    client.set("a", 1)
    found = client.info()
    assert found["redis_version"].startswith("7.") and found["db0"]["keys"] == 1 and found["role"] == "master"
    assert found["used_memory"] > 0 and found["connected_clients"] >= 1 and "used_cpu_user" in found
    assert set(client.info("server")) & {"tcp_port", "run_id"} and "used_memory" not in client.info("server")


def test_the_command_table(client):
    count = client.command_count()
    assert count == len(client.command_list())
    assert client.execute_command("COMMAND GETKEYS", "SORT", "a", "STORE", "x", "STORE", "b") in (["a", "b"], [b"a", b"b"])
    assert client.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"] or client.command_getkeys("MSET", "a", 1, "b", 2) == [b"a", b"b"]


def test_what_needs_another_process_says_so(client):
    with pytest.raises(redis.ResponseError, match="--data-dir"):
        client.bgsave()
    assert client.execute_command("ROLE")[0] in (b"master", "master")
    assert client.wait(0, 10) == 0 and client.lastsave()


def test_slow_commands_are_noted(client):
    client.slowlog_reset()
    client.execute_command("DEBUG", "SLEEP", "0.02")
    entry = client.slowlog_get()[0]
    assert entry["duration"] >= 20_000 and b"DEBUG SLEEP" in entry["command"]
    assert client.slowlog_len() == 1
    assert client.memory_usage("nosuch") is None


def test_any_error_on_demand(client):
    with pytest.raises(redis.BusyLoadingError, match="fake"):
        client.execute_command("DEBUG", "ERROR", "LOADING fake message")


def test_with_a_threshold_of_zero_all_are_noted(client):
    client.config_set("slowlog-log-slower-than", 0)
    try:
        client.slowlog_reset()
        client.get("k")
        assert [entry["command"] for entry in client.slowlog_get()] == [b"GET k", b"SLOWLOG RESET"]
    finally:
        client.config_set("slowlog-log-slower-than", 10_000)


def test_a_short_scan_is_over_in_one_step(single):
    """Redis' table is as small as its content; ours may have been larger once."""
    with redis.Redis(port=single.resp_port) as client:
        client.mset({f"k{n}": n for n in range(10_000)})
        client.flushall()
        client.mset({"a": 1, "b": 2, "c": 3})
        cursor, keys = client.scan()
        assert (cursor, sorted(keys)) == (0, [b"a", b"b", b"c"])
        assert client.scan(match="a") == (0, [b"a"])


def test_old_clients_are_killed_by_age(client, instance):
    with redis.Redis(port=instance.resp_port) as other:
        other.ping()
        assert client.execute_command("CLIENT", "KILL", "MAXAGE", 1000, "SKIPME", "no") == 0
        time.sleep(1.1)
        assert client.execute_command("CLIENT", "KILL", "MAXAGE", 1) >= 1
        for wrong in ("0", "-1", "x"):
            with pytest.raises(redis.ResponseError):
                client.execute_command("CLIENT", "KILL", "MAXAGE", wrong)


def test_one_node_has_all_slots(client):
    # redis-py answers these by callbacks of its own; the raw words are what matters here.
    assert client.execute_command("CLUSTER KEYSLOT", "foo") == 12182
    client.set("foo", 1)
    assert client.execute_command("CLUSTER COUNTKEYSINSLOT", 12182) == 1
    assert client.execute_command("CLUSTER GETKEYSINSLOT", 12182, 10) in (["foo"], [b"foo"])


def test_redis_cluster_client(instance):
    with redis.RedisCluster(host="127.0.0.1", port=instance.resp_port) as cluster:
        assert all(cluster.set(f"c{n}", n) for n in range(50))
        assert [cluster.get(f"c{n}") for n in range(50)] == [b"%d" % n for n in range(50)]
        assert cluster.mget_nonatomic("c1", "c2") == [b"1", b"2"] and len(cluster.get_nodes()) == 1


def test_monitor_shows_commands(client, instance):
    with redis.Redis(port=instance.resp_port) as other, other.monitor() as monitor:
        client.set("seen", "by others")
        command = monitor.next_command()
        while "SET" not in command["command"]:
            command = monitor.next_command()
        assert command["command"] == "SET seen by others"


def test_kill_and_reset(client, instance):
    with redis.Redis(port=instance.resp_port) as other:
        victim = other.client_id()
        assert client.client_kill_filter(_id=victim) == 1
        assert other.client_id() != victim
    assert client.execute_command("RESET") in ("RESET", b"RESET")


def test_asyncio(instance):
    async def many() -> None:
        async with redis.asyncio.Redis(port=instance.resp_port, protocol=3) as client:
            await client.set("n", 0)
            await asyncio.gather(*(client.incr("n") for _ in range(500)))
            assert await client.get("n") == b"500"
            async with client.pubsub() as subscriber:
                await subscriber.subscribe("c")
                assert (await subscriber.get_message(timeout=5))["type"] == "subscribe"
                assert await client.publish("c", "x") == 1
                assert (await subscriber.get_message(timeout=5))["data"] == b"x"

    asyncio.run(many())


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
@pytest.mark.parametrize("flag", ["-2", "-3"])
def test_redis_cli(instance, flag):
    def cli(*words: str, text: str = "") -> str:
        done = subprocess.run(["redis-cli", "-p", str(instance.resp_port), flag, *words], input=text, capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    assert cli("SET", "cli", "1") == "OK" and cli("INCR", "cli") == "2"
    assert cli(text="MULTI\nINCR cli\nGET cli\nEXEC\n").splitlines()[-2:] == ["3", "3"]
    assert "redis_version" in cli("INFO")
    pipe = b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\np%d\r\n$1\r\nx\r\n" % (len(str(n)) + 1, n) for n in range(2_000))
    assert "errors: 0, replies: 2000" in cli("--pipe", text=pipe.decode())


def test_keys_of_one_shard_need_no_hash_tag():
    """With the one worker that --resp starts, commands of several keys take any keys, as Redis does."""
    with running_instance(resp="127.0.0.1:0", workers=0) as instance:
        assert len(instance.snapshot().shards) == 1
        with redis.Redis(port=instance.resp_port) as client:
            client.set("a", "1")
            assert client.rename("a", "b")
            client.sadd("s1", 1, 2)
            client.sadd("s2", 2, 3)
            assert client.sinterstore("s3", "s1", "s2") == 1
            client.rpush("l1", "x")
            assert client.lmove("l1", "l2") == b"x"
            client.pfadd("p1", "x")
            client.pfadd("p2", "y")
            assert client.pfcount("p1", "p2") == 2
            with client.pipeline() as transaction:
                assert transaction.set("t1", 1).set("t2", 2).mget("t1", "t2").execute()[2] == [b"1", b"2"]


def test_scores_are_numbers_in_resp3(instance):
    """Wherever a score or a place stands, however deep."""
    with redis.Redis(port=instance.resp_port, protocol=3) as client:
        client.delete("{z}")
        client.zadd("{z}", {"a": 1.5, "b": 2, "c": 3, "d": 4})
        ask = client.connection_pool.get_connection()

        def raw(*words):
            ask.send_command(*words)
            return ask.read_response()

        assert raw("ZRANK", "{z}", "b", "WITHSCORE") == [1, 2.0]
        assert raw("BZPOPMIN", "{z}", 0) == [b"{z}", b"a", 1.5]
        assert raw("ZMPOP", 1, "{z}", "MIN", "COUNT", 2) == [b"{z}", [[b"b", 2.0], [b"c", 3.0]]]
        assert raw("ZPOPMAX", "{z}") == [b"d", 4.0]
        raw("GEOADD", "{z}g", 10, 20, "here")
        assert [type(part) for part in raw("GEOPOS", "{z}g", "here", "none")[0]] == [float, float]
        client.connection_pool.release(ask)
