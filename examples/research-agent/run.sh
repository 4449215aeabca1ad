#!/bin/sh
# Answers a question from a made-up web, with stand-ins for the model and the MCP server: no key, no account, no network.
# What follows the command goes to `agentruntime run`; INPUT=FILE takes another start payload.
set -eu
here=$(dirname "$0")
. "$here/../stand-ins/start.sh"

sed "s|https://mcp.example.com|$stand_ins|" "${INPUT:-$here/input.json}" |
  agentruntime run "$here/workflow.json" --input - --providers "$providers" --allow-network 127.0.0.0/8 "$@"
