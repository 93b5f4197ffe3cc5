-- The state of a stream and of one of its groups.
-- in:  KEYS[1] stream; ARGV[1] group, ARGV[2] the group of the fence
-- out: exists (1, 0), last id, entries added, length, fence (empty if none); if the group exists
--      also its last delivered id, entries read (-1: unknown), oldest pending id (0-0: none)
-- Reads only.
local stream, group, fence = KEYS[1], ARGV[1], ARGV[2]

if redis.call('EXISTS', stream) == 0 then return { '0', '0-0', '0', '0', '' } end

local info = fields(redis.call('XINFO', 'STREAM', stream))
local state = { '1', info['last-generated-id'], int(info['entries-added']), int(info['length']), delivered(stream, fence) or '' }
for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local g = fields(list)
  if g['name'] == group then
    local read = g['entries-read'] and int(g['entries-read']) or '-1'
    local oldest = redis.call('XPENDING', stream, group)[2] or '0-0'
    table.insert(state, g['last-delivered-id'])
    table.insert(state, read)
    table.insert(state, oldest)
  end
end
return state
