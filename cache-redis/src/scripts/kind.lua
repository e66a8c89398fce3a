-- Whether a header is a 'held' record, a 'newer' one (or one cut short), of which only the head is understood, or 'foreign'.
local function kind(header)
  local format, state = string.byte(header, 1, 2)
  -- V L S T Q
  local known = state == 86 or state == 76 or state == 83 or state == 84 or state == 81
  if #header < 42 or not known or format < 0xC0 or format > 0xCF then
    return 'foreign'
  end
  return #header == 92 and format == 0xC1 and 'held' or 'newer'
end
