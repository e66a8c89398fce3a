-- Ends an invalidation that nobody is told of.
return seconds .. ' ' .. micros .. ' done ' .. letters
