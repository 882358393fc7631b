-- What scripts see, and how they are run. The chunk is called once with functions of the host; it returns functions for the host.
--
-- No function of the host is given to scripts itself: they are called from here, with strings and numbers only. The host raises nothing. What it
-- has to give besides numbers it puts into `box`, while the limit of memory is lifted: an allocation that fails outside of a protected
-- call would end the process.
local host, box, limits, values = ...
local raw = { next = next, rawget = rawget, rawset = rawset, setmetatable = setmetatable, getmetatable = getmetatable, loadstring = loadstring }
local type, error, tostring, pairs, select, unpack, pcall, xpcall = type, error, tostring, pairs, select, unpack, pcall, xpcall
local floor, format, byte, rep, concat, find, sub = math.floor, string.format, string.byte, string.rep, table.concat, string.find, string.sub
local setfenv, sethook, getinfo = setfenv, debug.sethook, debug.getinfo
local resume, create, status = coroutine.resume, coroutine.create, coroutine.status

local READONLY = "Attempt to modify a readonly table"
local EXPIRED = "Script killed by user with SCRIPT KILL or by its time limit"
local real_of = raw.setmetatable({}, { __mode = "k" })

-- --- tables that cannot be changed ---------------------------------------------------------------
local function refuse_change()
  error(READONLY, 2)
end

local function protect(real, index)
  local proxy = raw.setmetatable({}, { __index = index or real, __newindex = refuse_change, __metatable = false })
  real_of[proxy] = real
  return proxy
end

local function changeable(t)
  if real_of[t] then
    error({ err = "ERR " .. READONLY })
  end
  return t
end

-- --- the end of a script's time ------------------------------------------------------------------
local exempt = {}
local function hook()
  if host.expired() then
    sethook(hook, "", 1)
    if not exempt[getinfo(2, "f").func] then
      error(EXPIRED, 0)
    end
  end
end

-- --- the basic functions -------------------------------------------------------------------------
local globals = {}
local environment

local function taken(value)
  local found = box[1]
  box[1] = nil
  return found
end

local function compile(text, name, env)
  if byte(text, 1) == 27 then
    return nil, "precompiled code is not allowed"
  end
  local made, complaint = raw.loadstring(text, name)
  if made then
    setfenv(made, env)
  end
  return made, complaint
end

for _, name in pairs({ "assert", "error", "gcinfo", "ipairs", "pcall", "rawequal", "select", "tonumber", "tostring", "type", "unpack" }) do
  globals[name] = _G[name]
end
globals._VERSION = _VERSION

-- The handler of an error that the hook raised runs inside of the hook, where no hook is called: it must not be the script's.
function globals.xpcall(f, handle)
  return xpcall(f, function(raised)
    if host.expired() then
      return raised
    end
    return handle(raised)
  end)
end

function globals.collectgarbage(what)
  if what == "count" then
    return collectgarbage("count")
  end
  return collectgarbage("collect")
end

function globals.getmetatable(value)
  if type(value) == "string" then
    return protect({ __index = globals.string })
  end
  return raw.getmetatable(value)
end

function globals.setmetatable(t, metatable)
  return raw.setmetatable(changeable(t), metatable)
end

function globals.rawget(t, key)
  return raw.rawget(real_of[t] or t, key)
end

function globals.rawset(t, key, value)
  return raw.rawset(changeable(t), key, value)
end

function globals.next(t, key)
  return raw.next(real_of[t] or t, key)
end

function globals.pairs(t)
  return globals.next, t, nil
end

function globals.loadstring(text, name)
  return compile(tostring(text), name or tostring(text), environment)
end

