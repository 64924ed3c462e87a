-- The session, kept alive by being read. ARGV: ttl_ms (0: it is only looked at), tenant.
-- Answers {state, version, next_frame, kept_from, tenant, bytes, reserved bytes, ttl_ms left}; {} if
-- there is none, or it is another tenant's.
local stored = redis.call('HMGET', KEYS[1], 'state', 'version', 'next_frame', 'kept_from', 'tenant',
                          'bytes', 'reserved')
if not stored[2] or stored[5] and stored[5] ~= ARGV[2] then return {} end
local left = redis.call('PTTL', KEYS[1])
-- Each refresh is a write that waits for the disk: a tenth of the time may pass without one.
if tonumber(ARGV[1]) > 0 and left < 0.9 * tonumber(ARGV[1]) then
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[1])
  end
  left = tonumber(ARGV[1])
end
return {stored[1], stored[2], stored[3], stored[4], stored[5], stored[6], stored[7], left}
