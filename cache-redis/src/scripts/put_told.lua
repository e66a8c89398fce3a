end

-- KEYS[2]: the meta key. ARGV[3]: see tell.lua. ARGV[4]: the server's history.
-- Answers as put.lua does, and behind that what stands before the message. Of a vacant key the invalidation tells that follows.
local answer = put()
if string.sub(answer, -7) == ' vacant' then
  return answer
end
local stamp = tell(KEYS[2], ARGV[3])
return type(stamp) == 'string' and answer .. ' ' .. stamp or stamp
