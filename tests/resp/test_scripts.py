"""EVAL, SCRIPT, FUNCTION, FCALL on the RESP port, beside a real Redis where there is one."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from tests.support.instance import RunningInstance, running_instance, wait_until
from tests.support.real_redis import real_redis

COUNT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance(workers=2, resp="127.0.0.1:0", memory="512MB", script_time=700) as found:
        yield found


@pytest.fixture(scope="module")
def original() -> Iterator[redis.Redis]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server")
    with real_redis(program) as found:
        yield found.client


@pytest.fixture
def one(instance: RunningInstance) -> Iterator[redis.Redis]:
    with redis.Redis(port=instance.resp_port) as found:
        found.flushall()
        yield found


SCRIPTS = [
    "return 1", "return 3.99", "return -3.7", "return 1e300", "return 'a\\0b'", "return true", "return false", "return nil", "return {1,2,nil,3}",
    "return {1.5,'a',true,false,{2,{3}}}", "return {ok='fine'}", "return {err='CODE text'}", "return {err='My Err'}", "return {ok=1}", "return {1,2,a=3}",
    "return {double=1.5}", "return {map={a=1}}", "return function() end", "return {function() end, 1}", "return redis.status_reply('fine')",
    "return redis.error_reply('My Err')", "return redis.error_reply('-CODE My Err')", "return redis.error_reply(1)", "return redis.status_reply()",
    "return x", "x=1", "error('boom')", "error({err='boom it'})", "error()", "local a={} a.b.c=1", "return redis.call('nope')",
    "return redis.call('get')", "return redis.call()", "return redis.call('get', {})", "return redis.call('subscribe', 'a')", "return redis.pcall('get')",
    "return redis.call('eval', 'return 1', 0)", "return redis.call('lpush', KEYS[1], 'a')", "return redis.pcall('lpush', KEYS[1], 'a')",
    "local ok, e = pcall(redis.call, 'incr', KEYS[1]) return tostring(ok)", "return redis.pcall('incr', KEYS[1]).err", "return redis.call('ping').ok",
    "return redis.call('get', '{s}no') == false", "return {redis.call('mget', KEYS[1], '{s}no')}", "redis.call('set', '{s}n', 12.5) return redis.call('get', '{s}n')",
    "redis.call('set', '{s}n', 2^53) return redis.call('get', '{s}n')", "redis.call('set', '{s}n', 1e20) return redis.call('get', '{s}n')",
    "#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], 'a')", "#!lua flags=abc\nreturn 1", "#!foo\nreturn 1", "#!lua x=1\nreturn 1", "#!lua\nreturn 5",
    "retur 1", "return redis.sha1hex('')", "return redis.sha1hex(12)", "return redis.sha1hex()", "redis.log(1)", "redis.log(9, 'x')", "redis.setresp(4)",
    "string.x=1", "rawset(_G, 'a', 1)", "setmetatable(_G, {})", "getmetatable('').__index=1", "redis.call=1", "KEYS=1", "KEYS[1]='q' return KEYS",
    "return print(1)", "return os.clock()", "return loadstring('return 1')()", "return loadstring('return y')()", "return _VERSION", "return {redis.REDIS_VERSION_NUM, redis.REPL_ALL, redis.LOG_WARNING}",
    "return {#KEYS, #ARGV, ARGV[1], ARGV[2]}", "return redis.call('select', 0)", "return redis.replicate_commands()", "return redis.acl_check_cmd('get', 'a')",
    "return cjson.encode({1, 2, {a=1.5}, {}, cjson.null, '\\n\"/\\1'})", "return cjson.encode(cjson.decode('[1,2.5,\"x\",null,true,{},[[]]]'))", "return cjson.decode('{\"a\":{\"b\":[7]}}').a.b[1]",
    "return cjson.encode({[1]=1, [20]=2})", "return cjson.encode({a=function() end})", "return cjson.encode(1/3)", "return cjson.decode('null') == cjson.null",
    "return cmsgpack.pack({1, -2, 'a', {x=1.5}, true, 300, 70000})", "return cmsgpack.unpack(cmsgpack.pack({1, 'a', {b=2}}))", "return {cmsgpack.unpack(cmsgpack.pack(1, 2, 'x'))}",
    "return bit.tohex(255, 4) .. bit.band(7, 3) .. bit.bnot(0) .. bit.lshift(1, 31) .. bit.arshift(-8, 1) .. bit.rol(1, 33) .. bit.bswap(1) .. bit.bor(1, 2, 4)",
    "return struct.pack('>I2hs', 1, 2, 'ab')", "return {struct.unpack('>I2hs', struct.pack('>I2hs', 1, 2, 'ab'))}", "return struct.size('<i4d')", "return struct.pack('<d', 1.5)",
    "local t = {} for k in pairs(redis) do t[#t+1] = k end table.sort(t) return table.concat(t, ' ')", "local t={3,1,2} table.sort(t) table.insert(t, 9) return t",
    "return string.format('%s %d %5.2f', 'a', 3.7, 2)", "local s = 0 for w in ('a b c'):gmatch('%a') do s = s + 1 end return s", "return ('abc'):rep(3):sub(2, 4)",
]  # fmt: skip


def outcome(client: redis.Redis, *command: object) -> object:
    try:
        return client.execute_command(*command)
    except redis.ResponseError as error:
        return f"{type(error).__name__} {error}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_as_the_original(script: str, one: redis.Redis, original: redis.Redis):
    for client in (one, original):
        client.flushall()
        client.set("{s}", "text")
    for command in ("EVAL", "EVAL_RO"):
        assert outcome(one, command, script, 1, "{s}", "one", "two") == outcome(original, command, script, 1, "{s}", "one", "two")
    assert sorted(one.keys()) == sorted(original.keys())


COMMANDS = [
    ("EVAL", "return 1"), ("EVAL", "return 1", "a"), ("EVAL", "return 1", -1), ("EVAL", "return 1", 2, "a"), ("EVALSHA", "abc", 0), ("EVALSHA", "f" * 40, 0),
    ("SCRIPT",), ("SCRIPT", "FOO"), ("SCRIPT", "LOAD"), ("SCRIPT", "LOAD", "retur 1"), ("SCRIPT", "LOAD", "return 1"), ("SCRIPT", "EXISTS", "a", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
    ("EVALSHA", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", 0), ("SCRIPT", "KILL"), ("SCRIPT", "FLUSH", "x"), ("SCRIPT", "FLUSH"), ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0),
    ("FUNCTION", "FLUSH"), ("FUNCTION", "FOO"), ("FUNCTION", "KILL"), ("FUNCTION", "STATS"), ("FUNCTION", "LOAD", "return 1"), ("FUNCTION", "LOAD"),
    ("FUNCTION", "LOAD", "#!lua name=a\nredis.register_function('f', function(k, a) return {k[1], a[1]} end)"),
    ("FUNCTION", "LOAD", "#!lua name=a\nredis.register_function('f', function(k, a) return {k[1], a[1]} end)"), ("FCALL", "f", 1, "a", "b"), ("FCALL", "nof", 0), ("FCALL", "f", "x"), ("FCALL", "f", 3),
    ("FUNCTION", "LIST", "WITHCODE"), ("FUNCTION", "DELETE", "b"), ("FUNCTION", "LOAD", "#!lua name=b\nreturn 1"), ("FUNCTION", "LOAD", "#!lua\nreturn 1"),
    ("FUNCTION", "LOAD", "#!lua name=b\nredis.register_function('f', function() end)"), ("FUNCTION", "LOAD", "#!lua name=b\nredis.call('set', 'a', 1)"),
    ("FUNCTION", "LOAD", "#!lua name=b\nredis.register_function('f b', function() end)"),
    ("FUNCTION", "LOAD", "#!lua name=b\nredis.register_function{function_name='g', callback=function() return redis.call('set', 'x', 1) end, flags={'no-writes'}, description='d'}"),
    ("FCALL_RO", "g", 0), ("FCALL", "g", 0), ("FCALL_RO", "f", 0), ("FUNCTION", "LIST", "LIBRARYNAME", "b*"), ("FUNCTION", "STATS"), ("FUNCTION", "LOAD", "#!lua name=c-c\nx"),
    ("FUNCTION", "LOAD", "#!lua name=c\nx=1"), ("FUNCTION", "LOAD", "#!lua name=c\nreturn y"), ("FUNCTION", "LOAD", "#!lua name=c\nredis.register_function('z')"),
    ("FUNCTION", "LOAD", "#!lua name=c\nredis.register_function('z', 1)"), ("FUNCTION", "LOAD", "#!lua name=c\nredis.register_function{function_name='z', callback=function() end, flags={'foo'}}"),
    ("FUNCTION", "LOAD", "#!lua name=c\nredis.register_function{function_name='z', x=function() end}"), ("FUNCTION", "LOAD", "#!lua name=c\nredis.register_function('z', function() return KEYS end)"), ("FCALL", "z", 0),
    ("FUNCTION", "RESTORE", "abc"), ("FUNCTION", "LOAD", "#!lua name=d\nsyn tax"), ("FUNCTION", "LOAD", "#!py name=d\n"), ("FUNCTION", "LOAD", "#!lua name=d name=e\n"), ("FUNCTION", "LOAD", "#!lua nam=d\n"),
    ("FUNCTION", "LOAD", "REPLACE", "#!lua name=a\nredis.register_function('f', function() return redis.call('nope') end)"), ("FCALL", "f", 0), ("FUNCTION", "LOAD", "foo", "bar"),
    ("FUNCTION", "FLUSH", "x"), ("FUNCTION", "DELETE", "a"), ("FCALL", "f", 0), ("FUNCTION", "FLUSH"), ("FUNCTION", "LIST"),
]  # fmt: skip


def test_commands_as_the_original(one: redis.Redis, original: redis.Redis):
    for command in COMMANDS:
        assert outcome(one, *command) == outcome(original, *command), command


@pytest.mark.parametrize("resp", [2, 3])
def test_values_in_both_protocols(resp: int, instance: RunningInstance, original: redis.Redis):
    scripts = [
        "return {map={a=1, b={2}}}", "redis.setresp(3) return {map={a=true}}", "redis.setresp(3) return {set={x=true}}", "redis.setresp(3) return {double=1.25}", "redis.setresp(3) return {true, false}",
        "redis.setresp(3) redis.call('hset', KEYS[1], 'f', 'v') return redis.call('hgetall', KEYS[1])", "redis.call('hset', KEYS[1], 'f', 'v') return redis.call('hgetall', KEYS[1])",
        "redis.setresp(3) return redis.call('get', 'no') == nil", "return redis.call('get', 'no') == false",
    ]  # fmt: skip
    port = original.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=instance.resp_port, protocol=resp) as one, redis.Redis(port=port, protocol=resp) as other:
        other.flushall()
        one.flushall()
        for script in scripts:
            # Key `no` may be another shard's: then it is declared.
            found = [outcome(client, "EVAL", script.replace("'no'", "KEYS[1]..'}'"), 1, "{h}") for client in (one, other)]
            assert found[0] == found[1], script


def test_clients(one: redis.Redis):
    count = one.register_script(COUNT)
    assert count(keys=["n"], args=[5]) == 5
    one.script_flush()
    assert count(keys=["n"], args=[5]) == 10
    assert one.script_exists(count.sha) == [True]
    with one.pipeline(transaction=False) as pipe:
        count(keys=["n"], args=[1], client=pipe)
        count(keys=["other"], args=[1], client=pipe)
        assert pipe.execute() == [11, 1]
    assert one.script_exists(count.sha) == [True]
    with one.lock("lock", timeout=5) as lock:
        assert lock.locked()
        assert lock.owned()
        assert lock.extend(5)
        assert not one.lock("lock").acquire(blocking=False)
    assert not one.exists("lock")
    text = "#!lua name=mine\nredis.register_function('add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)"
    assert one.function_load(text) == b"mine"
    assert [one.fcall("add", 1, f"k{n}", n) for n in range(1, 9)] == list(range(1, 9))
    dump = one.function_dump()
    assert one.function_delete("mine")
    with pytest.raises(redis.ResponseError, match="not found"):
        one.fcall("add", 1, "k1", 1)
    assert one.function_restore(dump)
    assert one.fcall("add", 1, "k1", 1) == 2
    assert one.function_flush()


def test_keys(one: redis.Redis):
    names = [f"k{n}" for n in range(20)]
    with pytest.raises(redis.ResponseError, match="different slots"):
        one.eval("return 1", 20, *names)
    with pytest.raises(redis.ResponseError, match="another shard: declare all keys"):
        one.eval("for n = 0, 19 do redis.call('set', 'k' .. n, 1) end", 1, "k0")


def test_transactions(one: redis.Redis):
    with one.pipeline() as pipe:
        pipe.set("{t}", 1).eval(COUNT, 1, "{t}", 5).get("{t}").eval("return redis.call('nope')", 1, "{t}").eval("return 7", 0)
        found = pipe.execute(raise_on_error=False)
    assert found[:3] == [True, 6, b"6"]
    assert "Unknown Redis command" in str(found[3])
    assert found[4] == 7
    with one.pipeline() as pipe:
        pipe.incr("{t}").eval("redis.call('set', KEYS[1], 'x') while true do end", 1, "{t}")
        with pytest.raises(redis.ResponseError, match="time limit"):
            pipe.execute()
    assert one.get("{t}") == b"6"


def test_what_a_script_did_before_it_failed_stays(one: redis.Redis):
    with pytest.raises(redis.ResponseError, match="boom"):
        one.eval("redis.call('set', KEYS[1], 1) redis.call('rpush', '{a}l', 1, 2) error('boom')", 1, "{a}")
    assert one.get("{a}") == b"1"
    assert one.lrange("{a}l", 0, -1) == [b"1", b"2"]


ENDLESS = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do pcall(pcall, function() error() end) end",
    "coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()",
    "while true do local co = coroutine.create(function() while true do end end) coroutine.resume(co) end",
    "xpcall(function() while true do end end, function() while true do end end) while true do end",
    "redis.call('set', KEYS[1], 1) while true do redis.call('incr', KEYS[1]) end",
    "local t = {1, 2} for i = 1, 60 do t = {t, t} end return t",
    "setmetatable({}, {__index = function() while true do end end}).x = nil local a = setmetatable({}, {__index = function() while true do end end}).y",
    "table.sort({3, 2, 1, 4, 5}, function(a, b) while true do end end)",
    "string.gsub(('a'):rep(1000), '.', function() while true do end end)",
]


@pytest.mark.parametrize("script", ENDLESS)
def test_endless(script: str, one: redis.Redis):
    begun = time.monotonic()
    with pytest.raises(redis.ResponseError, match=r"time limit|too large"):
        one.eval(script, 1, "endless")
    assert time.monotonic() - begun < 3
    assert one.get("endless") is None
    assert one.eval("return 1", 1, "endless") == 1


GREEDY = [
    "local s = 'x' while true do s = s .. s end",
    "local t = {} while true do t[#t + 1] = {} end",
    "return ('x'):rep(2^31)",
    "local t = {} for i = 1, 64 do t[i] = ('x'):rep(2^20) .. i end return table.concat(t)",
    "local t = {} for i = 1, 2^26 do t[i] = i end return t",
    "local function f() return f() + 1 end return f()",
    "local function f(g) return coroutine.wrap(g)(g) end f(f)",
    "return unpack({}, 1, 1e7)",
    "local t = {} t[1] = t return t",
    "return loadstring(('('):rep(1e5))",
    "return redis.call('set', KEYS[1], ('x'):rep(63 * 2^20))",
    "return string.rep('x?', 10000):find(string.rep('x?', 10000))",
    "return string.format('%1000000d', 1)",
    "return cjson.decode(('['):rep(100000))",
    "local t = {} for i = 1, 5000 do t = {t} end return cjson.encode(t)",
    "return cmsgpack.unpack(('\\145'):rep(100000))",
    "return struct.pack('c99999999999', 'x')",
]


@pytest.mark.parametrize("script", GREEDY)
def test_greedy(script: str, one: redis.Redis):
    try:
        one.eval(script, 1, "greedy")
    except redis.ResponseError:
        pass
    assert one.eval("return redis.call('incr', KEYS[1])", 1, "{greedy}after") == 1


ESCAPES = [
    "return python", "return require", "return package", "return debug", "return io", "return getfenv", "return setfenv", "return newproxy", "return dofile", "return module",
    "return string.dump(function() end)", "return loadstring('\\27Lua')()", "return load(function() return '\\27Lua' end)()", "return loadstring('return python')()", "return coroutine.wrap(function() return python end)()",
    "return _G._G._G.python", "return rawget(_G, 'python').eval", "local t = getmetatable(_G) return t.__index.python", "return getmetatable(redis).__index", "return ('').dump(function() end)",
    "string.format = nil", "table.insert(_G, 1)", "table.insert(string, 1)", "rawset(string, 'format', nil)", "setmetatable(string, {})", "getmetatable('').__index.format = nil", "for k in pairs(string) do string[k] = nil end",
    "redis.call = nil", "_G.redis = nil", "math.huge = 1", "cjson.encode = nil", "return tostring(redis.call.__class__)", "return redis.call.__globals__", "local ok, e = pcall(redis.call, 'nope') return e.__class__.x",
    "return select(2, pcall(redis.call, 'get', {})).args[1]", "return cjson.null.__class__", "return getmetatable(cjson.null).__index",
]  # fmt: skip


@pytest.mark.parametrize("script", ESCAPES)
def test_escapes(script: str, one: redis.Redis):
    with pytest.raises(redis.ResponseError):
        one.eval(script, 0)
    assert one.eval("return string.format('%d', #cjson.encode({1})) .. type(redis.call)", 0) == b"3function"


def test_nothing_of_the_host_is_in_reach(one: redis.Redis):
    walk = """
    local seen, found = {}, {}
    local function visit(value, name)
      local kind = type(value)
      if kind == 'userdata' and value ~= cjson.null then found[#found + 1] = name end
      if seen[value] or kind ~= 'table' and kind ~= 'string' and kind ~= 'userdata' then return end
      seen[value] = true
      local metatable = getmetatable(value)
      if metatable then visit(metatable, name .. '<>') end
      if kind == 'table' then for k, v in pairs(value) do visit(k, name .. '.key') visit(v, name .. '.' .. tostring(k)) end end
    end
    visit(_G, '_G') visit('', 'string')
    return found"""
    assert one.eval(walk, 0) == []


def test_kill(one: redis.Redis, instance: RunningInstance):
    ended: list[str] = []

    def run() -> None:
        with redis.Redis(port=instance.resp_port) as other:
            ended.append(str(outcome(other, "EVAL", "redis.call('set', KEYS[1], 1) while true do end", 1, "k")))

    thread = threading.Thread(target=run)
    thread.start()
    begun = time.monotonic()
    wait_until(lambda: outcome(one, "SCRIPT", "KILL") == b"OK", 5)
    thread.join()
    assert "SCRIPT KILL" in ended[0]
    assert time.monotonic() - begun < 0.6
    assert one.get("k") is None
    assert "NOTBUSY" in str(outcome(one, "SCRIPT", "KILL"))


def test_a_worker_that_dies_leaves_nothing_of_a_script(one: redis.Redis, instance: RunningInstance):
    text = "#!lua name=kept\nredis.register_function('seven', function() return 7 end)"
    one.function_load(text)
    one.set("dying", 1)
    pids = [shard.owner_pid for shard in instance.snapshot().shards]

    def run() -> None:
        with redis.Redis(port=instance.resp_port) as other:
            outcome(other, "EVAL", "for i = 1, 1e7 do redis.call('incr', KEYS[1]) end", 1, "dying")

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.3)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    thread.join()
    assert one.get("dying") == b"1"
    for key in ("dying", "other"):
        # A busy machine takes its time to start a worker.
        wait_until(lambda key=key: outcome(one, "FCALL", "seven", 1, key) == 7, 30)
    one.function_flush()


def test_words_of_the_first_line_and_of_function(one: redis.Redis):
    body = "\nredis.register_function('quoted', function() return 1 end)"
    assert one.function_load('#!lua name="in_quotes"' + body) == b"in_quotes"
    dumped = one.function_dump()
    for words, text in [
        (["LOAD", '#!lua name="open' + body], "Invalid library metadata"),
        (["LOAD", "#! name=x" + body], "Engine '' not found"),
        (["LIST", "WITHCODE", "WITHCODE"], "Unknown argument WITHCODE"),
        (["LIST", "LIBRARYNAME", "a", "LIBRARYNAME", "b"], "Unknown argument LIBRARYNAME"),
        (["RESTORE", dumped], "Library in_quotes already exists"),
        (["RESTORE", dumped, "APPEND", "x"], "unknown subcommand or wrong number of arguments for 'RESTORE'. Try FUNCTION HELP."),
        (["FLUSH", "SYNC", "x"], "unknown subcommand or wrong number of arguments for 'FLUSH'. Try FUNCTION HELP."),
    ]:
        with pytest.raises(redis.ResponseError, match=re.escape(text)):
            one.execute_command("FUNCTION", *words)
    assert one.function_delete("in_quotes")


def test_functions_are_called_in_any_case(one: redis.Redis):
    """As in Redis 7: within one library names may differ by their case, between two they may not."""
    one.function_load("#!lua name=first\nredis.register_function('aBc', function() return 'x' end)")
    assert one.fcall("ABC", 0) == one.fcall("abc", 0) == b"x"
    with pytest.raises(redis.ResponseError, match="Function abc already exists"):
        one.function_load("#!lua name=second\nredis.register_function('abc', function() return 1 end)")
    assert one.function_load("#!lua name=third\nredis.register_function('z', function() return 1 end) redis.register_function('Z', function() return 2 end)")
    assert one.function_delete("third")
    with pytest.raises(redis.ResponseError, match="Function not found"):
        one.fcall("z", 0)
    assert one.function_delete("first")


def test_a_function_of_lua_that_does_not_end(one: redis.Redis):
    one.set("hanging", 1)
    script = "redis.call('incr', KEYS[1]) return ('a'):rep(100):find(('a?'):rep(100) .. ('a'):rep(100))"
    assert "OUTCOMEUNKNOWN" in str(outcome(one, "EVAL", script, 1, "hanging"))
    assert wait_until(lambda: outcome(one, "SET", "{hanging}x", 1) is True, 5)
    assert one.get("hanging") == b"1"
