-- Removes the entries of a stream up to a position, but for those that another group needs.
-- in:  KEYS[1] stream; ARGV[1] our group, ARGV[2] position, ARGV[3] the id next to it,
--      ARGV[4] retain entries younger than this many ms, ARGV[5] the group of the fence, ARGV[6]
--      the fence that was seen, empty if there was none
-- out: entries removed, and 0, or 1 if nothing was done: the stream or the bookmark is gone or
--      before the position, or the fence is another one
-- Safe to repeat. At most one write: XTRIM. Nothing after the bookmark is ever removed, so
-- that the bookmark must have been moved first, and tells how far entries are gone.
local stream, group, position, keep, retain = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local fence, fenced = ARGV[5], ARGV[6]

-- The id next to an id; for sequence numbers beyond what a double holds, the id itself,
-- which keeps one entry too many.
local function following(id)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  if #seq > 15 then return id end
  return ms .. '-' .. int(tonumber(seq) + 1)
end

local function lower(id)
  if before(id, keep) then keep = id end
end

if redis.call('EXISTS', stream) == 0 then return { 0, 1 } end
if before(fields(redis.call('XINFO', 'STREAM', stream))['last-generated-id'], position) then return { 0, 1 } end
if (delivered(stream, fence) or '') ~= fenced then return { 0, 1 } end

local ours
for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local g = fields(list)
  if g['name'] == group then
    ours = g['last-delivered-id']
  else
    lower(following(g['last-delivered-id']))
    if g['pending'] > 0 then lower(redis.call('XPENDING', stream, g['name'])[2]) end
  end
end
if not ours or before(ours, position) then return { 0, 1 } end
if retain > 0 then
  local now = redis.call('TIME')
  local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) - retain
  if ms < 0 then ms = 0 end
  lower(int(ms) .. '-0')
end
return { redis.call('XTRIM', stream, 'MINID', keep), 0 }
