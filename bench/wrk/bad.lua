-- What broken and hostile clients send, mixed with good events, one request at a time; the answers
-- are counted by status. Every request is framed so that the connection may go on or be closed:
-- wrk opens a new one after a close (and counts a read error for it).
dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")

statuses = {}
local requests = {}
local at = 0

local function post(body, headers)
  local lines = { "POST /event HTTP/1.1", "Host: localhost" }
  for _, header in ipairs(headers or { "Content-Length: " .. #body }) do
    table.insert(lines, header)
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

function init(args)
  local good = '{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":{}}'
  local bodies = {
    good,
    '',
    'not json',
    '{"user_id":1',
    '[]',
    '{"user_id":"1","timestamp":"2024-01-14T10:30:00Z","metadata":{}}',
    '{"user_id":1.5,"timestamp":"2024-01-14T10:30:00Z","metadata":{}}',
    '{"user_id":99999999999999999999,"timestamp":"2024-01-14T10:30:00Z","metadata":{}}',
    '{"user_id":1,"timestamp":"yesterday","metadata":{}}',
    '{"user_id":1,"timestamp":"2024-02-30T10:30:00Z","metadata":{}}',
    '{"user_id":1,"timestamp":"2024-01-14T10:30:00Z"}',
    '{"timestamp":"2024-01-14T10:30:00Z","metadata":{}}',
    '{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":' .. string.rep("[", 4000) .. string.rep("]", 4000) .. '}',
    '{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":{"a":"\255\254"}}',
    '{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":{"a":"' .. string.rep("x", 300000) .. '"}}',
  }
  for _, body in ipairs(bodies) do
    table.insert(requests, post(body))
    table.insert(requests, post(good))
  end
  local framings = {
    { "Content-Length: abc" },
    { "Content-Length: -1" },
    { "Content-Length: 10", "Content-Length: 11" },
    { "Content-Length: 5", "Transfer-Encoding: chunked" },
    { "Transfer-Encoding: gzip" },
    { "Content-Length: 2", "Content-Encoding: br" },
    { "Content-Length: 2", "Broken header" },
    { "Content-Length: 2", "X-Long: " .. string.rep("y", 40000) },
  }
  for _, headers in ipairs(framings) do
    table.insert(requests, post("{}", headers))
    table.insert(requests, post(good))
  end
  table.insert(requests, "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
  table.insert(requests, "DELETE /event HTTP/1.1\r\nHost: localhost\r\n\r\n")
  table.insert(requests, "GET /" .. string.rep("a", 9000) .. " HTTP/1.1\r\nHost: localhost\r\n\r\n")
  table.insert(requests, "POST /event HTTP/9.9\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
  table.insert(requests, "\0\1\2\3\r\n\r\n")
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function response(status, headers, body)
  statuses[status] = (statuses[status] or 0) + 1
end
