#!/bin/sh
# Looks made-up leads up with stand-ins for the directory and the model: no key, no account, no network.
# What follows the command goes to `agentruntime run`; INPUT=FILE takes another start payload.
set -eu
here=$(dirname "$0")
. "$here/../stand-ins/start.sh"

# Where a script may send requests is part of the graph, so here the graph is a copy with the stand-in's address.
sed "s|https://api.hunter.io|$stand_ins|g" "$here/workflow.json" |
  agentruntime run - --input "@${INPUT:-$here/input.json}" --secrets "@$here/../stand-ins/secrets.json" \
    --providers "$providers" --allow-network 127.0.0.0/8 "$@"
