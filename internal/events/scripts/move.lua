-- Moves the oldest elements of a list to the end of a stream.
-- in:  KEYS[1] list, KEYS[2] stream; ARGV[1] the side that producers push to (left,
--      right), ARGV[2] how many elements at most
-- out: how many were moved
-- Safe to repeat. What could fail is read before the first write, for scripts are not rolled
-- back; the list is trimmed before the stream grows. This cannot be one write: Source.Rewrite is
-- for that.
local list, stream, side, most = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])

redis.call('XLEN', stream)
local elements
if side == 'left' then
  elements = redis.call('LRANGE', list, -most, -1)
else
  elements = redis.call('LRANGE', list, 0, most - 1)
end
local n = #elements
if n == 0 then return 0 end

if side == 'left' then
  redis.call('LTRIM', list, 0, -(n + 1))
  for i = n, 1, -1 do redis.call('XADD', stream, '*', 'event', elements[i]) end
else
  redis.call('LTRIM', list, n, -1)
  for i = 1, n do redis.call('XADD', stream, '*', 'event', elements[i]) end
end
return n
