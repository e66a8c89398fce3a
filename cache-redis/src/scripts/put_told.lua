end

-- KEYS[2]: the meta key. ARGV[3] and ARGV[4]: see tell.lua.
-- Answers as put.lua does, and behind that what stands before the message. Of a vacant key the invalidation tells that follows.
local answer = put()
if string.sub(answer, -7) == ' vacant' then
  return answer
end
return answer .. ' ' .. tell(KEYS[2], ARGV[3], ARGV[4])
