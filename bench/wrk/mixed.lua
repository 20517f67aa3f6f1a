-- Bodies from 200 bytes to 8 KiB, most of them small: the size doubles with a chance of one in two.
-- Built before the load starts (2,048 requests, about 2 MB) and taken in turn.
dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")

local count = 2048
local body_bytes_max = 8192
local requests = {}
local at = 0

local function body_of(bytes, user)
  local head = string.format('{"user_id":%d,"timestamp":"2024-01-14T10:30:00Z","metadata":{"page":"/products/%d"',
    user, user % 1000)
  local parts = { head }
  local length = #head + 2
  local field = 0
  while length + 60 < bytes do
    field = field + 1
    local part = string.format(',"field_%03d":"%08x%08x%08x%08x"', field, math.random(0, 2147483647),
      math.random(0, 2147483647), math.random(0, 2147483647), math.random(0, 2147483647))
    table.insert(parts, part)
    length = length + #part
  end
  table.insert(parts, string.format(',"pad":"%s"}}', string.rep("x", math.max(0, bytes - length - 9))))
  return table.concat(parts)
end

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  math.randomseed(12345)
  for i = 1, count do
    local bytes = 200
    while bytes < body_bytes_max and math.random() < 0.5 do
      bytes = bytes * 2
    end
    requests[i] = wrk.format(nil, nil, nil, body_of(math.min(bytes, body_bytes_max), i))
  end
end

function request()
  at = at % count + 1
  return requests[at]
end
