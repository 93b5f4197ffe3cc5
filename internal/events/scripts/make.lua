-- Makes a stream without entries, if there is none, with our group's bookmark at 0-0.
-- in:  KEYS[1] stream; ARGV[1] our group
-- out: 1 if it was made, else 0
-- Safe to repeat. At most one write: XGROUP. The bookmark is not at the checkpoint: entries with
-- ids before that may be added until raise.lua has run, which takes them for unread then.
local stream, group = KEYS[1], ARGV[1]

if redis.call('EXISTS', stream) == 1 then return 0 end
redis.call('XGROUP', 'CREATE', stream, group, '0-0', 'MKSTREAM')
return 1
