-- Counts the stream of a session no longer, unless it has another one by now. KEYS as in enter.lua.
-- ARGV: session id, token.
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
