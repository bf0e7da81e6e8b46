-- What the transcoder leaves to be wished for of our REST contract. MESSAGES and BINDINGS stand above, made of the
-- descriptors: a message is {name, fields}, where a field has the number of its message, 0 where anything may stand; a map
-- is {name, nil, number of its values' message}. BINDINGS has, for each method, {pattern of the path, number of the body's
-- message, number of the query's message}.

-- The JSON value at `at`, of message `kind`, named `path`. Returns the position after it and what is wrong with it. No
-- position: it is no JSON, which the transcoder will say. Deeper than `depth` nothing is looked at.
local value

local function after_string(text, at)
  local stop = at
  repeat
    stop = string.find(text, '["\\]', stop + 1)
    if stop ~= nil and string.byte(text, stop) == 92 then
      stop = stop + 1
    elseif stop ~= nil then
      return stop + 1
    end
  until stop == nil
end

local function after_space(text, at)
  return string.find(text, "[^ \t\r\n]", at) or #text + 1
end

local function unknown(message, key, path)
  local names = {}
  for name in pairs(message[2]) do
    -- Both spellings of a name are taken; the contract's is told.
    if not string.find(name, "%u") then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return string.format("unknown field %s; %s has %s", path .. key, message[1], table.concat(names, ", "))
end

-- Notes a key in `seen`; what is wrong where it stands there already. Both spellings of a field are the same field.
local function again(message, key, path, seen)
  local name = message[2] and string.lower(string.gsub(key, "_", "")) or key
  if seen[name] then
    return string.format("%s stands twice in the body; allowed: once", path .. key)
  end
  seen[name] = true
end

local function member(text, at, kind, path, depth, seen)
  local last = after_string(text, at)
  if last == nil then
    return nil
  end
  local key = string.sub(text, at + 1, last - 2)
  local colon = after_space(text, last)
  if string.sub(text, colon, colon) ~= ":" then
    return nil
  end
  local message = MESSAGES[kind]
  local child = 0
  -- A key that is written with escapes is left alone.
  if message ~= nil and not string.find(key, "\\", 1, true) then
    child = message[3] or message[2][key]
    if child == nil then
      return last, unknown(message, key, path)
    end
    local twice = again(message, key, path, seen)
    if twice ~= nil then
      return last, twice
    end
  end
  return value(text, after_space(text, colon + 1), child, path .. key .. ".", depth - 1)
end

local function sequence(text, at, kind, path, depth, close)
  local seen = {}
  at = after_space(text, at + 1)
  if string.sub(text, at, at) == close then
    return at + 1
  end
  while true do
    local wrong
    if close == "}" then
      if string.sub(text, at, at) ~= '"' then
        return nil
      end
      at, wrong = member(text, at, kind, path, depth, seen)
    else
      at, wrong = value(text, at, kind, path, depth - 1)
    end
    if at == nil or wrong ~= nil then
      return at, wrong
    end
    at = after_space(text, at)
    local mark = string.sub(text, at, at)
    if mark == close then
      return at + 1
    elseif mark ~= "," then
      return nil
    end
    at = after_space(text, at + 1)
  end
end

value = function(text, at, kind, path, depth)
  local first = string.sub(text, at, at)
  if depth == 0 then
    return nil
  elseif first == "{" then
    return sequence(text, at, kind, path, depth, "}")
  elseif first == "[" then
    return sequence(text, at, kind, path, depth, "]")
  elseif first == '"' then
    return after_string(text, at)
  end
  return string.match(text, "^[%w.+-]+()", at)
end

local function bound(method, path)
  for _, binding in ipairs(BINDINGS[method] or {}) do
    if string.find(path, binding[1]) then
      return binding
    end
  end
end

local function other_methods(path)
  local methods = {}
  for method in pairs(BINDINGS) do
    if bound(method, path) ~= nil then
      methods[#methods + 1] = method
    end
  end
  table.sort(methods)
  return methods
end

-- What is wrong with the names in a query. A name is a field, or a path of fields, of which the first counts here. Names
-- that are written with escapes are left alone.
local function wrong_name(query, kind)
  local message = MESSAGES[kind]
  if message == nil then
    return
  end
  for name in string.gmatch(query, "([^&=]+)[^&]*") do
    local field = string.match(name, "^[^.]*")
    if not string.find(name, "%", 1, true) and message[2][field] == nil then
      return unknown(message, field, "")
    end
  end
end

-- HTTP lets headers have names and values that gRPC does not: a service would fail the whole call for one that nobody
-- reads. Of those that we read, none is such.
local function drop_illegal(headers)
  local illegal = {}
  for name, content in pairs(headers) do
    local foreign = string.find(name, "^[^:]*[^a-z0-9_.:-]") or string.find(name, "%-bin$")
    if foreign or string.find(content, "[^ -~]") then
      illegal[#illegal + 1] = name
    end
  end
  for _, name in ipairs(illegal) do
    headers:remove(name)
  end
end

-- The transcoder drops fields that it does not know: who misspells one would believe it taken. What it refuses itself, it
-- refuses without a word on what there is.
function envoy_on_request(handle)
  local headers = handle:headers()
  local path, query = string.match(headers:get(":path"), "^([^?]*)%??(.*)$")
  local binding = bound(headers:get(":method"), path)
  if binding == nil then
    local methods = other_methods(path)
    if #methods > 0 then
      handle:respond({[":status"] = "404"}, "nothing answers this method at this path, which takes " .. table.concat(methods, ", "))
    end
    return
  end
  drop_illegal(headers)
  local misnamed = wrong_name(query, binding[3])
  if misnamed ~= nil then
    handle:respond({[":status"] = "400"}, misnamed)
    return
  end
  local kind = binding[2]
  if kind == 0 then
    return
  end
  local body = handle:body()
  if body == nil or body:length() == 0 then
    return
  end
  local text = body:getBytes(0, body:length())
  local _, wrong = value(text, after_space(text, 1), kind, "", 100)
  if wrong ~= nil then
    handle:respond({[":status"] = "400"}, wrong)
  end
end

-- Envoy gives FAILED_PRECONDITION (9) the status 400; our REST contract says 412, so that callers can tell "not now" from
-- "never". When the transcoder has written its body, the code is there and nowhere else.
function envoy_on_response(handle)
  if handle:headers():get(":status") ~= "400" then
    return
  end
  local body = handle:body()
  if body ~= nil and string.find(body:getBytes(0, math.min(body:length(), 16)), '^{"code":9[,}]') then
    handle:headers():replace(":status", "412")
  end
end
