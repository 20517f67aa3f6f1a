-- A different user, time and page in each request. The requests are built before the load starts
-- and taken in turn (16,384 of them, 5 MB), so that Lua costs one table look-up a request.
dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")

local count = 16384
local requests = {}
local at = 0

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  math.randomseed(12345)
  for i = 1, count do
    local user = math.random(1, 2000000000)
    local time = string.format("2024-%02d-%02dT%02d:%02d:%02d.%03dZ", math.random(1, 12), math.random(1, 28),
      math.random(0, 23), math.random(0, 59), math.random(0, 59), math.random(0, 999))
    local body = string.format('{"user_id":%d,"timestamp":"%s","metadata":{"page":"/products/%d",'
      .. '"referrer":"https://example.com/search?q=shoes","session":"%08x%08x","button":"add_to_cart","ms":%d}}',
      user, time, math.random(1, 99999), math.random(0, 2147483647), math.random(0, 2147483647),
      math.random(1, 9999))
    requests[i] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  at = at % count + 1
  return requests[at]
end
