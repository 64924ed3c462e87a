-- One commit of a session: its state, new masks, entries in and out, all or nothing.
-- ARGV: expected version (0: the session must not exist), expected next_frame, token, ttl_ms,
--       state, version, next_frame, kept_from, tenant, counts of masks, entries and evicted entries,
--       then frame and bytes of each mask, field and bytes of each entry, each evicted field.
-- Answers {'ok', next_frame}, {'conflict', next_frame} or {'unknown', 0}.
local stored = redis.call('HMGET', KEYS[1], 'version', 'next_frame', 'kept_from', 'token')
local version, next_frame, kept_from, token = stored[1], stored[2], stored[3], stored[4]

-- The same commit, sent again because its answer was lost.
if token == ARGV[3] then  -- decision 11
  return {'ok', tonumber(next_frame)}
end
if ARGV[1] == '0' then
  if version then return {'conflict', tonumber(next_frame)} end
else
  if not version then return {'unknown', 0} end
  if version ~= ARGV[1] or next_frame ~= ARGV[2] then
    return {'conflict', tonumber(next_frame)}
  end
end

local masks, entries, evicted = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local at = 13
for _ = 1, masks do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
local first_evicted = at + 2 * entries
for i = first_evicted, first_evicted + evicted - 1 do
  redis.call('HDEL', KEYS[2], ARGV[i])
end
for _ = 1, entries do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for frame = tonumber(kept_from or ARGV[8]), tonumber(ARGV[8]) - 1 do
  redis.call('HDEL', KEYS[3], frame)
end
redis.call('HSET', KEYS[1], 'token', ARGV[3], 'state', ARGV[5], 'version', ARGV[6],
           'next_frame', ARGV[7], 'kept_from', ARGV[8], 'tenant', ARGV[9])
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[4])
end
return {'ok', tonumber(ARGV[7])}
