-- Stores what a check of a tenant's sessions found. KEYS[1] as in reserve.lua. ARGV: ms that the set
-- is kept, then of each session its id and ms until the next check; -2: it does not exist.
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '-2' then
    redis.call('ZREM', KEYS[1], ARGV[i])
  else
    redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[i + 1]), ARGV[i])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
