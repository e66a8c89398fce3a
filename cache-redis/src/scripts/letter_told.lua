-- Ends an unmark that others are told of. KEYS[2]: the meta key. ARGV[2]: see tell.lua. ARGV[3]: the server's history.
-- Answers what stands before the message, and the letter of invalidate.lua.
local stamp = tell(KEYS[2], ARGV[2])
return type(stamp) == 'string' and stamp .. letter or stamp
