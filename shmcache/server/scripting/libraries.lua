-- cjson, cmsgpack, struct and bit for scripts: the part that is written in Lua.
local shared = ...
local host, globals, protect, real_of, limits, raw, taken, complain = shared.host, shared.globals, shared.protect, shared.real_of, shared.limits, shared.raw, shared.box, shared.complain
local type, error, tostring, select, unpack, floor = type, error, tostring, select, unpack, math.floor
local format, gsub, concat, byte = string.format, string.gsub, table.concat, string.byte
local null = newproxy(false)

local function ask(name, ...)
  local failed = host.library(name, ...)
  local found = taken()
  if failed then
    complain(type(found) == "table" and found.err or found)
  end
  return found
end

-- --- cjson ---------------------------------------------------------------------------------------
local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escaped(char)
  return escapes[char] or format("\\u%04x", byte(char))
end

local function quoted(text)
  return '"' .. gsub(text, '[%c"\\/\127]', escaped) .. '"'
end

-- Length of a table that is an array; nil if it is none.
local function length(t)
  local most, count = 0, 0
  for key in raw.next, t do
    if type(key) ~= "number" or key < 1 or key ~= floor(key) then
      return nil
    end
    most, count = key > most and key or most, count + 1
  end
  if most > 10 and most > count * 2 then
    error("Cannot serialise table: excessively sparse array", 0)
  end
  return most
end

local encode

local function encode_number(number)
  if number ~= number or number == 1 / 0 or number == -1 / 0 then
    error("Cannot serialise number: must not be NaN or Inf", 0)
  end
  return format("%.14g", number)
end

