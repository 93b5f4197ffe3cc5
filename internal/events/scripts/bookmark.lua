-- Moves our group's bookmark in a stream forward to a position, and makes it if it is gone.
-- in:  KEYS[1] stream; ARGV[1] our group, ARGV[2] position, ARGV[3] entries ever added up to
--      it, ARGV[4] where the bookmark was seen last, ARGV[5] the group of the fence, ARGV[6] the
--      fence that was seen, empty if there was none
-- out: 0, or 1 if nothing was done: the stream is gone, its last id is before the position, the
--      bookmark is before where it was seen, or the fence is another one
-- Safe to repeat: forward only. At most one write: XGROUP.
local stream, group, position, entries, seen = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fence, fenced = ARGV[5], ARGV[6]

if redis.call('EXISTS', stream) == 0 then return 1 end
if before(fields(redis.call('XINFO', 'STREAM', stream))['last-generated-id'], position) then return 1 end
if (delivered(stream, fence) or '') ~= fenced then return 1 end

local ours = delivered(stream, group)
if not ours then
  redis.call('XGROUP', 'CREATE', stream, group, position, 'ENTRIESREAD', entries)
elseif before(ours, seen) then
  return 1
elseif before(ours, position) then
  redis.call('XGROUP', 'SETID', stream, group, position, 'ENTRIESREAD', entries)
end
return 0
