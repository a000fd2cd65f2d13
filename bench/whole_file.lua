-- wrk: GET the same file each time. Arguments: pairs of header name and value.
local headers = {}

function init(args)
  for i = 1, #args, 2 do
    headers[args[i]] = args[i + 1]
  end
end

function request()
  return wrk.format("GET", nil, headers)
end

function done(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format('\n{"requests": %d, "bytes": %d, "microseconds": %d, "failed": %d}\n',
    summary.requests, summary.bytes, summary.duration, failed))
end
