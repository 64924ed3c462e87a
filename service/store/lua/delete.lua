-- Removes the session. ARGV: tenant. Answers 1; 0 if there was none, or it is another tenant's.
local owner = redis.call('HGET', KEYS[1], 'tenant')
if owner and owner ~= ARGV[1] then return 0 end
local existed = redis.call('EXISTS', KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
return existed
