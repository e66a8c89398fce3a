-- Ends an unmark that nobody is told of: the letter of invalidate.lua.
return letter
