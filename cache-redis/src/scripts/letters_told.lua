-- Ends an invalidation that others are told of. Behind the KEYS the meta key; ARGV[2] and ARGV[3]: see tell.lua.
-- Answers done: what stands before the message, and the letters.
return seconds .. ' ' .. micros .. ' done ' .. tell(KEYS[#KEYS], ARGV[2], ARGV[3]) .. letters
