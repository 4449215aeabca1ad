-- The globals of a script, as the snapshot holds them. It runs once, when the guest is built.
local load, type, error, tostring = load, type, error, tostring
local getmetatable, setmetatable = getmetatable, setmetatable
local null, array_metatable, error_metatable, secrets, count = ...

dofile, loadfile, warn = nil, nil, nil
string.dump = nil
os = { time = os.time, date = os.date, difftime = os.difftime }
-- A step's processor time would differ from run to run.
function os.clock() return 0.0 end

-- Only source text: a binary chunk could be made to break the interpreter.
function _G.load(chunk, name, mode, ...)
  if mode ~= nil and mode ~= "t" and mode ~= "bt" then
    return nil, "only source text can be loaded, so the mode can only be \"t\""
  end
  return load(chunk, name, "t", ...)
end
loadstring = _G.load

function print() end

function collectgarbage(what)
  if what == "count" then return count() end
  return 0
end

-- Lua 5.1
unpack = table.unpack
function table.getn(list) return #list end
function table.maxn(list)
  local max = 0
  for key in next, list do
    if type(key) == "number" and key > max then max = key end
  end
  return max
end

json.null = null
function json.is_null(value) return value == nil or value == null end
function json.default(value, default)
  if value == nil or value == null then return default end
  return value
end
function json.array(list)
  if list == nil then list = {} end
  if type(list) ~= "table" then error("json.array takes a list, not a " .. type(list), 2) end
  local metatable = getmetatable(list)
  if metatable == array_metatable then return list end
  if metatable ~= nil then error("json.array takes a plain table, and this one has a metatable", 2) end
  return setmetatable(list, array_metatable)
end

local function text(self)
  local code, message = rawget(self, "code"), rawget(self, "message")
  return tostring(code) .. ": " .. tostring(message)
end
error_metatable.__name = "host error"
error_metatable.__tostring = text
function error_metatable.__concat(left, right) return tostring(left) .. tostring(right) end

-- A secret by its name: the host puts the value in where a request goes out, and no script ever has it.
secrets.__name = "secret"
local function append(parts, value)
  if type(value) == "table" and getmetatable(value) == secrets then
    local inner = value["$text"]
    if inner == nil then
      parts[#parts + 1] = { ["$secret"] = value["$secret"] }
    else
      for i = 1, #inner do parts[#parts + 1] = inner[i] end
    end
  elseif type(value) == "string" or type(value) == "number" then
    parts[#parts + 1] = tostring(value)
  else
    error("a secret can be joined with a text or a number, not with a " .. type(value), 3)
  end
end
function secrets.__concat(left, right)
  local parts = {}
  append(parts, left)
  append(parts, right)
  return setmetatable({ ["$text"] = parts }, secrets)
end
function secrets.__tostring() return "a secret, which only the host can read" end
function secret(name)
  if type(name) ~= "string" then error("secret takes the name of a secret, not a " .. type(name), 2) end
  return setmetatable({ ["$secret"] = name }, secrets)
end
