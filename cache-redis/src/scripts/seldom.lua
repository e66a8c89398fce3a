-- Makes a function of what follows, so that its own come about only where one is needed.
local function seldom()
