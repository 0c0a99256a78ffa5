-- Small GETs for wrk. The path and all ten header values differ in every request, so that no cache of heads, names or
-- values can flatter a proxy. X-Request-Id is left out: every proxy in the comparison makes one.
-- Arguments: "close" for a new connection for each request, or "keep"; a path for all of them, if wanted.

local number, last, path = 0, "\r\n\r\n", nil
local agents, cookies, tokens = {}, {}, {}

local function text(length)
  local letters = {}
  for i = 1, length do letters[i] = string.char(math.random(97, 122)) end
  return table.concat(letters)
end

function init(args)
  math.randomseed(os.time())
  number = math.random(1, 1000000000)
  for i = 1, 997 do agents[i] = "Mozilla/5.0 (X11; Linux x86_64; rv:" .. i .. ".0) Gecko/20100101 Firefox/" .. i .. ".0" end
  for i = 1, 1009 do cookies[i] = "session=" .. text(32) .. "; theme=" .. text(5) end
  for i = 1, 1013 do tokens[i] = text(40) end
  path = args[2] ~= "" and args[2] or nil
  if args[1] == "close" then last = "\r\nConnection: close\r\n\r\n" end
end

function request()
  number = number + 1
  local n = number
  return "GET " .. (path or "/item/" .. n .. "?page=" .. n % 89) .. " HTTP/1.1\r\nHost: shop-" .. n % 83 .. ".example.com\r\nUser-Agent: "
    .. agents[n % 997 + 1] .. "\r\nAccept: application/json, text/html;q=0." .. n % 79
    .. "\r\nAccept-Language: de-DE,de;q=0." .. n % 73 .. ",en;q=0.3\r\nAccept-Encoding: gzip, br;q=0." .. n % 71
    .. "\r\nReferer: https://shop.example.com/list/" .. n .. "\r\nCookie: " .. cookies[n % 1009 + 1]
    .. "\r\nAuthorization: Bearer " .. tokens[n % 1013 + 1] .. "\r\nIf-None-Match: \"" .. n
    .. "\"\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e" .. n % 997 + 1000 .. "ab-00f067aa0ba9" .. n % 1009 + 1000 .. "-01" .. last
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\nJSON {"requests": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
    summary.requests, e.connect, e.read, e.write, e.status, e.timeout))
end
