-- `mcp_call`: calls a tool. What it says is data.

-- The step's own time ends it.
call.timeout_s = 600
local ok, reply = pcall(host.call, "mcp.call", call)
if not ok then
  if type(reply) ~= "table" or not reply.code then error(reply, 0) end
  return { error = { code = reply.code, message = reply.message, details = reply.details } }
end

local texts = {}
for _, block in ipairs(reply.content or {}) do
  if block.type == "text" then texts[#texts + 1] = block.text end
end
local text = table.concat(texts, "\n")

if reply.is_error then
  local said = text ~= "" and string.sub(text, 1, 2000) or "it did not say why"
  return { error = { code = "MCP_TOOL_FAILED", message = "the tool `" .. call.tool .. "` failed: " .. said, details = { content = reply.content } } }
end
if reply.structured_content ~= nil and reply.structured_content ~= json.null then
  return { result = reply.structured_content }
end
local decoded, value = pcall(json.decode, text)
if decoded then return { result = value } end
return { result = { text = text, content = reply.content } }
