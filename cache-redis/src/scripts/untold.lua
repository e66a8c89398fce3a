-- For invalidations.lua: nobody is told.
local is_told = false
