-- Whether version a is at least version b. As pairs of halves: a Lua number has 53 bits, and strings are compared as the server's locale has it.
local function reaches(a, b)
  local a_high, a_low = struct.unpack('>I4I4', a)
  local b_high, b_low = struct.unpack('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low >= b_low)
end