function encode(value, out, depth)
  local kind = type(value)
  if kind == "string" then
    out[#out + 1] = quoted(value)
  elseif kind == "number" then
    out[#out + 1] = encode_number(value)
  elseif kind == "boolean" then
    out[#out + 1] = tostring(value)
  elseif value == nil or value == null then
    out[#out + 1] = "null"
  elseif kind == "table" then
    if depth >= limits.depth * 10 then
      error("Cannot serialise, excessive depth (" .. depth + 1 .. ")", 0)
    end
    local items = length(value)
    if items and items > 0 then
      out[#out + 1] = "["
      for at = 1, items do
        if at > 1 then
          out[#out + 1] = ","
        end
        encode(raw.rawget(value, at), out, depth + 1)
      end
      out[#out + 1] = "]"
    else
      local first = true
      out[#out + 1] = "{"
      for key, item in raw.next, value do
        if not first then
          out[#out + 1] = ","
        end
        first = false
        if type(key) == "string" then
          out[#out + 1] = quoted(key)
        elseif type(key) == "number" then
          out[#out + 1] = '"' .. encode_number(key) .. '"'
        else
          error("Cannot serialise " .. type(key) .. ": table key must be a number or string", 0)
        end
        out[#out + 1] = ":"
        encode(item, out, depth + 1)
      end
      out[#out + 1] = "}"
    end
  else
    error("Cannot serialise " .. kind .. ": type not supported", 0)
  end
end

local function safely(work, ...)
  local ok, complaint = pcall(work, ...)
  if not ok then
    complain(complaint)
  end
end

local json = { null = null, _NAME = "cjson", _VERSION = "2.1.0" }

function json.encode(...)
  if select("#", ...) ~= 1 then
    complain("expected 1 argument")
  end
  local out = {}
  safely(encode, (...), out, 0)
  return concat(out)
end

function json.decode(...)
  local text = ...
  if select("#", ...) ~= 1 or (type(text) ~= "string" and type(text) ~= "number") then
    complain("expected 1 argument")
  end
  return (ask("json", tostring(text)))
end

-- Settings of the original: kept as they are.
for _, name in pairs({ "encode_sparse_array", "encode_max_depth", "decode_max_depth", "encode_number_precision", "encode_keep_buffer", "encode_invalid_numbers", "decode_invalid_numbers" }) do
  json[name] = function(...)
    return ...
  end
end
globals.cjson = protect(json)

-- --- cmsgpack ------------------------------------------------------------------------------------
local function emit(value, depth)
  local kind = type(value)
  if kind == "string" then
    host.text(value)
  elseif kind == "number" then
    host.number(value)
  elseif kind == "boolean" then
    host.truth(value)
  elseif kind == "table" and depth < 16 then
    local most, count = 0, 0
    for key in raw.next, value do
      count = count + 1
      if type(key) == "number" and key >= 1 and key == floor(key) then
        most = key > most and key or most
      else
        most = 1 / 0
      end
    end
    if most == count then
      host.open("list")
      for at = 1, most do
        emit(raw.rawget(value, at), depth + 1)
      end
    else
      host.open("map")
      for key, item in raw.next, value do
        emit(key, depth + 1)
        emit(item, depth + 1)
      end
    end
    host.close()
  else
    host.none()
  end
  if host.is_over() then
    error("value too large", 0)
  end
end

local pack = { _NAME = "cmsgpack", _VERSION = "lua-cmsgpack 0.4.0" }

function pack.pack(...)
  local count = select("#", ...)
  if count == 0 then
    complain("bad argument #0 to 'pack' (MessagePack pack needs input.)")
  end
  ask("clear")
  for at = 1, count do
    safely(emit, (select(at, ...)), 0)
  end
  return (ask("pack"))
end

local function values(found, first)
  for at = first, #found do
    if found[at] == null then
      found[at] = nil
    end
  end
  return found
end

local function unpacked(text, offset, limit, first)
  if type(text) ~= "string" then
    complain("bad argument #1 to 'unpack' (string expected, got " .. type(text) .. ")")
  end
  local found = ask("unpack", text, offset, limit)
  local count = #found
  return unpack(values(found, first), first, count)
end

function pack.unpack(text)
  return unpacked(text, 0, 0, 2)
end

function pack.unpack_one(text, offset)
  return unpacked(text, offset or 0, 1, 1)
end

function pack.unpack_limit(text, limit, offset)
  return unpacked(text, offset or 0, limit, 1)
end
globals.cmsgpack = protect(pack)

-- --- struct --------------------------------------------------------------------------------------
local function plain(name, ...)
  for at = 1, select("#", ...) do
    local kind = type((select(at, ...)))
    if kind ~= "string" and kind ~= "number" then
      complain("bad argument #" .. at .. " to '" .. name .. "' (string or number expected, got " .. kind .. ")")
    end
  end
end

local structs = {}

function structs.pack(form, ...)
  plain("pack", form, ...)
  return (ask("struct_pack", tostring(form), ...))
end

function structs.unpack(form, data, at)
  plain("unpack", form, data, at or 1)
  local found = ask("struct_unpack", tostring(form), tostring(data), at or 1)
  local count = #found
  found[count + 1] = found[1]
  return unpack(found, 2, count + 1)
end

function structs.size(form)
  plain("size", form)
  return (ask("struct_size", tostring(form)))
end
globals.struct = protect(structs)

-- --- bit -----------------------------------------------------------------------------------------
local bits = {}

local function number(name, at, value)
  local found = tonumber(value)
  if not found then
    complain("bad argument #" .. at .. " to '" .. name .. "' (number expected, got " .. (value == nil and "no value" or type(value)) .. ")")
  end
  return found
end

for _, name in pairs({ "bnot", "bswap", "tobit" }) do
  bits[name] = function(a)
    return host.bit(name, number(name, 1, a))
  end
end
for _, name in pairs({ "lshift", "rshift", "arshift", "rol", "ror" }) do
  bits[name] = function(a, n)
    return host.bit(name, number(name, 1, a), number(name, 2, n))
  end
end
for _, name in pairs({ "band", "bor", "bxor" }) do
  bits[name] = function(a, ...)
    local found = host.bit("tobit", number(name, 1, a))
    for at = 1, select("#", ...) do
      found = host.bit(name, found, number(name, at + 1, (select(at, ...))))
    end
    return found
  end
end

function bits.tohex(a, n)
  local digits = n == nil and 8 or number("tohex", 2, n)
  local found = format(digits < 0 and "%08X" or "%08x", host.bit("tobit", number("tohex", 1, a)) % 4294967296)
  digits = digits < 0 and -digits or digits
  return digits < 8 and string.sub(found, 9 - digits) or found
end
globals.bit = protect(bits)

return null
