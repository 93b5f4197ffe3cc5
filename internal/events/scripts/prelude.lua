-- Put before every other script. Ids and counts stay strings, for Lua's numbers are doubles.
--
-- A script writes once at most, where that can be. Redis puts two or more writes of a script
-- between MULTI and EXEC in its append-only file. If a power loss cuts the file in between, Redis
-- starts all the same, but leaves the MULTI open, and the start after that one drops what was
-- written since. What changes nothing (XTRIM that removes nothing) is not in the file.

local function less(x, y)
  if #x ~= #y then return #x < #y end
  return x < y
end

-- Whether the id a is smaller than the id b.
local function before(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  if am ~= bm then return less(am, bm) end
  return less(as, bs)
end

-- A flat list of names and values, as XINFO gives it, as a table.
local function fields(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local function int(n) return string.format('%.0f', n) end

-- The id that a group of a stream was last given; nil if there is no such group.
local function delivered(stream, group)
  for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local g = fields(list)
    if g['name'] == group then return g['last-delivered-id'] end
  end
end

