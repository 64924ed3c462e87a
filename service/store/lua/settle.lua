-- Stores what a check of a tenant's sessions found. KEYS as in reserve.lua. ARGV: ms that they are
-- kept, then of each session its id and ms until the next check; -2: it does not exist.
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '-2' then
    redis.call('ZREM', KEYS[1], ARGV[i])
    local bytes = redis.call('HGET', KEYS[2], ARGV[i])
    if bytes then
      redis.call('HINCRBY', KEYS[2], 'total', -tonumber(bytes))
      redis.call('HDEL', KEYS[2], ARGV[i])
    end
  else
    redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[i + 1]), ARGV[i])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
