-- `llm_call`: asks a language model once; where JSON is wanted, once more if it did not come.

-- The schema that an answer must have, or "object" for any JSON object, and how it is called.
local function wanted(format)
  if format == nil or format == json.null or format == "text" then return nil end
  if format == "json" or format == "json_object" then return "object" end
  if type(format) == "string" then return nil, "`response_format` is `json`, `text` or a JSON Schema, not `" .. format .. "`" end
  if format.type == "text" then return nil end
  if format.type == "json_object" or (format.type == "json" and not format.schema) then return "object" end
  if format.type == "json_schema" or format.type == "json" then
    local inner = format.json_schema or format
    return inner.schema or inner, nil, inner.name, inner.strict
  end
  return format
end

-- The part of an answer that may be JSON: what is fenced, else what is between the outermost brackets. Each search goes over
-- the text once, whatever a model wrote.
local function inner(text)
  local _, fence = string.find(text, "```", 1, true)
  if fence then
    local start = string.match(text, "^%w*()", fence + 1)
    local stop = string.find(text, "```", start, true)
    return string.sub(text, start, stop and stop - 1 or #text)
  end
  local start, back = string.find(text, "[{%[]"), string.find(string.reverse(text), "[}%]]")
  return start and back and string.sub(text, start, #text - back + 1) or nil
end

-- The value in an answer, or nothing and what is wrong with it.
local function value_in(text, schema)
  local ok, value = pcall(json.decode, text)
  if not ok then
    local part = inner(text)
    if part then ok, value = pcall(json.decode, part) end
  end
  if not ok then return nil, "it is not JSON" end
  if schema == "object" then
    if type(value) ~= "table" then return nil, "it is no JSON object" end
    return value
  end
  local checked = host.call("schema.check", { schema = schema, value = value })
  if not checked.valid then return nil, table.concat(checked.problems, "; ") end
  return value
end

local params = type(call.params) == "table" and call.params or {}
local schema, refused, name, strict = wanted(call.response_format)
if refused then return { error = { code = "INVALID_INPUT", message = refused } } end

local at, failed = models.at({ model = call.model, credential = call.credential, scope = call.scope }, params)
if not at then return { error = failed } end

local tools
if type(params.tools) == "table" then
  -- In the form of OpenAI's chat, whoever the vendor is.
  tools = {}
  for i, tool in ipairs(params.tools) do
    local it = tool["function"] or tool
    tools[i] = { name = it.name, description = it.description, schema = it.parameters or it.input_schema or { type = "object" } }
  end
  params.tools = nil
end

local ask = {
  system = call.system, messages = models.conversation(call.prompt), params = params, tools = tools,
  format = schema, format_name = name or "answer", strict = strict,
}
local account = models.account()
local found, value, problem
for attempt = 1, 2 do
  found, failed = models.ask(at, ask, account)
  if not found then return { error = failed } end
  if not schema or #found.tool_calls > 0 then break end
  value, problem = value_in(found.text, schema)
  if not problem then break end
  if attempt == 1 then
    local messages = { table.unpack(ask.messages) }
    messages[#messages + 1] = { role = "assistant", content = found.text ~= "" and found.text or "(nothing)" }
    messages[#messages + 1] = {
      role = "user",
      content = "That does not fit what was asked for: " .. problem .. ". Answer again, with the JSON alone.",
    }
    ask.messages = messages
  end
end

if problem then
  local details = { text = string.sub(found.text, 1, 2000), finish_reason = found.reason, model = found.model }
  for key, count in pairs(account) do details[key] = count end
  return { error = { code = "LLM_REQUEST_FAILED", message = "the model's answer does not fit `response_format`, also when it was asked again: " .. problem, details = details } }
end
local result = {
  model = found.model, text = found.text, json = value, finish_reason = found.reason, refusal = found.refusal,
  tokens_in = account.tokens_in, tokens_out = account.tokens_out, latency_ms = account.latency_ms,
}
if #found.tool_calls > 0 then result.tool_calls = found.tool_calls end
return { result = result }
