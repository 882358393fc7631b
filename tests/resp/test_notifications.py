"""Messages about keys: the option, and what commands are called, beside a real server."""

import os
import shutil
import signal

import pytest
import redis

from tests.support.instance import running_instance, wait_until
from tests.support.real_redis import real_redis

COMMANDS = """SET {t}a 1|SET {t}a 1 EX 100|SET {t}a 2 KEEPTTL|SETNX {t}nx 1|SETEX {t}a 100 1|GETSET {t}a 5|MSET {t}a 1 {t}b 2|MSETNX {t}c 1 {t}d 2
APPEND {t}a x|SETRANGE {t}a 0 y|INCR {t}n|DECRBY {t}n 2|INCRBYFLOAT {t}n 1.5|SETBIT {t}bits 3 1|BITFIELD {t}bits SET u8 0 3|BITOP NOT {t}bo {t}bits
BITOP AND {t}bo {t}none|PFADD {t}hll a b|PFMERGE {t}hll2 {t}hll|EXPIRE {t}a 100|PEXPIREAT {t}a 99999999999999|PERSIST {t}a|PERSIST {t}a|EXPIRE {t}a -1
SET {t}a 1|GETEX {t}a EX 100|GETEX {t}a PERSIST|GETEX {t}a|GETDEL {t}a|SET {t}a 1|DEL {t}a {t}none|UNLINK {t}b|SET {t}a 1|RENAME {t}a {t}r|RENAMENX {t}r {t}s
COPY {t}s {t}cp|LPUSH {t}l a b|RPUSH {t}l c d|LPUSHX {t}l a|LINSERT {t}l BEFORE c x|LSET {t}l 0 q|LREM {t}l 1 q|LTRIM {t}l 0 3|LPOP {t}l|RPOP {t}l
LMOVE {t}l {t}m LEFT RIGHT|RPUSH {t}l 1 2 3 4|RPOPLPUSH {t}l {t}m|LMPOP 1 {t}l LEFT|LMPOP 1 {t}l RIGHT COUNT 9|RPUSH {t}l 1|BLPOP {t}l 0|RPUSH {t}l 1
BLMOVE {t}l {t}m LEFT LEFT 0|RPUSH {t}l 1 2|LTRIM {t}l 5 9|RPUSH {t}l 3 1 2|SORT {t}l STORE {t}sorted|SORT {t}none STORE {t}sorted|HSET {t}h a 1 b 2|HDEL {t}h a b
SADD {t}s1 a b c|SADD {t}s1 a|SREM {t}s1 a|SMOVE {t}s1 {t}s2 b|SMOVE {t}s1 {t}s2 c|SPOP {t}s2 5|SADD {t}s1 a b|SINTERSTORE {t}i {t}s1 {t}s1|SDIFFSTORE {t}i {t}s1 {t}s1
ZADD {t}z 1 a 2 b 3 c 4 d|ZADD {t}z INCR 1 a|ZREM {t}z a|ZPOPMIN {t}z|ZMPOP 1 {t}z MAX|ZREMRANGEBYRANK {t}z 0 0|ZADD {t}z 1 a|ZRANGESTORE {t}zz {t}z 0 -1|ZDIFFSTORE {t}zz 2 {t}z {t}z"""


def heard(client, port: int, commands: list[list[str]]) -> list[tuple[str, list[str]]]:
    """What is told of each command, by a subscriber. A marker says that a command's messages are over."""
    found = []
    with redis.Redis(port=port).pubsub() as subscriber:
        subscriber.psubscribe("__keyspace@0__:*")
        assert subscriber.get_message(timeout=5)["type"] == "psubscribe"
        for number, words in enumerate(commands):
            client.execute_command(*words)
            client.set(f"{{t}}marker{number}", 1)
            messages = []
            while True:
                message = subscriber.get_message(timeout=5)
                assert message is not None, words
                key = message["channel"].decode().partition(":")[2]
                if key.startswith("{t}marker"):
                    break
                messages.append(f"{key}:{message['data'].decode()}")
            found.append((" ".join(words), messages))
    return found


def test_names_of_events(instance, client):
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server")
    known = {name.decode().upper() if isinstance(name, bytes) else name.upper() for name in client.command()}
    commands = [words for line in COMMANDS.split("\n") for part in line.split("|") if (words := part.split())[0] in known]
    client.config_set("notify-keyspace-events", "KEA")
    try:
        ours = heard(client, instance.resp_port, commands)
    finally:
        client.config_set("notify-keyspace-events", "")
    with real_redis(program) as other:
        other.client.config_set("notify-keyspace-events", "KEA")
        theirs = heard(other.client, other.port, commands)
    # The keys of one command that has many are in no order.
    assert [(words, sorted(messages)) for words, messages in ours] == [(words, sorted(messages)) for words, messages in theirs]


@pytest.mark.parametrize(("letters", "shown"), [("KEA", "AKE"), ("Kg$l", "g$lK"), ("EA$lshzxetd", "AE"), ("KEAmn", "AKEm"), ("KEmnl$", "$lnKEm"), ("", "")])
def test_letters(client, letters, shown):
    client.config_set("notify-keyspace-events", letters)
    assert client.config_get("notify-keyspace-events") == {"notify-keyspace-events": shown}
    with pytest.raises(redis.ResponseError, match="Invalid event class character"):
        client.config_set("notify-keyspace-events", "KQ")


def test_expiry_and_a_new_hub():
    """A hub that is started again tells on; our own letter of the start stays."""
    with running_instance(resp="127.0.0.1:0", channels=True, notify="I") as found, redis.Redis(port=found.resp_port) as client:
        assert client.config_get("notify-keyspace-events") == {"notify-keyspace-events": ""}
        client.config_set("notify-keyspace-events", "Ex")
        with client.pubsub(ignore_subscribe_messages=True) as subscriber:
            subscriber.subscribe("__keyevent@0__:expired")
            subscriber.get_message(timeout=1)
            client.set("k", 1, px=20)
            assert wait_until(lambda: subscriber.get_message(timeout=0.1))["data"] == b"k"
            former = found.hub_pid()
            os.kill(former, signal.SIGKILL)
            wait_until(lambda: found.hub_pid() not in (0, former), 20)
            assert client.config_get("notify-keyspace-events") == {"notify-keyspace-events": "xE"}
            wait_until(lambda: client.set("l", 1, px=10) and subscriber.get_message(timeout=0.2), 20)
