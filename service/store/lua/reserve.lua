-- Counts one more session of a tenant. KEYS[1]: sorted set, session id -> the time in ms from which
-- on it is to be checked whether the session still exists.
-- ARGV: session id, limit, ms until the first check, ms that the set is kept, most ids answered.
-- Answers {1}, also for an id that is counted, or {0, ms until the next check, ids to check ...}.
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
if redis.call('ZSCORE', KEYS[1], ARGV[1])
   or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {1}
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[5])
return {0, tonumber(first[2]) - now, unpack(due)}
