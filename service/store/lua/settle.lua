-- Stores what a check of a tenant's sessions found. KEYS as in reserve.lua. ARGV: ms that they are
-- kept, then of each session its id and ms until the next check; -2: it does not exist.
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '-2' then
    redis.call('ZREM', KEYS[1], ARGV[i])
    for key = 2, 3 do
      local counted = redis.call('HGET', KEYS[key], ARGV[i])
      if counted then
        redis.call('HINCRBY', KEYS[key], 'total', -tonumber(counted))
        redis.call('HDEL', KEYS[key], ARGV[i])
      end
    end
  else
    redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[i + 1]), ARGV[i])
  end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[1]) end
return 1
