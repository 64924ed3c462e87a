-- One commit of a session: its state, new masks and records, and what is dropped, all or nothing.
-- ARGV: expected version (0: the session must not exist), expected next_frame, token, ttl_ms,
--       state, version, next_frame, kept_from, tenant, bytes reserved with the tenant's quota,
--       token of the stream that must not have lost the session (empty: anybody commits),
--       counts of masks, records, dropped snapshots and pruned frames, then frame and bytes of each
--       mask, field and bytes of each record, name of each dropped snapshot with the names of the
--       one before and the one after it, each pruned frame.
-- Answers {'ok', next_frame, stored bytes}, {'conflict', next_frame}, {'replaced', next_frame} where
-- the session has another stream, or {'unknown', 0}.
local stored = redis.call('HMGET', KEYS[1], 'version', 'next_frame', 'token', 'bytes')
local version, next_frame, token, bytes = stored[1], stored[2], stored[3], tonumber(stored[4])

-- The same commit, sent again because its answer was lost.
if token == ARGV[3] then  -- decision 11
  return {'ok', tonumber(next_frame), bytes}
end
if ARGV[1] == '0' then
  if version then return {'conflict', tonumber(next_frame)} end
else
  if not version then return {'unknown', 0} end
  if version ~= ARGV[1] or next_frame ~= ARGV[2] then
    return {'conflict', tonumber(next_frame)}
  end
end
local owner = ARGV[11] ~= '' and redis.call('GET', KEYS[4])
if owner and owner ~= ARGV[11] then  -- decision 82
  return {'replaced', tonumber(next_frame)}
end

if not bytes then  -- a new session, or one that was stored before bytes were counted
  bytes = 0
  for key = 2, 3 do
    for _, field in ipairs(redis.call('HKEYS', KEYS[key])) do
      bytes = bytes + redis.call('HSTRLEN', KEYS[key], field)
    end
  end
end
local function put(key, field, value)
  bytes = bytes + #value - redis.call('HSTRLEN', key, field)
  redis.call('HSET', key, field, value)
end
local function drop(key, field)
  bytes = bytes - redis.call('HSTRLEN', key, field)
  redis.call('HDEL', key, field)
end
local function fields_of(snapshot)
  local found = {}
  local text = snapshot ~= '' and redis.call('HGET', KEYS[2], snapshot .. '.fields')
  for field in string.gmatch(text or '', '%S+') do found[field] = true end
  return found
end

local at = 16
for _ = 1, tonumber(ARGV[12]) do
  put(KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[13]) do
  put(KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[14]) do
  local name, before, after = ARGV[at], fields_of(ARGV[at + 1]), fields_of(ARGV[at + 2])
  for field in pairs(fields_of(name)) do
    -- decision 63: what neither neighbor has is in no other snapshot.
    if not before[field] and not after[field] then drop(KEYS[2], field) end
  end
  for _, part in ipairs({'.snapshot', '.fields', '.masks'}) do drop(KEYS[2], name .. part) end
  at = at + 3
end
for _ = 1, tonumber(ARGV[15]) do
  drop(KEYS[3], ARGV[at])
  at = at + 1
end
redis.call('HSET', KEYS[1], 'token', ARGV[3], 'state', ARGV[5], 'version', ARGV[6],
           'next_frame', ARGV[7], 'kept_from', ARGV[8], 'tenant', ARGV[9], 'bytes', bytes,
           'reserved', ARGV[10])
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3]}) do
  redis.call('PEXPIRE', key, ARGV[4])
end
return {'ok', tonumber(ARGV[7]), bytes}
