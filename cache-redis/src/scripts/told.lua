-- For invalidations.lua: others are told.
local is_told = true
