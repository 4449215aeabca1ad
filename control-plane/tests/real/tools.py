# A server of MCP made with the project's own Python package, which speaks the revision 2026-07-28, on a free port of this
# machine alone. Prints its address as a line of JSON.
import asyncio
import json
import os
import socket
import sys
import threading

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

server = MCPServer("tools", log_level="CRITICAL")


class Total(BaseModel):
    total: int
    lines: list[str]


@server.tool()
def add_up(prices: list[int], currency: str = "EUR") -> Total:
    """Adds up prices."""
    return Total(total=sum(prices), lines=[f"{price} {currency}" for price in prices])


@server.tool()
def fails(reason: str) -> str:
    """Fails."""
    raise ToolError(reason)


listening = socket.socket()
listening.bind(("127.0.0.1", 0))
port = listening.getsockname()[1]
# It ends with whoever started it.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
listening.listen()
print(json.dumps({"url": f"http://127.0.0.1:{port}/mcp"}), flush=True)
config = uvicorn.Config(server.streamable_http_app(stateless_http=True), log_level="critical")
asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
