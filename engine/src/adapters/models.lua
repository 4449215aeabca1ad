-- Language models, whatever their vendor: from a conversation to the body that a vendor wants, and back.
--
-- A conversation is a list of messages in the form of OpenAI's chat: { role, content }, where content is a text or a list of
-- parts; an assistant's message may hold `tool_calls`, each { id, name, arguments }; a message of the role `tool` answers one.

local models = {}

local function is_list(value)
  return type(value) == "table" and (#value > 0 or next(value) == nil)
end

local function given(value)
  if value == json.null then return nil end
  return value
end

-- The parts of a message: { text = … } or { url = … } for an image.
local function parts(content)
  content = given(content)
  if content == nil then return {} end
  if type(content) ~= "table" then return { { text = tostring(content) } } end
  local found = {}
  for _, part in ipairs(content) do
    if type(part) == "string" then
      found[#found + 1] = { text = part }
    elseif part.type == "text" or part.type == "input_text" or part.text then
      found[#found + 1] = { text = part.text }
    elseif part.type == "image_url" or part.type == "input_image" or part.type == "image" then
      local image = part.image_url or part.url
      found[#found + 1] = { url = type(image) == "table" and image.url or image }
    else
      error({ refused = "a part of a message is neither a text nor an image: " .. json.encode(part) })
    end
  end
  return found
end

local function text(content)
  local found = {}
  for _, part in ipairs(parts(content)) do found[#found + 1] = part.text end
  return table.concat(found, "\n")
end

-- `data:image/png;base64,…` as its type and its data.
local function data_url(url)
  return url:match("^data:([^;,]+);base64,(.*)$")
end

local function map(list, each)
  local made = json.array{}
  for _, item in ipairs(list or {}) do
    local one = each(item)
    if one ~= nil then made[#made + 1] = one end
  end
  return made
end

-- What the system says: the step's own setting, then what the conversation holds of it. The rest is the conversation.
local function split(ask)
  local system, rest = {}, {}
  if given(ask.system) and ask.system ~= "" then system[1] = text(ask.system) end
  for _, message in ipairs(ask.messages) do
    if message.role == "system" or message.role == "developer" then
      system[#system + 1] = text(message.content)
    else
      rest[#rest + 1] = message
    end
  end
  return #system > 0 and table.concat(system, "\n\n") or nil, rest
end

local function merged(body, params, names)
  for name, value in pairs(params or {}) do
    name = names and names[name] or name
    if body[name] == nil then body[name] = value end
  end
  return body
end

-- What a model gave as arguments may be no object, and is then said to be none.
local function arguments(encoded)
  if type(encoded) == "table" then return encoded end
  local ok, decoded = pcall(json.decode, encoded or "")
  if ok and type(decoded) == "table" then return decoded end
  return {}, encoded
end

-- What a vendor promises to send; without it, nothing of an answer is believed.
local function promised(value)
  assert(type(value) == "table")
  return value
end

-- What came back, in one form for all vendors.
local function answer()
  return { text = {}, tool_calls = json.array{} }
end

local function add_call(found, id, name, encoded)
  local decoded, raw = arguments(encoded)
  found.tool_calls[#found.tool_calls + 1] = { id = id or ("call_" .. #found.tool_calls + 1), name = name, arguments = decoded, malformed = raw }
end

-- OpenAI's chat/completions
models.chat = {}

function models.chat.body(ask)
  local system, rest = split(ask)
  local messages = map(rest, function(message)
    if message.role == "tool" then
      return { role = "tool", tool_call_id = message.tool_call_id, content = text(message.content) }
    elseif message.tool_calls then
      return { role = "assistant", content = given(message.content) or json.null, tool_calls = map(message.tool_calls, function(one)
        return { id = one.id, type = "function", ["function"] = { name = one.name, arguments = json.encode(one.arguments) } }
      end) }
    end
    local content = message.content
    if type(content) == "table" then
      content = map(parts(content), function(part)
        return part.url and { type = "image_url", image_url = { url = part.url } } or { type = "text", text = part.text }
      end)
    end
    return { role = message.role, content = content }
  end)
  if system then table.insert(messages, 1, { role = "system", content = system }) end
  local body = { messages = messages }
  if ask.tools then
    body.tools = map(ask.tools, function(tool)
      return { type = "function", ["function"] = { name = tool.name, description = tool.description, parameters = tool.schema } }
    end)
  end
  if ask.format == "object" then
    body.response_format = { type = "json_object" }
  elseif ask.format then
    body.response_format = { type = "json_schema", json_schema = { name = ask.format_name, schema = ask.format, strict = ask.strict } }
  end
  return merged(body, ask.params)
end

function models.chat.read(reply)
  local found = answer()
  local choice = promised(promised(reply.choices)[1])
  local message = promised(choice.message)
  found.text[1] = given(message.content) and text(message.content) or nil
  for _, one in ipairs(given(message.tool_calls) or {}) do
    add_call(found, one.id, one["function"].name, one["function"].arguments)
  end
  local usage = given(reply.usage) or {}
  found.tokens_in, found.tokens_out = usage.prompt_tokens, usage.completion_tokens
  found.reason, found.refusal = given(choice.finish_reason), given(message.refusal)
  return found
end

-- OpenAI's responses
models.responses = {}

function models.responses.body(ask)
  local system, rest = split(ask)
  local input = json.array{}
  for _, message in ipairs(rest) do
    if message.role == "tool" then
      input[#input + 1] = { type = "function_call_output", call_id = message.tool_call_id, output = text(message.content) }
    else
      local kind = message.role == "assistant" and "output_text" or "input_text"
      local content = map(parts(message.content), function(part)
        return part.url and { type = "input_image", image_url = part.url } or { type = kind, text = part.text }
      end)
      if #content > 0 then input[#input + 1] = { role = message.role, content = content } end
      for _, one in ipairs(message.tool_calls or {}) do
        input[#input + 1] = { type = "function_call", call_id = one.id, name = one.name, arguments = json.encode(one.arguments) }
      end
    end
  end
  local body = { input = input, instructions = system, store = false }
  if ask.tools then
    body.tools = map(ask.tools, function(tool)
      return { type = "function", name = tool.name, description = tool.description, parameters = tool.schema, strict = false }
    end)
  end
  if ask.format == "object" then
    body.text = { format = { type = "json_object" } }
  elseif ask.format then
    body.text = { format = { type = "json_schema", name = ask.format_name, schema = ask.format, strict = ask.strict } }
  end
  return merged(body, ask.params, { max_tokens = "max_output_tokens" })
end

function models.responses.read(reply)
  local found = answer()
  for _, item in ipairs(promised(reply.output)) do
    if item.type == "function_call" then
      add_call(found, item.call_id, item.name, item.arguments)
    elseif item.type == "message" then
      for _, part in ipairs(item.content or {}) do
        if part.type == "output_text" then found.text[#found.text + 1] = part.text end
        if part.type == "refusal" then found.refusal = part.refusal end
      end
    end
  end
  local usage = given(reply.usage) or {}
  found.tokens_in, found.tokens_out = usage.input_tokens, usage.output_tokens
  found.reason = given(reply.status)
  return found
end

-- Anthropic's messages
models.messages = {}

-- What an answer may have where nothing else is said: the vendor wants to be told.
local MAX_TOKENS = 4096
-- The tool by which an answer in JSON is given.
local ANSWER = "answer"

function models.messages.body(ask)
  local system, rest = split(ask)
  local messages = json.array{}
  local function push(role, content)
    local last = messages[#messages]
    if last and last.role == role then
      for _, block in ipairs(content) do last.content[#last.content + 1] = block end
    elseif #content > 0 then
      messages[#messages + 1] = { role = role, content = content }
    end
  end
  for _, message in ipairs(rest) do
    if message.role == "tool" then
      push("user", json.array{ { type = "tool_result", tool_use_id = message.tool_call_id, content = text(message.content), is_error = message.is_error } })
    else
      local content = map(parts(message.content), function(part)
        if part.text then return part.text ~= "" and { type = "text", text = part.text } or nil end
        local kind, data = data_url(part.url)
        local source = kind and { type = "base64", media_type = kind, data = data } or { type = "url", url = part.url }
        return { type = "image", source = source }
      end)
      for _, one in ipairs(message.tool_calls or {}) do
        content[#content + 1] = { type = "tool_use", id = one.id, name = one.name, input = one.arguments }
      end
      push(message.role, content)
    end
  end
  local body = { messages = messages, system = system }
  if ask.tools or (ask.format and ask.format ~= "object") then
    body.tools = map(ask.tools, function(tool)
      return { name = tool.name, description = tool.description, input_schema = tool.schema }
    end)
  end
  if ask.format and ask.format ~= "object" then
    body.tools[#body.tools + 1] = { name = ANSWER, description = "Gives the answer.", input_schema = ask.format }
    if not ask.tools then body.tool_choice = { type = "tool", name = ANSWER } end
  elseif ask.format then
    body.system = (system and system .. "\n\n" or "") .. "Answer with one JSON object and nothing else."
  end
  merged(body, ask.params, { stop = "stop_sequences" })
  body.max_tokens = body.max_tokens or MAX_TOKENS
  return body
end

function models.messages.read(reply, ask)
  local found = answer()
  for _, block in ipairs(promised(reply.content)) do
    if block.type == "text" then
      found.text[#found.text + 1] = block.text
    elseif block.type == "tool_use" and block.name == ANSWER and ask.format then
      found.text = { json.encode(block.input) }
    elseif block.type == "tool_use" then
      add_call(found, block.id, block.name, block.input)
    end
  end
  local usage = given(reply.usage) or {}
  found.tokens_in, found.tokens_out = usage.input_tokens, usage.output_tokens
  found.reason = given(reply.stop_reason)
  return found
end

-- Google's generateContent
models.generate = {}

local GOOGLE_NAMES = {
  max_tokens = "maxOutputTokens", max_output_tokens = "maxOutputTokens", top_p = "topP", top_k = "topK", stop = "stopSequences",
}

function models.generate.body(ask)
  local system, rest = split(ask)
  local contents = json.array{}
  for _, message in ipairs(rest) do
    local role = (message.role == "assistant") and "model" or "user"
    local made
    if message.role == "tool" then
      made = json.array{ { functionResponse = { name = message.name, response = { result = text(message.content) } } } }
    else
      made = map(parts(message.content), function(part)
        if part.text then return part.text ~= "" and { text = part.text } or nil end
        local kind, data = data_url(part.url)
        if kind then return { inlineData = { mimeType = kind, data = data } } end
        return { fileData = { fileUri = part.url } }
      end)
      for _, one in ipairs(message.tool_calls or {}) do
        made[#made + 1] = { functionCall = { name = one.name, args = one.arguments } }
      end
    end
    if #made > 0 then contents[#contents + 1] = { role = role, parts = made } end
  end
  local config = merged({}, ask.params, GOOGLE_NAMES)
  if ask.format then
    config.responseMimeType = "application/json"
    if ask.format ~= "object" then config.responseJsonSchema = ask.format end
  end
  local body = { contents = contents, generationConfig = config }
  if system then body.systemInstruction = { parts = json.array{ { text = system } } } end
  if ask.tools then
    body.tools = json.array{ { functionDeclarations = map(ask.tools, function(tool)
      return { name = tool.name, description = tool.description, parametersJsonSchema = tool.schema }
    end) } }
  end
  return body
end

function models.generate.read(reply)
  local found = answer()
  -- Where the prompt was refused there is no candidate.
  local candidate = reply.promptFeedback and {} or promised(promised(reply.candidates)[1])
  for _, part in ipairs((candidate.content or {}).parts or {}) do
    if part.functionCall then
      add_call(found, nil, part.functionCall.name, part.functionCall.args)
    elseif part.text and not part.thought then
      found.text[#found.text + 1] = part.text
    end
  end
  local usage = given(reply.usageMetadata) or {}
  found.tokens_in = usage.promptTokenCount
  found.tokens_out = (usage.candidatesTokenCount or 0) + (usage.thoughtsTokenCount or 0)
  found.reason = given(candidate.finishReason) or (reply.promptFeedback or {}).blockReason
  return found
end

-- What a model that failed said about it: each vendor puts it under `error`.
local function failure(reply, account)
  if type(reply) ~= "table" or not reply.code then error(reply, 0) end
  local details = given(reply.details) or {}
  local failed = { code = reply.code, message = reply.message, details = { status = details.status, attempts = details.attempts } }
  local ok, body = pcall(json.decode, details.body or "")
  local said
  if ok and type(body) == "table" then
    said = given(body.error) or type(body[1]) == "table" and given(body[1].error) or nil
  end
  if type(said) == "table" then
    local message = type(said.message) == "string" and said.message or json.encode(said)
    failed.message = failed.message .. ": " .. string.sub(message, 1, 500)
    for _, name in ipairs({ "code", "type", "status" }) do
      local code = said[name]
      if failed.details.vendor_code == nil and (type(code) == "string" or type(code) == "number") then
        failed.details.vendor_code = code
      end
    end
  elseif type(said) == "string" then
    failed.message = failed.message .. ": " .. string.sub(said, 1, 500)
  elseif details.body and details.body ~= "" then
    failed.message = failed.message .. ": " .. string.sub(details.body, 1, 200)
  end
  for name, value in pairs(account) do failed.details[name] = value end
  return failed
end

-- An account of what the requests of a step used, those that failed too.
function models.account()
  return { tokens_in = 0, tokens_out = 0, latency_ms = 0 }
end

-- Asks once. Gives what came back, or nothing and a failure.
function models.ask(at, ask, account)
  local style = models[at.operation]
  local prepared, body = pcall(style.body, ask)
  if not prepared then
    if type(body) == "table" and body.refused then return nil, { code = "INVALID_INPUT", message = body.refused } end
    error(body, 0)
  end
  local ok, reply = pcall(host.call, "llm.request", { model = at.grant, operation = at.operation, body = body, stream = at.stream })
  if not ok then
    local details = type(reply) == "table" and given(reply.details) or {}
    account.latency_ms = account.latency_ms + (details.duration_ms or 0)
    return nil, failure(reply, account)
  end
  account.latency_ms = account.latency_ms + reply.duration_ms
  local decoded, said = pcall(json.decode, reply.body or "")
  local read, found = false, nil
  if decoded and type(said) == "table" then
    read, found = pcall(function()
      local answer = style.read(said, ask)
      answer.text = table.concat(answer.text, "")
      return answer
    end)
  end
  if not read then
    local message = "the model's answer is not in the form that its vendor promises: " .. string.sub(reply.body or "", 1, 200)
    return nil, { code = "LLM_REQUEST_FAILED", message = message, details = account }
  end
  -- More than any model reads is a lie, and a lie must not upset the account.
  local function tokens(count)
    return math.type(count) == "integer" and count >= 0 and count <= 1 << 32 and count or 0
  end
  account.tokens_in = account.tokens_in + tokens(found.tokens_in)
  account.tokens_out = account.tokens_out + tokens(found.tokens_out)
  found.model = type(said.model) == "string" and said.model or at.model
  return found
end

-- Where a model is asked. Gives nothing and a failure where nobody can be asked.
function models.at(grant, params)
  local ok, at = pcall(host.call, "llm.resolve", grant)
  if not ok then
    if type(at) ~= "table" or not at.code then error(at, 0) end
    return nil, { code = at.code, message = at.message, details = given(at.details) }
  end
  local wanted = params and params.api
  at.grant, at.operation = grant, at.operations[1]
  for _, operation in ipairs(at.operations) do
    if operation == wanted then at.operation = wanted end
  end
  local stream = params and given(params.stream)
  if stream ~= nil and type(stream) ~= "boolean" then
    return nil, { code = "INVALID_INPUT", message = "`stream` in `llm_params` is true or false, not " .. json.encode(stream) }
  end
  -- Nothing instead of false, so that a step that does not stream asks as it always did.
  at.stream = stream or nil
  if params then params.api, params.stream = nil, nil end
  return at
end

-- The messages of a prompt.
function models.conversation(prompt)
  if type(prompt) == "table" and is_list(prompt) then return prompt end
  if type(prompt) == "table" then prompt = json.encode(prompt) end
  return { { role = "user", content = prompt } }
end
