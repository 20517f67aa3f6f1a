-- One constant event with a body of about 200 bytes; wrk sends it without running Lua per request.
dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"user_id":12345,"timestamp":"2024-01-14T10:30:00Z","metadata":{"page":"/products/42",'
  .. '"referrer":"https://example.com/search?q=shoes","session":"5f2d8e0a91c34b7e","button":"add_to_cart","ms":1384}}'
