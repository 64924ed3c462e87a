-- The masks of the frames from ARGV[1] to ARGV[2], as far as they are committed and kept.
-- Answers {first frame, bytes ...}, or {} if there is no session.
local stored = redis.call('HMGET', KEYS[1], 'next_frame', 'kept_from')
if not stored[1] then return {} end
local first = math.max(tonumber(ARGV[1]), tonumber(stored[2]))
local last = math.min(tonumber(ARGV[2]), tonumber(stored[1]) - 1)
local answer = {first}
for frame = first, last do
  answer[#answer + 1] = redis.call('HGET', KEYS[3], frame)
end
return answer
