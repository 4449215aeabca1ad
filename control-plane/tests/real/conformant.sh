#!/bin/sh
# The client that the conformance suite of MCP tries: calls the tool $TOOL with $ARGUMENTS in a local run of $AGENTRUNTIME. The
# suite gives the server's address as the last argument, and judges what it saw: a call may be refused.
for url; do :; done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/graph.json" <<GRAPH
{ "name": "conformant", "steps": [{ "id": "call", "type": "lua_script", "timeout_s": 30,
  "capabilities": { "tools": [{ "server_url": "$url", "tools": ["$TOOL"] }] },
  "script": "return { called = pcall(host.call, 'mcp.call', input) }" }] }
GRAPH
input="{ \"server_url\": \"$url\", \"tool\": \"$TOOL\", \"arguments\": $ARGUMENTS }"
AGENTRUNTIME_DATA="$folder/data" "$AGENTRUNTIME" run "$folder/graph.json" --input "$input" \
  --allow-network 127.0.0.0/8 --allow-network ::1/128 --json
