return invalidate
end

local any
local function invalidate(...)
  any = any or seldom()
  return any(...)
end
