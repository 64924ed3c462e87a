-- Takes tokens of a tenant's bucket. KEYS[1]: hash, tokens and `at`, the time in ms to which they were
-- counted. ARGV: tokens gained a second, most tokens, tokens wanted (below 0: given back), 1: they are
-- taken in any case.
-- A bucket that holds what is wanted, or is full, gives it and may fall below zero. 0 wanted asks
-- whether there is any. Answers {1: given, 0: not, whole tokens left, ms until it would be given}.
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
local rate, most, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(stored[1]) or most, tonumber(stored[2]) or now
tokens = math.min(most, tokens + rate * math.max(0, now - at) / 1000)
local needed = math.min(most, wanted)
local given = tokens >= needed and tokens > 0
if ARGV[4] == '1' or given then
  given = true
  tokens = math.min(most, tokens - wanted)
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', math.max(now, at))
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * (most - tokens) / rate) + 60000)
local missing = math.max(0, math.max(needed, 1e-9) - tokens)
return {given and 1 or 0, math.floor(math.max(0, tokens)), math.ceil(1000 * missing / rate)}
