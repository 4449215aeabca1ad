# Stand-ins for the vendors of language models, by somebody who tests clients with them, on a free port of this machine alone.
# Prints its address as a line of JSON.
import json
import os
import socket
import sys
import threading

import uvicorn
from llmock.main import create_app

listening = socket.socket()
listening.bind(("127.0.0.1", 0))
port = listening.getsockname()[1]
# It ends with whoever started it.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
listening.listen()
print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
server = uvicorn.Server(uvicorn.Config(create_app(), log_level="critical"))
server.run(sockets=[listening])
