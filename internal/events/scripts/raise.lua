-- Lifts the last id of a stream to a position, if it is before it, and the count of
-- entries ever added along with it.
-- in:  KEYS[1] stream, which exists, KEYS[2] where to keep entries that we never read; ARGV[1]
--      our group, ARGV[2] position, ARGV[3] entries added up to it
-- out: entries in the stream at or before the position, which no reader after it sees, and
--      1 if they are kept
-- Safe to repeat. One write, XSETID; two, COPY and XSETID, if there are entries to keep, for one
-- that is added in between would be neither kept nor read.
local stream, aside, group, position, added = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]

local info = fields(redis.call('XINFO', 'STREAM', stream))
if not before(info['last-generated-id'], position) then return { 0, 0 } end
local kept = 0
-- Without a bookmark, or with one at 0-0, nothing of this stream was ever read.
if info['length'] > 0 and (delivered(stream, group) or '0-0') == '0-0' then
  if redis.call('COPY', stream, aside) == 0 then
    return redis.error_reply('BUSYKEY ' .. aside .. ' has entries that were kept before')
  end
  kept = 1
end
if tonumber(added) < info['length'] then added = int(info['length']) end
redis.call('XSETID', stream, position, 'ENTRIESADDED', added, 'MAXDELETEDID', '0-0')
return { info['length'], kept }