function globals.load(pieces, name)
  local parts = {}
  while true do
    local piece = pieces()
    if piece == nil or piece == "" then
      break
    end
    parts[#parts + 1] = piece
  end
  return compile(concat(parts), name or "=(load)", environment)
end

-- Lua keeps hooks by thread, and counts how deep C calls nest in each thread by itself.
local nested = 0
local function counted(...)
  nested = nested - 1
  return ...
end

local function resumed(co, ...)
  if nested >= limits.coroutines then
    return false, "too many coroutines that resume each other"
  end
  nested = nested + 1
  return counted(resume(co, ...))
end

local function created(f)
  local co = create(f)
  sethook(co, hook, "", limits.instructions)
  return co
end

local function given(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

globals.coroutine = protect({
  create = created,
  resume = resumed,
  running = coroutine.running,
  status = status,
  yield = coroutine.yield,
  wrap = function(f)
    local co = created(f)
    return function(...)
      return given(resumed(co, ...))
    end
  end,
})

local strings = {}
for name, f in pairs(string) do
  strings[name] = f
end
strings.dump = nil
strings.gfind = nil
function strings.rep(s, n)
  if #s * n > limits.memory then
    error("not enough memory", 2)
  end
  return n > 0 and #s > 0 and rep(s, n) or ""
end
for _, name in pairs({ "find", "match", "gmatch", "gsub" }) do
  local original = string[name]
  strings[name] = function(s, pattern, ...)
    if (type(pattern) == "string" or type(pattern) == "number") and #tostring(pattern) > limits.pattern and not (name == "find" and select(2, ...)) then
      error("pattern too long", 2)
    end
    return original(s, pattern, ...)
  end
end
raw.getmetatable("").__index = strings
globals.string = protect(strings)

local tables = {}
for name, f in pairs(table) do
  tables[name] = f
end
for _, name in pairs({ "insert", "remove", "sort", "setn" }) do
  local original = table[name]
  tables[name] = original and function(t, ...)
    return original(changeable(t), ...)
  end
end
globals.table = protect(tables)
globals.math = protect(math)

-- --- redis ---------------------------------------------------------------------------------------
local redis = { LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3, REPL_NONE = 0, REPL_SLAVE = 1, REPL_REPLICA = 1, REPL_AOF = 2, REPL_ALL = 3 }
redis.REDIS_VERSION, redis.REDIS_VERSION_NUM = limits.version, limits.version_number

local function fail(text)
  error({ err = "ERR " .. text })
end

local function words(...)
  local count = select("#", ...)
  if count == 0 then
    return nil, "Please specify at least one argument for this redis lib call"
  end
  local found = { ... }
  for at = 1, count do
    local kind = type(found[at])
    if kind == "number" then
      local number = found[at]
      if number == floor(number) and number > -9.2233720368547758e18 and number < 9.2233720368547758e18 then
        found[at] = format("%.0f", number)
      else
        found[at] = format("%.17g", number)
      end
    elseif kind ~= "string" then
      return nil, "Lua redis lib command arguments must be strings or integers"
    end
  end
  return found
end

local function called(...)
  local found, complaint = words(...)
  if not found then
    return { err = "ERR " .. complaint }, true
  end
  local failed = host.command(unpack(found))
  return taken(), failed
end

function redis.call(...)
  local reply, failed = called(...)
  if failed then
    error(reply)
  end
  return reply
end

function redis.pcall(...)
  return (called(...))
end

function redis.error_reply(text, ...)
  if type(text) ~= "string" or select("#", ...) > 0 then
    return { err = "ERR wrong number or type of arguments" }
  end
  if sub(text, 1, 1) == "-" then
    text = sub(text, 2)
  elseif not find(text, " ", 1, true) then
    text = text == "" and "ERR " or text
  end
  return { err = text }
end

function redis.status_reply(text, ...)
  if type(text) ~= "string" or select("#", ...) > 0 then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { ok = text }
end

function redis.sha1hex(...)
  if select("#", ...) ~= 1 then
    fail("wrong number of arguments")
  end
  host.sha1(tostring((...)))
  return taken()
end

function redis.log(...)
  if select("#", ...) < 2 then
    fail("redis.log() requires two arguments or more.")
  end
  local level = ...
  if type(level) ~= "number" then
    fail("First argument must be a number (log level).")
  end
  if level < 0 or level > 3 then
    fail("Invalid debug level.")
  end
  local parts = {}
  for at = 2, select("#", ...) do
    local part = select(at, ...)
    if type(part) == "string" or type(part) == "number" then
      parts[#parts + 1] = tostring(part)
    end
  end
  host.log(level, concat(parts, " "))
end

function redis.setresp(...)
  local version = ...
  if select("#", ...) ~= 1 then
    fail("redis.setresp() requires one argument.")
  end
  if version ~= 2 and version ~= 3 then
    fail("RESP version must be 2 or 3.")
  end
  host.set_resp(version)
end

function redis.replicate_commands()
  return true
end

function redis.breakpoint()
  return false
end

function redis.acl_check_cmd(...)
  local found, complaint = words(...)
  if not found then
    fail(complaint)
  end
  host.verdict(unpack(found))
  local verdict = taken()
  if verdict == nil then
    fail("Invalid command passed to redis.acl_check_cmd()")
  end
  return verdict
end

function redis.set_repl() end

function redis.debug() end

globals.redis = protect(redis)

-- --- environments --------------------------------------------------------------------------------
local function missing(key)
  error("Script attempted to access nonexistent global variable '" .. tostring(key) .. "'", 3)
end

environment = protect(globals, function(_, key)
  local value = globals[key]
  if value == nil then
    missing(key)
  end
  return value
end)
globals._G = environment

local loading
local library_globals = raw.setmetatable({}, { __index = globals })
local library_redis = raw.setmetatable({}, { __index = redis })
local library_environment = protect(library_globals, function(_, key)
  local value = key ~= "KEYS" and key ~= "ARGV" and library_globals[key] or nil
  if value == nil then
    missing(key)
  end
  return value
end)
library_globals._G = library_environment
library_globals.redis = protect(library_redis, function(_, key)
  if loading and (key == "call" or key == "pcall" or key == "setresp" or key == "acl_check_cmd" or key == "set_repl" or key == "replicate_commands") then
    missing(key)
  end
  return library_redis[key]
end)

local function registered(name, callback, description, flags)
  if type(name) ~= "string" then
    fail("function_name argument given to redis.register_function must be a string")
  end
  if type(callback) ~= "function" then
    fail("callback argument given to redis.register_function must be a function")
  end
  host.register(name, description or "", concat(flags or {}, ","))
  loading[name] = callback
  local complaint = taken()
  if complaint then
    fail(complaint)
  end
end

function library_redis.register_function(...)
  local count = select("#", ...)
  local first, second = ...
  if not loading then
    fail("redis.register_function can only be called on FUNCTION LOAD command")
  end
  if count == 2 then
    if type(first) ~= "string" then
      fail("first argument to redis.register_function must be a string")
    end
    if type(second) ~= "function" then
      fail("second argument to redis.register_function must be a function")
    end
    return registered(first, second)
  end
  if count ~= 1 then
    fail("wrong number of arguments to redis.register_function")
  end
  if type(first) ~= "table" then
    fail("calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).")
  end
  local flags = first.flags
  for key in raw.next, first do
    if key ~= "function_name" and key ~= "callback" and key ~= "description" and key ~= "flags" then
      fail("unknown argument given to redis.register_function")
    end
  end
  if first.function_name == nil then
    fail("redis.register_function must get a function name argument")
  end
  if first.callback == nil then
    fail("redis.register_function must get a callback argument")
  end
  if first.description ~= nil and type(first.description) ~= "string" then
    fail("description argument given to redis.register_function must be a string")
  end
  if flags ~= nil then
    if type(flags) ~= "table" then
      fail("flags argument to redis.register_function must be a table representing function flags")
    end
    for _, flag in pairs(flags) do
      if type(flag) ~= "string" then
        fail("unknown flag given")
      end
    end
  end
  return registered(first.function_name, first.callback, first.description, flags)
end

local emit_reply = values(host, real_of, limits)

-- --- running -------------------------------------------------------------------------------------
local OWN = getinfo(1, "S").source
local current

-- Source and line of the innermost function that is not ours. A function of ours that a script calls as `return f(...)` has taken the place
-- of its caller: then it is the last line of what was run.
local function position()
  local level = 3
  while true do
    local at = getinfo(level, "Sl")
    if not at or at.what == "tail" then
      break
    end
    if at.what ~= "C" and at.source ~= OWN then
      return at.source, at.currentline
    end
    level = level + 1
  end
  local info, last = getinfo(current, "SL"), 0
  for line in raw.next, info.activelines do
    last = line > last and line or last
  end
  return info.source, last
end

local function complain(text)
  local source, line = position()
  error(sub(source, 2) .. ":" .. line .. ": " .. text, 0)
end

local function handler(raised)
  local made = raised
  if type(raised) ~= "table" then
    made = { err = "ERR " .. tostring(raised) }
  else
    local err = raw.rawget(raised, "err")
    made = { err = type(err) == "string" and err or "ERR unknown error", bare = raw.rawget(raised, "bare"), source = nil }
  end
  made.source, made.line = position()
  return made
end
exempt[handler] = true

local function run(work)
  nested = 0
  sethook(hook, "", limits.instructions)
  host.limit(true)
  local ok, raised = xpcall(work, handler)
  sethook()
  host.limit(false)
  if not ok then
    if type(raised) ~= "table" then
      raised = { err = "ERR " .. tostring(raised) }
    end
    host.failed(raised.err, raised.source or "", raised.line or 0, raised.bare or false)
  end
end
exempt[run] = true

local scripts, functions = {}, {}
local api = {}

function api.compile(sha, text)
  local made, complaint = compile(text, "@user_script", environment)
  scripts[sha] = made
  return complaint
end

function api.forget(sha)
  scripts[sha] = nil
end

function api.eval(sha, keys, argv)
  math.randomseed(0)
  globals.KEYS, globals.ARGV = keys, argv
  run(function()
    current = scripts[sha]
    local result = current()
    host.begin()
    emit_reply(result, 1)
  end)
  globals.KEYS, globals.ARGV = nil, nil
end

function api.fcall(name, keys, argv)
  math.randomseed(0)
  run(function()
    current = functions[name]
    local result = current(keys, argv)
    host.begin()
    emit_reply(result, 1)
  end)
end

-- Load a library; its functions count when the host says so.
local loaded
function api.load(text)
  local made, complaint = compile(text, "@user_function", library_environment)
  if not made then
    return complaint
  end
  loading, current = {}, made
  run(made)
  loading, loaded = nil, loading
end

function api.accept()
  for name, callback in raw.next, loaded do
    functions[name] = callback
  end
  loaded = nil
end

function api.drop(name)
  functions[name] = nil
end

return api, { box = taken, host = host, globals = globals, protect = protect, real_of = real_of, limits = limits, raw = raw, complain = complain }
