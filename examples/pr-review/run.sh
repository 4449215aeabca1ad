#!/bin/sh
# Reviews a made-up pull request with stand-ins for the model and the MCP server: no key, no account, no network.
# What follows the command goes to `agentruntime run`; INPUT=FILE takes another start payload.
set -eu
here=$(dirname "$0")
. "$here/../stand-ins/start.sh"

sed "s|https://mcp.example.com|$stand_ins|" "${INPUT:-$here/input.json}" |
  agentruntime run "$here/workflow.json" --input - --answer approve='{"approved": true}' \
    --providers "$providers" --allow-network 127.0.0.0/8 "$@"
