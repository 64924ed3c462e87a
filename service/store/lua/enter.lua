-- Counts the stream of a session among its tenant's. KEYS[1]: sorted set, session id -> when it is
-- counted no longer, in ms. KEYS[2]: hash, session id -> token of its stream.
-- ARGV: session id, token, most streams, ms that it is counted, 1: it is counted again.
-- Answers 1; 0 if there are too many, or the session has another stream by now.
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
local token = redis.call('HGET', KEYS[2], ARGV[1])
-- Without a token its count had lapsed, and another stream has cleared it away.
if ARGV[5] == '1' and token and token ~= ARGV[2] then return 0 end
for _, lapsed in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('HDEL', KEYS[2], lapsed)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
