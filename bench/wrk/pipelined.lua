-- The event of event.lua, sixteen requests to a write. The requests are joined once, so that wrk
-- still sends a constant: it counts the answers it has to wait for by parsing what it sends.
local here = debug.getinfo(1, "S").source:match("@(.*/)") or "./"
dofile(here .. "event.lua")

local depth = 16

function init(args)
  local format = wrk.format
  wrk.format = function(...)
    return string.rep(format(...), depth)
  end
end
