-- Ends a script whose `one` takes a key: its answer, or with several keys a list of theirs. What Redis refuses of one key is an answer too, and
-- keeps no other from its own. So calls of the same time share what a call costs before it begins: with a few of them half of it all.
if not KEYS[2] then
  return one(1)
end
local answers = {}
for i = 1, #KEYS do
  local done, answer = pcall(one, i)
  -- Redis' own `pcall` makes text of what was raised.
  answers[i] = done and answer or redis.error_reply(answer)
end
return answers
