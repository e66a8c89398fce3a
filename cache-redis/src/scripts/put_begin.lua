-- Makes a put a function, so that others can be told of it in the same step, whatever it finds.
local function put()
