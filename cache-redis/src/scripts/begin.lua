-- KEYS: the meta key. ARGV: an incarnation for the case that there is none c8, and the server's history c8. See tell.lua.
-- Answers done: the incarnation, the history, and behind them in decimal the sequence.

local key = KEYS[1]
local incarnation, history = struct.unpack('>c8c8', ARGV[1])
local known = redis.call('HMGET', key, 'h', 'i', 's')
local sequence = known[3]
if known[1] == history and known[2] and sequence then
  incarnation = known[2]
else
  sequence = '0'
  redis.call('HSET', key, 'h', history, 'i', incarnation, 's', '0')
end
return seconds .. ' ' .. micros .. ' done ' .. incarnation .. history .. sequence
