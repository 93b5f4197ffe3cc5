-- Removes the settled entries of a stream that nobody else needs, and moves our
-- group's bookmark to where we are.
-- in:  KEYS[1] stream; ARGV[1] our group, ARGV[2] settled position, ARGV[3] the id next
--      to it, ARGV[4] entries ever added up to it, ARGV[5] retain entries younger than
--      this many ms, ARGV[6] where the bookmark was seen last
-- out: entries removed, and 1 if the stream is gone or behind the position, or the bookmark
--      has gone back
-- Safe to repeat: every change is forward only. XTRIM comes first because, once a script
-- has written, Redis lets it go on even when it is out of memory.
local stream, group, settled, keep = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local entries, retain, seen = ARGV[4], tonumber(ARGV[5]), ARGV[6]

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
local info = fields(redis.call('XINFO', 'STREAM', stream))
if before(info['last-generated-id'], settled) then return { 0, 1 } end

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
if ours and before(ours, seen) then return { 0, 1 } end
if retain > 0 then
  local now = redis.call('TIME')
  local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) - retain
  if ms < 0 then ms = 0 end
  lower(int(ms) .. '-0')
end

local removed = redis.call('XTRIM', stream, 'MINID', keep)
if not ours then
  redis.call('XGROUP', 'CREATE', stream, group, settled, 'ENTRIESREAD', entries)
elseif before(ours, settled) then
  redis.call('XGROUP', 'SETID', stream, group, settled, 'ENTRIESREAD', entries)
end
return { removed, 0 }
