-- Fences off every attempt that has begun on a stream: none of them moves the bookmark or trims
-- any more. The fence is a group that nothing is read through, delivered up to an id that no entry
-- has, so that it never holds back a trim; the sequence number of that id is what tells one fence
-- from another.
-- in:  KEYS[1] stream; ARGV[1] the group of the fence
-- out: 1, or 0 if there is no stream, and hence nothing to trim: nothing was done
-- Each call makes another fence. One write: XGROUP.
local stream, group = KEYS[1], ARGV[1]

if redis.call('EXISTS', stream) == 0 then return 0 end
local now = redis.call('TIME')
local number = tonumber(now[1]) * 1000000 + tonumber(now[2])
local old = delivered(stream, group)
if old then number = math.max(number, tonumber(string.match(old, '%-(%d+)')) + 1) end -- clocks may go back
local id = '18446744073709551615-' .. int(number)
if old then
  redis.call('XGROUP', 'SETID', stream, group, id)
else
  redis.call('XGROUP', 'CREATE', stream, group, id)
end
return 1
