-- Records of one version of a session. ARGV: expected version, then fields; those that begin with
-- `masks:` are frames whose masks are meant.
-- Answers {'ok', next_frame, bytes ...}, {'conflict', next_frame} or {'unknown', 0}.
local stored = redis.call('HMGET', KEYS[1], 'version', 'next_frame')
if not stored[1] then return {'unknown', 0} end
if stored[1] ~= ARGV[1] then return {'conflict', tonumber(stored[2])} end
local answer = {'ok', tonumber(stored[2])}
for i = 2, #ARGV do
  local frame = string.match(ARGV[i], '^masks:(.+)')
  answer[i + 1] = redis.call('HGET', frame and KEYS[3] or KEYS[2], frame or ARGV[i])
end
return answer
