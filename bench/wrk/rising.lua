-- As users.lua, but each time is a millisecond after the one before. Bodies are built before the load starts, except
-- for their times.
dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")

local count = 16384
local heads, tails = {}, {}
local at, sent = 0, 0

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  math.randomseed(12345)
  for i = 1, count do
    local body = string.format('{"user_id":%d,"timestamp":"2024-01-15T00:00:00.000Z","metadata":{"page":"/products/%d",'
      .. '"referrer":"https://example.com/search?q=shoes","session":"%08x%08x","button":"add_to_cart","ms":%d}}',
      math.random(1, 2000000000), math.random(1, 99999), math.random(0, 2147483647), math.random(0, 2147483647),
      math.random(1, 9999))
    local request = wrk.format(nil, nil, nil, body)
    local from, to = request:find("00:00:00.000", 1, true)
    heads[i], tails[i] = request:sub(1, from - 1), request:sub(to + 1)
  end
end

function request()
  at = at % count + 1
  sent = sent + 1
  local s = math.floor(sent / 1000)
  return heads[at] .. string.format("%02d:%02d:%02d.%03d", math.floor(s / 3600) % 24, math.floor(s / 60) % 60, s % 60,
    sent % 1000) .. tails[at]
end
