-- Rotates POST bodies and prints the result as one line of JSON for load.py.
-- wrk calls init(args) once in its only thread: the path, then a file with one body a line.
local requests, count, next_index = {}, 0, 0

function init(args)
  for body in io.lines(args[2]) do
    count = count + 1
    -- Built once: formatting per request would cost the load generator more than sending.
    requests[count] = wrk.format("POST", args[1], {["Content-Type"] = "application/json"}, body)
  end
end

function request()
  next_index = next_index % count + 1
  return requests[next_index]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%.1f,"p90_us":%.1f,"p99_us":%.1f,"max_us":%.1f,' ..
    '"non_2xx":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
