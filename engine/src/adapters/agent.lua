-- `agent_call`: lets a language model work with the tools that its step was granted, turn by turn. Each question to the model and
-- each call of a tool is a request of the step, so that what was done is not done again.

local TURNS_DEFAULT = 10
-- So much of what a tool says is shown to the model; all of it is in the events.
local SAID_BYTES_MAX = 64 * 1024

local params = type(call.params) == "table" and call.params or {}
local turns_max = call.max_turns or TURNS_DEFAULT

local function failure(reply)
  if type(reply) ~= "table" or not reply.code then error(reply, 0) end
  return { code = reply.code, message = reply.message, details = reply.details }
end

-- The place of a tool as a request names it.
local function at_server(tool)
  if tool.instance_id then return { instance_id = tool.instance_id } end
  return { server_url = tool.server_url }
end

-- A name as models take it, and no other tool's.
local function exposed(name, taken)
  local plain = string.sub(string.gsub(name, "[^%w_-]", "_"), 1, 60)
  local unique, number = plain, 2
  while taken[unique] do unique, number = plain .. "_" .. number, number + 1 end
  return unique
end

-- What the entries for one tool say of its calls, for the model: it would find out by being refused. The host sees to it.
local function on_terms(entries)
  local rules, asks = {}, true
  for _, entry in ipairs(entries) do
    if type(entry.arguments) == "table" then rules[#rules + 1] = json.encode(entry.arguments) end
    asks = asks and entry.requires_approval == true
  end
  local said = ""
  if #rules == #entries then said = "\n\nArguments must also satisfy: " .. table.concat(rules, ", or ") end
  if asks then said = said .. "\n\nA person is asked before each call." end
  return said
end

local tools, by_name = json.array{}, {}
local asked, entries_of, at_key = {}, {}, {}
for _, tool in ipairs(call.tools or {}) do
  local key = json.encode({ tool.instance_id or json.null, tool.server_url or json.null, tool.tool_name })
  local known = at_key[key]
  if known then
    table.insert(entries_of[known], tool)
  else
    local wanted = at_server(tool)
    wanted.tool = tool.tool_name
    asked[#asked + 1] = { "mcp.describe", wanted }
    entries_of[#asked], at_key[key] = { tool }, #asked
  end
end
if #asked > 0 then
  for i, described in ipairs(host.settle(asked)) do
    if not described.ok then return { error = failure(described.error) } end
    local tool = entries_of[i][1]
    local name = exposed(tool.tool_name, by_name)
    by_name[name] = tool
    local said = on_terms(entries_of[i])
    local description = described.value.description
    if said ~= "" then description = (type(description) == "string" and description or "") .. said end
    tools[i] = { name = name, description = description, schema = described.value.input_schema }
  end
end

local at, failed = models.at({ model = call.model, credential = call.credential, scope = call.scope }, params)
if not at then return { error = failed } end

-- Failures of which a model is told no more: they name addresses and remedies that are for whoever looks after the workflow, and
-- the events have them.
local FOR_OPERATORS = {
  UPSTREAM_ERROR = "the tool did not answer as it should; it may work later",
  DEPENDENCY_UNAVAILABLE = "the tool cannot be used now; it may work later",
  MCP_AUTHORIZATION_REQUIRED = "the tool cannot be used: somebody has to allow it first",
}

-- What a tool says, as text. It is data, whoever wrote it.
local function said(outcome)
  if not outcome.ok then return FOR_OPERATORS[outcome.error.code] or outcome.error.message, true end
  local reply, found = outcome.value, {}
  if reply.structured_content ~= nil and reply.structured_content ~= json.null then
    found[1] = json.encode(reply.structured_content)
  else
    for _, block in ipairs(reply.content or {}) do
      found[#found + 1] = block.type == "text" and block.text or json.encode({ type = block.type, left_out = true })
    end
  end
  local text = table.concat(found, "\n")
  if #text > SAID_BYTES_MAX then text = string.sub(text, 1, SAID_BYTES_MAX) .. "\n(cut off here)" end
  return text, reply.is_error
end

local ask = {
  system = call.system, messages = models.conversation(call.input), params = params, tools = #tools > 0 and tools or nil,
}
local account, log = models.account(), json.array{}

local function ended(turns, more)
  local ending = { turns = turns, tool_calls = log, tokens_in = account.tokens_in, tokens_out = account.tokens_out, latency_ms = account.latency_ms }
  for name, value in pairs(more) do ending[name] = value end
  return ending
end

-- Carries out what the model asked for, all at once, and gives what it is told, in the order in which it asked.
local function carry_out(calls, turn)
  local messages, requests, at_request = {}, {}, {}
  for i, wanted in ipairs(calls) do
    local tool, problem = by_name[wanted.name], nil
    if not tool then
      problem = "there is no tool `" .. tostring(wanted.name) .. "`"
    elseif wanted.malformed then
      problem = "the arguments are not a JSON object"
    else
      local request = at_server(tool)
      request.tool, request.arguments = tool.tool_name, wanted.arguments
      requests[#requests + 1] = { "mcp.call", request }
      at_request[i] = #requests
    end
    messages[i] = { role = "tool", tool_call_id = wanted.id, name = wanted.name, content = problem, is_error = problem ~= nil }
  end
  local outcomes = #requests > 0 and host.settle(requests) or {}
  for i, wanted in ipairs(calls) do
    local outcome = outcomes[at_request[i]]
    if outcome then
      local content, is_error = said(outcome)
      messages[i].content, messages[i].is_error = content, is_error
    end
    log[#log + 1] = { turn = turn, name = wanted.name, arguments = wanted.arguments, ok = not messages[i].is_error }
  end
  return messages
end

for turn = 1, turns_max do
  local found
  found, failed = models.ask(at, ask, account)
  if not found then
    failed.details = ended(turn, type(failed.details) == "table" and failed.details or {})
    return { error = failed }
  end
  if #found.tool_calls == 0 then
    return { result = ended(turn, { text = found.text, model = found.model, finish_reason = found.reason, refusal = found.refusal }) }
  end
  if call.token_budget and account.tokens_in + account.tokens_out >= call.token_budget then
    local message = "the agent used its `token_budget` of " .. call.token_budget .. " tokens before it came to an end"
    return { error = { code = "LLM_REQUEST_FAILED", message = message, details = ended(turn, { text = found.text }) } }
  end
  ask.messages[#ask.messages + 1] = { role = "assistant", content = found.text, tool_calls = found.tool_calls }
  for _, message in ipairs(carry_out(found.tool_calls, turn)) do ask.messages[#ask.messages + 1] = message end
end

local message = "the agent did not come to an end within its `max_turns` of " .. turns_max
return { error = { code = "LLM_REQUEST_FAILED", message = message, details = ended(turns_max, {}) } }
