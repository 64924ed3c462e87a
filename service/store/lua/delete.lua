-- Removes the session. Answers 1, or 0 if there was none.
local existed = redis.call('EXISTS', KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
return existed
