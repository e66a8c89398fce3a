-- A head with its check. `fmod`, because `%` rounds its quotient; the times are reduced first, so that no sum passes 2^53.
local function head(state, version, token, deadline, created)
  local high, low = struct.unpack('>I4I4', version)
  local sum = string.byte(state) * 7 + high * 8191 + low * 131071
    + math.fmod(deadline, 4294967291) * 31 + math.fmod(created, 4294967291) * 127
  return struct.pack('>c1c1I4c8c16I6I6', '\193', state, math.fmod(sum, 4294967291), version, token, deadline, created)
end
