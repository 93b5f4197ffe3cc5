-- Puts our group's bookmark back before the first entry of a stream.
-- in:  KEYS[1] stream; ARGV[1] our group
-- out: entries added, length, last id; 0, 0, 0-0 if there is no stream
-- Safe to repeat. At most one write: XGROUP. The last id stays, also one that was raised: to
-- lower it would hide new entries from other groups, and no reader who begins at the begin minds.
local stream, group = KEYS[1], ARGV[1]

if redis.call('EXISTS', stream) == 0 then return { '0', '0', '0-0' } end
local info = fields(redis.call('XINFO', 'STREAM', stream))
if delivered(stream, group) then
  redis.call('XGROUP', 'SETID', stream, group, '0-0', 'ENTRIESREAD', int(info['entries-added'] - info['length']))
end
return { int(info['entries-added']), int(info['length']), info['last-generated-id'] }
