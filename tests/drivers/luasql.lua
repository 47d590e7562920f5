-- LuaSQL, over libpq; it has no call for COPY, cancel, parameters and notifications.

local driver = require("luasql.postgres")
local environment = driver.postgres()

local function connect(mode, authority, password)
  return environment:connect(string.format(
    "host=%s port=%s dbname=%s user=%s password=%s sslmode=%s sslrootcert=%s",
    os.getenv("PGHOST"), os.getenv("PGPORT"), os.getenv("PGDATABASE"), os.getenv("PGUSER"),
    password or os.getenv("PGPASSWORD"), mode or "verify-full",
    authority or os.getenv("PGSSLROOTCERT")))
end

local function one(connection, sql)
  local cursor, why = connection:execute(sql)
  if not cursor then return nil, why end
  return cursor:fetch()
end

local function outcome(...)
  local connection = connect(...)
  if not connection then return "refused" end
  local tls = one(connection, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
  return tls == "t" and "tls" or "plain"
end

local function cannot() return "cannot" end

local function prepared()
  local connection = connect()
  connection:execute("prepare card (int) as select $1 + 1")
  local said = {}
  for number = 41, 43 do
    table.insert(said, one(connection, "execute card (" .. number .. ")"))
  end
  return table.concat(said, " ")
end

local function long_row()
  local text = string.rep("x", tonumber(os.getenv("CARD_ROW_BYTES")))
  local back = one(connect(), "select '" .. text .. "'::text")
  return #back .. (back == text and " same" or " changed")
end

local function failing()
  local connection = connect()
  local _, why = one(connection, "select 1 / 0")
  -- It tells the words of the error and not its code.
  local code = string.find(why, "division by zero", 1, true) and "22012" or why
  return code .. " " .. one(connection, "select 'alive'")
end

local function reconnect()
  local answer = one(connect(), "select pg_terminate_backend(pg_backend_pid())")
  return (answer and "it did not end" or "ended") .. " " .. one(connect(), "select 'alive'")
end

local function play(name, item, ...)
  local ok, said = pcall(item, ...)
  said = ok and tostring(said) or "failed " .. tostring(said)
  print(name .. "\t" .. said:gsub("%s+", " "))
end

for _, mode in ipairs({ "disable", "allow", "prefer", "require", "verify-ca", "verify-full" }) do
  play("sslmode=" .. mode, outcome, mode)
end
play("foreign-authority", outcome, nil, os.getenv("CARD_FOREIGN_CA"))
play("wrong-password", outcome, nil, nil, "not-this-one")
for _, name in ipairs({ "cancel", "copy-in", "copy-out" }) do play(name, cannot) end
play("prepared", prepared)
play("notify", cannot)
play("long-row", long_row)
play("error", failing)
play("reconnect", reconnect)
