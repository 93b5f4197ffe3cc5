-- Lifts the last id of a stream to a position, if it is behind it, and the count of
-- entries ever added along with it.
-- in:  KEYS[1] stream, KEYS[2] where to keep entries that we never read; ARGV[1] our group,
--      ARGV[2] position, ARGV[3] entries added up to it
-- out: entries in the stream at or before the position, which no reader behind it sees, and
--      1 if they are kept
-- Safe to repeat. Makes the stream if there is none. XTRIM removes nothing here: once a
-- script has written, Redis lets it go on even when it is out of memory.
local stream, aside, group, position, added = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]

-- Whether the group was never given anything, as far as its bookmark tells.
local function unread(stream, group)
  for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local g = fields(list)
    if g['name'] == group then return g['last-delivered-id'] == '0-0' end
  end
  return true
end

redis.call('XTRIM', stream, 'MINID', '0-0')
if redis.call('EXISTS', stream) == 0 then
  redis.call('XGROUP', 'CREATE', stream, group, position, 'MKSTREAM')
end
local info = fields(redis.call('XINFO', 'STREAM', stream))
if not before(info['last-generated-id'], position) then return { 0, 0 } end
local kept = 0
if info['length'] > 0 and unread(stream, group) then
  if redis.call('COPY', stream, aside) == 0 then
    return redis.error_reply('BUSYKEY ' .. aside .. ' has entries that were kept before')
  end
  kept = 1
end
if tonumber(added) < info['length'] then added = int(info['length']) end
redis.call('XSETID', stream, position, 'ENTRIESADDED', added, 'MAXDELETEDID', '0-0')
return { info['length'], kept }
