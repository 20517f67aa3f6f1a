-- What every script of this folder prints last: one line of JSON that the driver reads.
-- Latencies in microseconds. wrk corrects them for coordinated omission before this is called.
threads = {}

function setup(thread)
  table.insert(threads, thread)
end

-- The sum over the threads of the counts each kept in its global `statuses` (bad.lua keeps them).
local function statuses_seen()
  local sum = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses") or {}) do
      sum[status] = (sum[status] or 0) + count
    end
  end
  local parts = {}
  for status, count in pairs(sum) do
    table.insert(parts, string.format('"%s":%d', status, count))
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"seconds":%.6f,"requests":%d,"bytes":%d,"non_2xx":%d,'
      .. '"connect_errors":%d,"read_errors":%d,"write_errors":%d,"timeouts":%d,'
      .. '"mean_us":%.1f,"p50_us":%d,"p90_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d,"statuses":%s}\n',
    summary.duration / 1e6, summary.requests, summary.bytes, errors.status,
    errors.connect, errors.read, errors.write, errors.timeout,
    latency.mean, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), latency.max, statuses_seen()))
end
