-- Counts a session of a tenant, and the bytes that it may take. KEYS[1]: sorted set, session id -> the
-- time in ms from which on it is to be checked whether the session still exists. KEYS[2]: hash,
-- session id -> bytes reserved for it, and their `total`. KEYS[3]: the same of objects.
-- ARGV: session id, most sessions (0: any), ms until the first check, ms that both are kept, most ids
--       answered, most bytes (0: any), bytes wanted, bytes that will do, most objects (0: any),
--       objects.
-- Answers {1, bytes reserved}, also for an id that is counted; or {0, 'sessions', 'bytes' or
-- 'objects' for what is used up, ms until the next check, ids to check ...}.
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
local limit, bytes_limit = tonumber(ARGV[2]), tonumber(ARGV[6])
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
local others = tonumber(redis.call('HGET', KEYS[2], 'total') or 0)
               - tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
local bytes = tonumber(ARGV[7])
if bytes_limit > 0 and others + bytes > bytes_limit then bytes = tonumber(ARGV[8]) end
local used_up = nil
if bytes_limit > 0 and others + bytes > bytes_limit then used_up = 'bytes' end
local objects_limit, objects = tonumber(ARGV[9]), tonumber(ARGV[10])
local other_objects = tonumber(redis.call('HGET', KEYS[3], 'total') or 0)
                      - tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or 0)
if objects_limit > 0 and other_objects + objects > objects_limit then used_up = 'objects' end
if not known and limit > 0 and redis.call('ZCARD', KEYS[1]) >= limit then used_up = 'sessions' end
if not used_up then
  if not known then redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1]) end
  redis.call('HSET', KEYS[2], ARGV[1], bytes, 'total', others + bytes)
  redis.call('HSET', KEYS[3], ARGV[1], objects, 'total', other_objects + objects)
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
  return {1, bytes}
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[5])
return {0, used_up, (tonumber(first[2]) or now) - now, unpack(due)}
