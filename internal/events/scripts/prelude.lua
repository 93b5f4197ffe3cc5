-- Put before every other script. Ids and counts stay strings, for Lua's numbers are doubles.

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

