-- The way of values from Lua to the host: one goes out in pieces, the host builds it.
local host, real_of, limits = ...
local type, error, unpack, rawget, next = type, error, unpack, rawget, next

local emit_reply

local function too_large()
  error({ err = "ERR the script's result is too large", bare = true })
end

-- Strings and numbers go out many at a time.
local MANY = 250

local function emit_list(value, depth)
  local at = 1
  host.open("list")
  while true do
    local last = at
    while last < at + MANY do
      local kind = type(rawget(value, last))
      if kind ~= "string" and kind ~= "number" then
        break
      end
      last = last + 1
    end
    if last > at then
      if host.several(unpack(value, at, last - 1)) then
        too_large()
      end
      at = last
    else
      local item = rawget(value, at)
      if item == nil then
        break
      end
      emit_reply(item, depth + 1)
      at = at + 1
    end
  end
  host.close()
end

local function emit_map(value, depth)
  host.open("map")
  for key, item in next, value do
    emit_reply(key, depth + 1)
    emit_reply(item, depth + 1)
  end
  host.close()
end

function emit_reply(value, depth)
  local kind = type(value)
  if depth > limits.depth then
    error({ err = "ERR reached lua stack limit", bare = true })
  end
  if kind == "string" then
    host.text(value)
  elseif kind == "number" then
    host.integer(value)
  elseif kind == "boolean" then
    host.boolean(value)
  elseif kind == "table" and not real_of[value] then
    local err, ok = rawget(value, "err"), rawget(value, "ok")
    local map, set = rawget(value, "map"), rawget(value, "set")
    local double, big, verbatim = rawget(value, "double"), rawget(value, "big_number"), rawget(value, "verbatim_string")
    if type(err) == "string" then
      host.error(err)
    elseif type(ok) == "string" then
      host.status(ok)
    elseif type(double) == "number" then
      host.double(double)
    elseif type(map) == "table" then
      emit_map(map, depth)
    elseif type(set) == "table" then
      host.open("set")
      for key in next, set do
        emit_reply(key, depth + 1)
      end
      host.close()
    elseif type(big) == "string" then
      host.text(big)
    elseif type(verbatim) == "table" and type(rawget(verbatim, "string")) == "string" then
      host.text(rawget(verbatim, "string"))
    else
      emit_list(value, depth)
    end
  else
    host.none()
  end
  if host.is_over() then
    too_large()
  end
end

return emit_reply
