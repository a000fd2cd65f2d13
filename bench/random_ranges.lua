-- wrk: GET with a random range of 64 KiB each time. Arguments: size of the file, then pairs of header name and value.
local length = 65536
local headers = {}
local last_start = 0

function init(args)
  last_start = tonumber(args[1]) - length
  for i = 2, #args, 2 do
    headers[args[i]] = args[i + 1]
  end
  math.randomseed(20260101)
end

function request()
  local first = math.random(0, last_start)
  headers["Range"] = string.format("bytes=%d-%d", first, first + length - 1)
  return wrk.format("GET", nil, headers)
end

function done(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format('\n{"requests": %d, "bytes": %d, "microseconds": %d, "failed": %d}\n',
    summary.requests, summary.bytes, summary.duration, failed))
end
